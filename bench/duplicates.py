"""Near duplicates in real text: what is found of planted copies and of natural ones, and what it costs.

    python bench/duplicates.py [--megabytes 50] [--seeds 3] [--signatures 2000000] [--rival PYTHON]

The text is the Python standard library and the installed packages (code and documentation), cut at 20,000 characters.

* **Planted**: of texts that have nothing alike among them (an exact join of all pairs, by a sparse matrix product,
  says so) copies are made with 0.5, 1, 2 and 3 % of their words replaced, left out or put in, at random places; also
  with each word changed by a chance of 3 %, so that some copies have more; and decoys with 15 and 30 % changed.
  Recall: copies at 0.5 to 3 % that are found; precision: what is found and is a copy (5 to 10 % changed is neither
  wanted nor wrong, and shown). Texts have 34 words or more, so that one changed word is at most 3 %. FineWeb's banding
  stands beside ours.
* **Natural**: the same text as it is, against all pairs of the exact join.
* **Rival**: with the interpreter of an environment that has datasketch, the planted texts of seed 0 by both.
* **Cost**: megabytes for each CPU second of one process, stage by stage; and bytes of memory at millions of signatures,
  whose bands are joined on disk.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse, stats

from volant.modalities import minhash
from volant.modalities.banding import candidate_pairs
from volant.modalities.duplicates import Clusters, near_clusters, shingles_at, text_clusters
from volant.modalities.linking import clusters, equal_shares, jaccards
from volant.modalities.shingle_sets import shingle_sets
from volant.modalities.text_features import word_hashes

RATES = ("0.5 %", "1 %", "2 %", "3 %")
BEYOND = ("3 % by chance", "5 %", "7 %", "10 %")  # neither wanted nor wrong
DECOYS = ("15 %", "30 %")
KINDS = (*RATES, *BEYOND, *DECOYS)
BARS = {"recall": 0.97, "precision": 0.97}
FEWEST = 34
_WORD = re.compile(r"\w+")


def texts_of(megabytes: float) -> list[str]:
    """Code and documentation of the installed Python, in a fixed order."""
    roots = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib")]
    files = {f for root in roots for suffix in ("py", "rst", "md", "txt") for f in root.rglob(f"*.{suffix}")}
    order = sorted(files)
    random.Random(0).shuffle(order)
    found: list[str] = []
    size = 0
    for file in order:
        try:
            text = file.read_text("utf-8")[:20_000]
        except (OSError, UnicodeDecodeError):
            continue
        if len(_WORD.findall(text)) >= FEWEST:
            found.append(text)
            size += len(text.encode())
        if size >= megabytes * 1e6:
            break
    return found


def edited(text: str, kind: str, dice: random.Random) -> str:
    """The text with a share of its words replaced (60 %), left out or put in (20 % each); `kind` is one of `KINDS`."""
    rate = float(kind.split()[0]) / 100
    parts = re.split(r"(\w+)", text)  # words stand at odd places
    places = range(1, len(parts), 2)
    own = [parts[at] for at in places]
    chosen = [at for at in places if dice.random() < rate] if "chance" in kind else []
    for at in chosen or dice.sample(places, max(1, int(rate * len(own)))):
        way, other = dice.random(), dice.choice(own) + dice.choice("abcdef")
        parts[at] = other if way < 0.6 else "" if way < 0.8 else f"{parts[at]} {other}"
    return "".join(parts)


def all_pairs(texts: Sequence[str], least: float) -> tuple[np.ndarray, np.ndarray]:
    """Every pair (i < j) of at least that similarity, by a product of sparse matrices: nothing is estimated."""
    sets = list(shingle_sets(word_hashes(texts)))
    sizes = np.array([len(s) for s in sets])
    names, columns = np.unique(np.concatenate(sets), return_inverse=True)
    matrix = sparse.csr_matrix(
        (np.ones(len(columns), np.int32), columns, np.concatenate([[0], np.cumsum(sizes)])), (len(sets), len(names))
    )
    pairs, likeness = [], []
    for first in range(0, len(sets), 500):
        product = (matrix[first : first + 500] @ matrix.T).tocoo()
        i, j, common = product.row + first, product.col, product.data
        share = common / (sizes[i] + sizes[j] - common)
        held = (i < j) & (share >= least)
        pairs.append(np.stack([i[held], j[held]], 1))
        likeness.append(share[held])
    return np.concatenate(pairs), np.concatenate(likeness)


def joined(signature_NP: Any, texts: Sequence[str], bands: int, rows: int) -> Clusters:
    """As `near_clusters`, with another banding."""
    pair_M2 = candidate_pairs(signature_NP, bands, rows)
    pair_M2 = pair_M2[equal_shares(signature_NP, pair_M2) >= minhash.NEAR - 0.15]
    sets = list(shingle_sets(word_hashes(texts)))
    edges = np.concatenate([[0], np.cumsum([len(s) for s in sets])])
    share = jaccards(np.concatenate(sets), edges[:-1], edges[1:], pair_M2[:, 0].copy(), pair_M2[:, 1].copy())
    held = share >= np.float32(minhash.NEAR)
    return Clusters(clusters(pair_M2[held], len(texts)), pair_M2[held], share[held])


@dataclass(frozen=True)
class Planted:
    """Texts of which some are edited copies: the kind of each, and which text it was made of."""

    texts: list[str]
    kinds: list[str]
    origin: list[int]

    def judged(self, first_N: Sequence[int], name: str) -> dict[str, float]:
        """Recall of each kind, recall and precision over all, of clusters told by the first text of each."""
        dropped = [i for i, first in enumerate(first_N) if first != i]
        right = [i for i in dropped if self.origin[first_N[i]] == self.origin[i]]
        figures = {
            f"{name}found {kind}": sum(self.kinds[i] == kind for i in right) / self.kinds.count(kind) for kind in KINDS
        }
        copies = sum(self.kinds[i] in RATES for i in right)
        beyond = sum(self.kinds[i] in BEYOND for i in right)
        figures[f"{name}recall"] = copies / sum(k in RATES for k in self.kinds)
        figures[f"{name}precision"] = copies / (len(dropped) - beyond)
        return figures


def planted(base: Sequence[str], seed: int) -> Planted:
    """Every text with two edited copies."""
    dice = random.Random(seed)
    kinds, texts = ["base"] * len(base), list(base)
    for place, text in enumerate(base):
        for kind in (KINDS[place % len(KINDS)], KINDS[(place + 3) % len(KINDS)]):
            kinds.append(kind)
            texts.append(edited(text, kind, dice))
    return Planted(texts, kinds, [*range(len(base)), *(i for i in range(len(base)) for _ in range(2))])


def found(base: Sequence[str], seed: int) -> dict[str, float]:
    """What our banding and FineWeb's find of one draw of edits."""
    made = planted(base, seed)
    ours = text_clusters(made.texts, minhash.NEAR).first_N.tolist()
    fineweb = joined(minhash.signatures(word_hashes(made.texts)), made.texts, 14, 8).first_N.tolist()
    return {**made.judged(ours, ""), **made.judged(fineweb, "14x8 ")}


