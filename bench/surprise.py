"""What `corpus_surprise` drops of clean texts of many kinds, and what of noise, by how much of it there is.

    python bench/surprise.py [--data ../shared/data] [--out bench/surprise.json]

The model of three kinds of characters is counted from the mix of `bench/pollution.py` (extracts, docstrings, a tenth of
noise), once as it is and once with Python added, a tenth of its size; none of the clean texts is in it but the first
two kinds. A share above 1 % of a clean kind is said.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import random
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pollution import MEGABYTES, Mix, docstrings, sources

from volant.modalities import text_corpus
from volant.modalities.text_rules import CORPUS, SURPRISE

BOUND = next(rule.bound for rule in CORPUS if rule.name == SURPRISE)
Texts = Sequence[str]


def clean_kinds(data: Path, held: dict[str, list[str]], extracts: Texts) -> dict[str, Texts]:
    """Clean texts by kind."""

    def lines(name: str) -> list[Any]:
        file = data / name
        with gzip.open(file, "rt") if file.suffix == ".gz" else file.open(encoding="utf-8") as opened:
            return [json.loads(line) for line in opened]

    def pieces(text: str, size: int) -> Texts:
        return [text[at : at + size] for at in range(0, len(text), size)]

    library = [
        file.read_text("utf-8", "replace") for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    ]
    rows = (data / "uci-tabular" / "adult-test.csv").read_text("utf-8").splitlines()
    told: dict[str, list[str]] = {}
    for line in Path(__file__).with_name("languages.tsv").read_text("utf-8").splitlines():
        code, text = line.split("\t")
        told.setdefault(code, []).append(text)
    return {
        "Wikipedia extracts": extracts,
        "docstrings of NumPy and scikit-learn": docstrings(),
        "WikiText-2": held["WikiText-2"],
        "Shakespeare's plays, 1,500 characters": pieces(
            (data / "tinyshakespeare" / "input.txt").read_text("utf-8"), 1500
        ),
        "GSM8K, question and answer": [f"{one['question']}\n{one['answer']}" for one in lines("gsm8k/test.jsonl")],
        "chats of HH-RLHF": [one["chosen"] for one in lines("hh-rlhf/harmless-base-test.jsonl.gz")][:1000],
        "instructions with answers": [
            f"{one['instruction']}\n{one['instances'][0]['output']}"
            for one in lines("self-instruct-seeds/seed_tasks.jsonl")
        ],
        "rows of a table (Adult), twelve each": ["\n".join(rows[at : at + 12]) for at in range(0, 3000, 12)],
        "Python: modules of the standard library": library,
        "Python: the same, 800 characters": [piece for text in library for piece in pieces(text[:40_000], 800)],
        "Python: HumanEval": [
            one["prompt"] + one["canonical_solution"] for one in lines("human-eval/HumanEval.jsonl.gz")
        ],
        "24 languages, four sentences each": [" ".join(own) for own in told.values()],
    }


def noise_kinds(base: Texts, dice: random.Random) -> dict[str, Texts]:
    """Noise by kind, made of clean texts or of nothing."""

    def misread(share: float) -> Texts:
        def one(text: str) -> str:
            letters = list(text)
            for at in range(len(letters) - 1):
                if dice.random() < share:
                    letters[at] = dice.choice("rn1lI|0OQ.,;:~^_ \\/" + letters[at + 1])
            return "".join(letters)

        return [one(text) for text in base]

    def many(make: Callable[[], str]) -> Texts:
        return [make() for _ in range(200)]

    def encoded() -> str:
        return "\n".join(base64.b64encode(dice.randbytes(40)).decode() for _ in range(12))

    return {
        **{f"{share:.0%} of letters misread": misread(share) for share in (0.3, 0.15, 0.08, 0.04)},
        "base64": many(encoded),
        "hexadecimal": many(lambda: dice.randbytes(300).hex()),
        "random letters": many(lambda: "".join(dice.choices("abcdefghijklmnopqrstuvwxyz     ", k=600))),
        "bytes read as Latin-1": many(lambda: dice.randbytes(500).decode("latin-1")),
        "letters of each word shuffled": [
            " ".join("".join(dice.sample(word, len(word))) for word in text.split()) for text in base
        ],
        "letters backwards": [text[::-1] for text in base],
        "words shuffled": [" ".join(dice.sample(text.split(), len(text.split()))) for text in base],
    }


def corpus_of(texts: Texts) -> text_corpus.Corpus:
    """What these texts say of usual characters; no line is shared."""
    array = pa.array(texts, pa.large_string())
    spoken = text_corpus.spoken(text_corpus.languages_of(array))
    none = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    return text_corpus.Corpus(*none, text_corpus.bits(text_corpus.triples(array)), spoken, 0.5, BOUND)


def main() -> None:
    """Count, judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    texts, extracts, tests, held = sources(asked.data)
    mix = [text for _, text in Mix(texts, tests).documents(int(MEGABYTES * 1e6))]
    own = Path(text_corpus.__file__).parents[1]
    code = "\n".join(file.read_text("utf-8") for file in sorted(own.rglob("*.py")))[: int(MEGABYTES * 1e5)]
    corpora = {"mix": corpus_of(mix), "mix and code": corpus_of([*mix, code])}
    base = held["WikiText-2"][:200]
    kinds = {
        "clean": clean_kinds(asked.data, held, extracts),
        "noise": noise_kinds(base, random.Random(0)),
    }
    found: dict[str, Any] = {"bits": BOUND}
    for side, own_kinds in kinds.items():
        print(f"{side:<40} {'texts':>6}" + "".join(f"{f'dropped, {name}':>24}" for name in corpora))
        for kind, own_texts in own_kinds.items():
            array = pa.array(own_texts, pa.large_string())
            value = {name: text_corpus.surprise(array, corpus) for name, corpus in corpora.items()}
            share = {name: float((bits_N > BOUND).mean()) for name, bits_N in value.items()}
            found[kind] = {"texts": len(own_texts), **share}
            above = " above 1 %" if side == "clean" and max(share.values()) > 0.01 else ""
            print(f"{kind:<40} {len(own_texts):6}" + "".join(f"{one:24.1%}" for one in share.values()) + above)
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
