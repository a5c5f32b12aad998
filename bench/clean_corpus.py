"""A corpus to clean, of any size, the same for the same seed: what `bench/clean.py` works on.

Enters: sentences of BOLD's Wikipedia extracts and of wikitext-2, scenes of Shakespeare, and the sources and documents
that every Python carries. Leaves: texts, one at a time, in shares that a crawl might have: 62 % of the documents are
fresh prose (sentences drawn anew for each, in paragraphs), 12 % copies of an earlier one with 0.5 to 3 % of the words
changed, 4 % exact copies, 9 % Python code, 5 % plays, 4 % repetitive pages, 4 % lists and menus.

No sentence is invented, so a sentence comes back in other documents when the corpus is large: at 50 MB about eight
times. Documents that share single sentences are no near duplicates.
"""

from __future__ import annotations

import json
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
KINDS = (
    ("fresh", 0.62),
    ("near", 0.12),
    ("exact", 0.04),
    ("code", 0.09),
    ("play", 0.05),
    ("again", 0.04),
    ("list", 0.04),
)


class Corpus:
    """Texts drawn from a seed; `shared` is the folder of the reference data."""

    def __init__(self, shared: Path = SHARED, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.sentences = _sentences(shared)
        self.scenes = (shared / "tinyshakespeare" / "input.txt").read_text("utf-8").split("\n\n")
        library = Path(sysconfig.get_paths()["stdlib"])
        self.code = [
            text for file in sorted(library.glob("*.py")) if len(text := file.read_text("utf-8", "replace")) > 500
        ]
        self.words = sorted({word for sentence in self.sentences[:4000] for word in sentence.split() if word.isalpha()})

    def texts(self, size: int) -> Iterator[tuple[str, str]]:
        """Kind and text of each document, until their UTF-8 adds up to `size` bytes."""
        kept: list[str] = []
        names, shares = zip(*KINDS, strict=True)
        while size > 0:
            kind = str(self.random.choice(names, p=shares))
            if kind in ("near", "exact") and not kept:
                kind = "fresh"
            text = self._made(kind, kept)
            if kind == "fresh":
                if len(kept) < 5000:
                    kept.append(text)
                else:
                    kept[int(self.random.integers(5000))] = text
            size -= len(text.encode())
            yield kind, text

    def _made(self, kind: str, kept: list[str]) -> str:
        draw = self.random.integers
        if kind == "fresh":
            return "\n\n".join(self._paragraph() for _ in range(1 + int(self.random.gamma(2.0, 2.6))))
        if kind == "near":
            return self._changed(kept[draw(len(kept))], self.random.uniform(0.005, 0.03))
        if kind == "exact":
            return kept[draw(len(kept))]
        if kind == "code":
            lines = self.code[draw(len(self.code))].split("\n")
            at = int(draw(max(1, len(lines) - 150)))
            return "\n".join(lines[at : at + int(draw(20, 150))])
        if kind == "play":
            at = int(draw(len(self.scenes) - 30))
            return "\n\n".join(self.scenes[at : at + int(draw(8, 30))])
        if kind == "again":
            part = self._paragraph()
            return "\n".join([part] * int(draw(3, 12)))
        items = [" ".join(self.sentences[draw(len(self.sentences))].split()[: draw(2, 6)]) for _ in range(draw(8, 80))]
        return "\n".join(f"- {item}" for item in items)

    def _paragraph(self) -> str:
        return " ".join(
            self.sentences[i] for i in self.random.integers(len(self.sentences), size=self.random.integers(2, 7))
        )

    def _changed(self, text: str, share: float) -> str:
        words = text.split(" ")
        for at in self.random.choice(len(words), max(1, int(share * len(words))), replace=False):
            words[at] = self.words[self.random.integers(len(self.words))]
        return " ".join(words)


def _sentences(shared: Path) -> list[str]:
    found = []
    for file in sorted((shared / "bold").glob("*_wiki.json")):
        for people in json.loads(file.read_text("utf-8")).values():
            found += [sentence for own in people.values() for sentence in own]
    for line in (shared / "wikitext-2" / "valid.txt").read_text("utf-8").splitlines():
        if not line.strip().startswith("="):
            found += re.split(r"(?<= [.?!]) ", line.strip())
    return [sentence.strip() for sentence in found if len(sentence) > 20]


if __name__ == "__main__":
    corpus = Corpus()
    counts: dict[str, int] = {}
    for kind, _ in corpus.texts(int(float(sys.argv[1]) * 1e6) if len(sys.argv) > 1 else 1_000_000):
        counts[kind] = counts.get(kind, 0) + 1
    print(len(corpus.sentences), len(corpus.code), counts)
