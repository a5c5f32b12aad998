"""Benchmark items planted in training data: what the leakage gate finds of them, and what it takes for one wrongly.

    python bench/leakage.py [--data ../shared/data] [--seeds 3] [--out bench/leakage.json]

* **Planted**: each item of HumanEval (task and solution) and of GSM8K's test set (question and answer) stands once in
  the middle of an unrelated text (prose of WikiText-2, code of the standard library), as it is and with 5, 10, 15 and
  20 % of its words replaced (60 %), left out or put in (20 % each); also its first part alone (the task, the question)
  and its second. Found: the text is taken for a leak of that item.
* **False alarms**: texts in which nothing was planted, and what was found in them: every file of the standard library
  and every paragraph of WikiText-2, which the bar is for; installed packages and their documentation, for more of both
  kinds; and GSM8K's training set, which is of one making with the test set and shares whole sentences with it.
* **Cost**: megabytes held against both sets for each CPU second.

Exit code 1 if a bar is missed: verbatim 100 %, with 10 % changed 95 %, false alarms below 0.1 %.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from volant.modalities.leakage import Guard, Leak
from volant.modalities.words import words_of

RATES = (0.0, 0.05, 0.10, 0.15, 0.20)
PARTS = {"whole": slice(None), "first part": slice(1), "second part": slice(1, None)}
FOUND = {0.0: 1.0, 0.10: 0.95}
FALSE = 0.001
SHOWN = 5
_STDLIB = Path(sysconfig.get_paths()["stdlib"])
_PACKAGES = Path(sysconfig.get_paths()["purelib"])


def benchmarks(data: Path) -> dict[str, list[list[str]]]:
    """The parts of each item of both sets."""
    with gzip.open(data / "human-eval" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        tasks = [json.loads(line) for line in file]
    lines = (data / "gsm8k" / "test.jsonl").read_text("utf-8").splitlines()
    questions = [json.loads(line) for line in lines]
    return {
        "HumanEval": [[task["prompt"], task["canonical_solution"]] for task in tasks],
        "GSM8K": [[one["question"], one["answer"]] for one in questions],
    }


def files_of(root: Path, *suffixes: str, leave: str = "") -> list[str]:
    """The text of every file with one of these suffixes, in a fixed order."""
    found = []
    for file in sorted(f for suffix in suffixes for f in root.rglob(f"*.{suffix}")):
        if leave in file.relative_to(root).parts:
            continue
        try:
            found.append(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
    return [text for text in found if text.strip()]


def unplanted(data: Path) -> dict[str, list[str]]:
    """Texts that hold no item, by kind."""
    lines = (data / "wikitext-2" / "valid.txt").read_text("utf-8").splitlines()
    train = [json.loads(line) for line in (data / "gsm8k" / "train.jsonl").read_text("utf-8").splitlines()]
    return {
        "code, standard library": files_of(_STDLIB, "py", leave="site-packages"),
        "prose, WikiText-2": [line.strip() for line in lines if len(line.split()) >= 8],
        "code, packages": files_of(_PACKAGES, "py"),
        "documentation, packages": files_of(_PACKAGES, "rst", "md", "txt"),
        "GSM8K, training set": [f"{one['question']}\n{one['answer']}" for one in train],
    }


def edited(text: str, rate: float, dice: random.Random) -> str:
    """The text with that share of its words replaced (60 %), left out or put in (20 % each), at random places."""
    if not rate:
        return text
    parts = re.split(r"(\w+)", text)  # words stand at odd places
    places = range(1, len(parts), 2)
    own = [parts[at] for at in places]
    for at in dice.sample(places, round(rate * len(own))):
        way, other = dice.random(), dice.choice(own) + dice.choice("abcdef")
        parts[at] = other if way < 0.6 else "" if way < 0.8 else f"{parts[at]} {other}"
    return "".join(parts)


def found_of(items: Sequence[Sequence[str]], part: str, rate: float, carriers: Sequence[str], seed: int) -> float:
    """The share of items, planted once each, that are found where they were planted."""
    dice = random.Random(seed)
    guard = Guard(items)
    texts = []
    for parts in items:
        text = edited("\n".join(parts[PARTS[part]]), rate, dice)
        around = dice.choice(carriers)
        texts.append(f"{around[: len(around) // 2]}\n\n{text}\n\n{around[len(around) // 2 :]}")
    hits = {(leak.text, leak.guarded) for leak in guard.scan(words_of(texts))}
    return sum((i, i) in hits for i in range(len(items))) / len(items)


def alarms(guards: dict[str, Guard], texts: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, Leak, str]]]:
    """How many texts are taken for a leak of each set, and by what."""
    words = words_of(texts)
    counts: dict[str, int] = {}
    shown: list[tuple[str, Leak, str]] = []
    for name, guard in guards.items():
        leaks = {leak.text: leak for leak in sorted(guard.scan(words), key=lambda leak: leak.longest)}
        counts[name] = len(leaks)
        shown += [(name, leak, leak.words(texts[at])) for at, leak in sorted(leaks.items())]
    return counts, shown


def half_of(values: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean over seeds."""
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)) if len(values) > 1 else 0.0


def main() -> int:
    """Measure, print tables, write JSON; 1 if a bar is missed."""
    here = Path(__file__).resolve()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=here.parents[2] / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=here.with_suffix(".json"))
    asked = parser.parse_args()
    sets, texts = benchmarks(asked.data), unplanted(asked.data)
    carriers = [text[:8000] for text in (*texts["code, standard library"][::5], *texts["prose, WikiText-2"][::3])]
    body: dict[str, object] = {}
    missed = []
    for name, items in sets.items():
        print(f"\n{name}, {len(items):,} items: found of those planted, by share of words changed")
        for part in PARTS:
            shares = {
                rate: [found_of(items, part, rate, carriers, seed) for seed in range(asked.seeds)] for rate in RATES
            }
            body[f"{name}, {part}"] = shares
            row = "  ".join(
                f"{rate:.0%}: {np.mean(s):.4f}" + (f" +- {half_of(s):.4f}" if rate else "")
                for rate, s in shares.items()
            )
            print(f"  {part:<12} {row}")
            if part == "whole":
                missed += [f"{name} {rate:.0%} changed" for rate, bar in FOUND.items() if np.mean(shares[rate]) < bar]
    guards = {name: Guard(items) for name, items in sets.items()}
    for guard in guards.values():
        guard.scan(words_of(["one text, so that the index is there"]))
    print("\ntexts in which nothing was planted, and how many are taken for a leak")
    for place, (kind, own) in enumerate(texts.items()):
        size = sum(len(text.encode()) for text in own) / 1e6
        start = time.process_time()
        counts, shown = alarms(guards, own)
        seconds = time.process_time() - start
        share = len({leak.text for _, leak, _ in shown}) / len(own)
        body[kind] = {"texts": len(own), "MB": size, **counts, "share": share, "MB/s": size / seconds}
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        print(f"  {kind:<26} {len(own):6,} texts {size:6.1f} MB: {told}: {share:.3%}; {size / seconds:.0f} MB/CPU s")
        for name, leak, words in shown[:SHOWN]:
            print(f"      {name} {leak.guarded}: {leak.longest} words, {leak.share:.0%} of its part: {words[:100]!r}")
        if place < 2 and share >= FALSE:
            missed.append(f"false alarms on {kind}")
    asked.out.write_text(json.dumps(body, indent=1) + "\n")
    print("\nmissed: " + ", ".join(missed) if missed else "\nevery bar holds")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
