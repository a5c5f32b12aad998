"""What a Dataset holds, counted for its page: by split, source, licence, origin and language, and what was dropped why.

`_counting` makes it of tables of rows, each by itself where several threads count; what was counted of one table after
another is added in their order. No text is held but a few excerpts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest

EXAMPLES = 3  # records shown of each rule
BINS = 24
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
TWIN = re.compile(r"\(of (\S+?)\)")


@dataclass(frozen=True)
class Example:
    """A dropped record: where it came from, what the rule saw, and how it begins."""

    record: str
    uri: str
    value: str
    text: str


@dataclass
class Rule:
    """What one rule dropped."""

    name: str
    bar: str
    count: int = 0
    values: list[float] = field(default_factory=list)
    examples: list[tuple[float, int, Example]] = field(default_factory=list)  # how far away, and which of those dropped

    @property
    def limit(self) -> float | None:
        """The threshold as a number, where it is one."""
        return float(self.bar) if NUMBER.fullmatch(self.bar) else None

    def add(self, later: Rule) -> None:
        """Add what it dropped of later rows; of equally near examples the earlier ones stay."""
        further = [(far, self.count + number, shown) for far, number, shown in later.examples]
        self.examples = sorted([*self.examples, *further], key=lambda e: e[:2])[:EXAMPLES]
        self.count += later.count
        self.values += later.values


@dataclass
class Facts:
    """What was counted."""

    modality: str
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    sources: Counter[tuple[str, ...]] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    lengths: dict[str, Counter[int]] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)
    twins: Counter[str] = field(default_factory=Counter)
    twin_texts: dict[str, str] = field(default_factory=dict)
    sought: set[str] = field(default_factory=set)  # whose texts were looked for among all kept rows

    def add(self, later: Facts) -> None:
        """Add what was counted of later rows."""
        for name, counted in vars(later).items():
            if isinstance(counted, Counter):
                getattr(self, name).update(counted)
        for split, powers in later.lengths.items():
            self.lengths.setdefault(split, Counter()).update(powers)
        for name, rule in later.rules.items():
            self.rules.setdefault(name, Rule(name, rule.bar)).add(rule)
        self.twin_texts |= later.twin_texts


def twins_in(drops: Iterable[str]) -> list[str]:
    """The records that most of these drops say to stand for the dropped one; of some of them an excerpt is shown."""
    return most_often(Counter(twin[1] for twin in map(TWIN.search, drops) if twin))


def most_often(twins: Counter[str]) -> list[str]:
    return [name for name, _ in nsmallest(8, twins.items(), key=lambda item: (-item[1], item[0]))]


def histogram(values: Sequence[float], limit: float | None) -> tuple[list[int], float, float]:
    """Counts in bins of one width between the smallest and the largest value, the limit among them."""
    import numpy as np

    value_N = np.array(values, np.float64)
    end_N = value_N if limit is None else np.append(value_N, limit)
    low, high = float(end_N.min()), float(end_N.max())
    if high <= low:
        return [len(values)], low, low
    bins = min(BINS, max(2, len(set(end_N.tolist()))))
    place_N = np.minimum(bins - 1, ((value_N - low) / (high - low) * bins).astype(np.int64))
    return np.bincount(place_N, minlength=bins).tolist(), low, high
