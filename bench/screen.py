"""Languages and personal data: how fast they are found, and how rightly.

    python bench/screen.py [--data ../shared/data] [--megabytes 20] [--seeds 3] [--out bench/screen.json]

* **Rates**: megabytes of UTF-8 for each CPU second of one process (its threads counted), the median of five: whole
  documents (prose, code, plays, lists), the same cut into 300 characters, and documents with something planted in
  each line. The bar is 3 MB for language identification and for personal data.
* **Languages**: 96 sentences in 24 languages (`languages.tsv`, our own), whole, and their first halves.
* **Personal data**: each kind, drawn from a seed, planted one a line in prose; and what only looks like it. Recall: of
  those planted, how many are masked whole and under their own name. Precision: of all that is found among both, how
  much was planted. Then real text, in which nothing is planted: what is found there, to be looked at.

Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from clean_corpus import SHARED, Corpus
from planted_personal import LIKE, PLANTED

from volant.modalities.language import SURE, languages
from volant.modalities.personal import masked, masked_all
from volant.modalities.repair import repaired_all
from volant.modalities.word_lists import OFFENSIVE, flagged, offensive

BAR = 3.0
TIMES = 5
EACH = 200  # of each kind and seed
HERE = Path(__file__).parent


def rate(work: Callable[[pa.Array], Any], texts: Sequence[str]) -> float:
    """Median megabytes for each CPU second of the process."""
    array = pa.array(texts, pa.large_string())
    size = sum(len(text.encode()) for text in texts) / 1e6
    work(array.slice(0, 20))
    seconds = []
    for _ in range(TIMES):
        start = time.process_time()
        work(array)
        seconds.append(time.process_time() - start)
    return size / statistics.median(seconds)


def rates(documents: Sequence[str], seed: int) -> dict[str, dict[str, float]]:
    dice = random.Random(seed)
    makers = [maker for _, maker in PLANTED.values()]
    few = documents[: len(documents) // 4]
    dense = ["\n".join(f"{ln} {dice.choice(makers)(dice)}" for ln in text.split("\n")) for text in few]
    short = [text[at : at + 300] for text in few for at in range(0, len(text), 300)]
    lists = {OFFENSIVE: offensive()}
    steps: dict[str, Callable[[pa.Array], Any]] = {
        "language": languages,
        "personal data": masked_all,
        "repair": repaired_all,
        "flags": lambda texts: flagged(texts, lists),
    }
    kinds = {"documents": documents, "pieces of 300": short, "one in each line": dense}
    return {name: {kind: rate(work, texts) for kind, texts in kinds.items()} for name, work in steps.items()}


def of_languages() -> dict[str, Any]:
    lines = (HERE / "languages.tsv").read_text("utf-8").splitlines()
    known, texts = zip(*(line.split("\t") for line in lines), strict=True)
    found: dict[str, Any] = {}
    for name, shown in {"whole": texts, "first half": [text[: len(text) // 2] for text in texts]}.items():
        codes, sure = (values.to_pylist() for values in languages(pa.array(shown)))
        wrong = [
            f"{text!r}: {code}, not {own}" for own, code, text in zip(known, codes, shown, strict=True) if own != code
        ]
        certain = [own == code for own, code, p in zip(known, codes, sure, strict=True) if p >= SURE]
        found[name] = {
            "n": len(texts), "right": 1 - len(wrong) / len(texts), "surer than 0.65": len(certain) / len(texts),
            "right where surer": sum(certain) / len(certain), "wrong": wrong,
        }  # fmt: skip
    return found


def planted(prose: Sequence[str], seed: int) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """By kind, how often it was found as what it is, as something else, or not; and what was taken for something."""
    dice = random.Random(seed)

    def said(what: str) -> tuple[str, str]:
        before, after = dice.choice(prose), dice.choice(prose)
        gap, end = dice.choice([(" ", " "), (": ", ". "), (" (", ") "), (" ", ", "), ("\n", "\n"), (" '", "' ")])
        return f"{before}{gap}", f"{end}{after}"

    found: dict[str, Counter[str]] = {name: Counter() for name in PLANTED}
    for name, (kind, maker) in PLANTED.items():
        for _ in range(EACH):
            what = maker(dice)
            before, after = said(what)
            text, counts = masked(before + what + after)
            rest = what[what.find(":8080") :] if what.endswith(":8080") else "/24" if what.endswith("/24") else ""
            whole = text == f"{before}<{kind}>{rest}{after}"
            named = what.startswith("api_key") and counts == {"secret": 1}
            found[name]["found" if whole or named else "in part or as another" if counts else "missed"] += 1
    taken: dict[str, Counter[str]] = {}
    for name, maker in LIKE.items():
        texts = ["".join((pair := said("x"))[:1]) + maker(dice) + pair[1] for _ in range(EACH)]
        taken[name] = Counter(kind for text in texts for kind in masked(text)[1])
    return found, taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "screen.json")
    asked = parser.parse_args()
    documents = [text for _, text in Corpus(asked.data).texts(int(asked.megabytes * 1e6))]
    body: dict[str, Any] = {"megabytes": asked.megabytes, "rates": rates(documents, 0), "languages": of_languages()}
    print(f"MB for each CPU second, median of {TIMES}")
    for name, by_kind in body["rates"].items():
        print(f"  {name:<14}" + "".join(f"{kind:>18} {value:6.1f}" for kind, value in by_kind.items()))
    print("\nlanguages")
    for name, told in body["languages"].items():
        print(
            f"  {name:<11} right {told['right']:.1%} of {told['n']}; surer than {SURE}: {told['surer than 0.65']:.1%}, "
            f"of which right {told['right where surer']:.1%}"
        )
        for line in told["wrong"]:
            print(f"      {line}")
    prose = [" ".join(text.split())[:120] for text in documents[:3000]]
    prose = [text for text in prose if not masked(text)[1]]
    hits, taken = ({}, {})
    for seed in range(asked.seeds):
        for whole, part in zip((hits, taken), planted(prose, seed), strict=True):
            for name, counts in part.items():
                whole.setdefault(name, Counter()).update(counts)
    body |= personal(hits, taken, asked.seeds)
    body["real text"] = in_real_text(documents)
    asked.out.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    slow = [
        n
        for n in ("language", "personal data")
        if min(body["rates"][n][k] for k in ("documents", "pieces of 300")) < BAR
    ]
    print("missed: " + ", ".join(slow) if slow else "\nevery bar holds")
    return 1 if slow else 0


def personal(hits: dict[str, Counter[str]], taken: dict[str, Counter[str]], seeds: int) -> dict[str, Any]:
    n = EACH * seeds
    print(f"\npersonal data, {n} of each kind planted")
    for name, counts in hits.items():
        other = counts["in part or as another"] / n
        print(f"  {name:<26} recall {counts['found'] / n:.1%}; in part or as another {other:.1%}")
    print(f"\nwhat only looks like it, {n} of each kind")
    for name, counts in taken.items():
        if counts:
            print(f"  {name:<26} " + ", ".join(f"{k} {c / n:.1%}" for k, c in counts.items()))
    print(f"  nothing in {sum(1 for counts in taken.values() if not counts)} of {len(taken)} kinds")
    right = sum(counts["found"] for counts in hits.values())
    wrong = sum(sum(counts.values()) for counts in taken.values())
    recall, precision = right / (n * len(hits)), right / (right + wrong)
    print(f"  all: recall {recall:.2%}, precision {precision:.2%}")
    return {"recall": recall, "precision": precision, "planted": hits, "like": taken}


def in_real_text(documents: Sequence[str]) -> dict[str, Any]:
    """What is found in text in which nothing was planted, and some of it."""
    from volant.modalities.personal import found_in

    shown: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for text in set(documents):
        for start, end, kind in found_in(text) if any(c.isdigit() or c == "@" for c in text) else ():
            counts[kind] += 1
            here = shown.setdefault(kind, [])
            one = " ".join(text[max(0, start - 25) : end + 10].split())
            if len(here) < 12 and one not in here:
                here.append(one)
    size = sum(len(text.encode()) for text in set(documents)) / 1e6
    print(f"\nin {size:.1f} MB of text as it is: " + ", ".join(f"{n} {kind}" for kind, n in counts.most_common()))
    for kind, some in sorted(shown.items()):
        print(f"  {kind}: " + " | ".join(some))
    return {"megabytes": size, "found": counts, "examples": shown}


if __name__ == "__main__":
    raise SystemExit(main())