def rival(base: Sequence[str], python: str) -> dict[str, float]:
    """Both sides on one draw of edits: what is found, and megabytes for each CPU second."""
    made = planted(base, 0)
    size = sum(len(text.encode()) for text in made.texts) / 1e6
    call = [python, str(Path(__file__).with_name("duplicates_rival.py")), str(minhash.NEAR)]
    told = json.loads(subprocess.run(call, input=json.dumps(made.texts), text=True, stdout=-1, check=True).stdout)
    start = time.process_time()
    text_clusters(made.texts, minhash.NEAR)
    ours = time.process_time() - start
    rates = {"datasketch MB/s": size / told["seconds"], "MB/s on the same": size / ours}
    return {**made.judged(told["first"], "datasketch "), **rates, "times as fast": told["seconds"] / ours}


def natural(texts: Sequence[str], pairs: np.ndarray, likeness: np.ndarray) -> dict[str, float]:
    """Pairs of the exact join that end in one cluster, and pairs that hold and are in the join."""
    clustered = text_clusters(texts, minhash.NEAR)
    near = pairs[likeness >= minhash.NEAR]
    together = clustered.first_N[near[:, 0]] == clustered.first_N[near[:, 1]]
    known = {(int(i), int(j)) for i, j in near}
    # Where many are alike, no pair has to be looked at for its own sake: what counts is the text that goes.
    goes = {int(j) for _, j in near}
    gone = {i for i, first in enumerate(clustered.first_N.tolist()) if first != i}
    return {
        "natural pairs": float(len(near)),
        "natural pairs joined": float(together.mean()),
        "natural pairs right": float(np.mean([(int(i), int(j)) in known for i, j in clustered.pair_M2])),
        "natural texts that go": float(len(goes)),
        "natural recall": len(gone & goes) / len(goes),
        "natural precision": len(gone & goes) / len(gone),
    }


def cost(texts: Sequence[str]) -> dict[str, float]:
    """Megabytes for each CPU second."""
    size = sum(len(text.encode()) for text in texts) / 1e6
    minhash.signatures(word_hashes(["one text to compile the loops"]))
    clock = [time.process_time()]

    def lap() -> float:
        clock.append(time.process_time())
        return max(clock[-1] - clock[-2], 1e-3)

    words = word_hashes(texts)
    figures = {"MB/s words": size / lap()}
    signature_NP = minhash.signatures(words)
    figures["MB/s signatures"] = size / lap()
    near_clusters(signature_NP, minhash.NEAR, lambda wanted: shingles_at(words, wanted))
    figures["MB/s pairs, exact shares, clusters"] = size / lap()
    figures["MB/s all"] = size / (clock[-1] - clock[0])
    return figures


def memory(count: int) -> dict[str, float]:
    """Peak memory and CPU seconds of joining that many signatures of which one in eight repeats another."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        shape = (count, minhash.LENGTH)
        mapped = np.lib.format.open_memmap(Path(folder) / "signatures.npy", "w+", np.uint32, shape)
        random_of = np.random.default_rng(0)
        for first in range(0, count, 100_000):
            block = random_of.integers(0, 2**32 - 2, (min(100_000, count - first), minhash.LENGTH), np.uint32)
            block[1::8] = np.where(
                random_of.random(block[1::8].shape) < 0.2, block[1::8], block[::8][: len(block[1::8])]
            )
            mapped[first : first + len(block)] = block
        mapped.flush()
        peak = _Peak()
        clock = time.process_time()
        bands, rows = minhash.bands_for(minhash.NEAR)
        pairs = candidate_pairs(mapped, bands, rows, work=Path(folder) / "work")
        share = equal_shares(mapped, pairs)
        first_N = clusters(pairs[share >= minhash.NEAR], count)
        seconds = time.process_time() - clock
        peak.stop()
        gone = int((first_N != np.arange(count)).sum())
    return {
        "signatures": float(count), "repeats found": gone / len(range(1, count, 8)),
        "CPU s a million": seconds / count * 1e6,
        "bytes of memory a signature": peak.above / count,
    }  # fmt: skip


class _Peak(threading.Thread):
    """Looks at the private memory of this process every 20 ms; `above` is the most over what it was at first."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.first = _own_bytes()
        self.above, self.going = 0.0, True
        self.start()

    def run(self) -> None:
        while self.going:
            self.above = max(self.above, _own_bytes() - self.first)
            time.sleep(0.02)

    def stop(self) -> None:
        self.going = False
        self.join()


def _own_bytes() -> float:
    """Private memory: mapped files that the system may drop again are not counted."""
    for line in Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else ():
        if line.startswith("RssAnon"):
            return float(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def rows_of(figures: Sequence[dict[str, float]]) -> Iterator[tuple[str, float, float]]:
    """Name, mean and half of the 95 % interval of each figure over the seeds."""
    for name in figures[0]:
        values = np.array([f[name] for f in figures])
        half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else 0.0
        yield name, float(values.mean()), float(half)


def main() -> int:
    """Measure, print a table, write JSON; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--signatures", type=int, default=2_000_000)
    parser.add_argument("--rival", help="interpreter of an environment that has datasketch")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    texts = texts_of(asked.megabytes)
    print(f"{len(texts):,} texts, {sum(len(t.encode()) for t in texts) / 1e6:.1f} MB")
    pairs, likeness = all_pairs(texts, 0.3)
    alike = {int(j) for _, j in pairs}
    base = [text for i, text in enumerate(texts) if i not in alike]
    bands, rows = minhash.bands_for(minhash.NEAR)
    print(f"{len(base):,} have nothing alike before them (similarity 0.3); {bands} bands of {rows}")
    figures = list(rows_of([found(base, seed) for seed in range(asked.seeds)]))
    more_of = [natural(texts, pairs, likeness), cost(texts), memory(asked.signatures)]
    for more in [*more_of, rival(base, asked.rival)] if asked.rival else more_of:
        figures += [(name, value, 0.0) for name, value in more.items()]
    for name, value, half in figures:
        print(f"{name:<38} {value:12.4f}" + (f" +- {half:.4f}" if half else ""))
    body = {name: {"value": value, "half": half} for name, value, half in figures}
    asked.out.write_text(json.dumps(body, indent=1) + "\n")
    missed = [f"{name} {body[name]['value']:.3f} < {bar}" for name, bar in BARS.items() if body[name]["value"] < bar]
    print("missed: " + ", ".join(missed) if missed else "every bar holds")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
