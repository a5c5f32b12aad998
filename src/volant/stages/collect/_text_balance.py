"""The bias of texts: who is spoken of, what the cleaning took from whom, which occupation stands beside which gender.

Enters: a Dataset of texts with what was dropped from it, and term lists. Leaves: scores that the goal can bound, what
was counted (for `balance.json`), and the sections of the page. `removal_disparity` is held to the four-fifths rule
(EEOC 1978): a rule that takes texts of one group less than 0.8 or more than 1.25 times as often as texts of the
other groups of the same axis is pointed out, if chance does not explain it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from volant.core import Dataset, Run, Sample, Score

Key = tuple[str, str]
Axes = Mapping[str, Mapping[str, Sequence[str]]]
FAIR = (0.8, 1.25)
_AT_ONCE = 1000  # texts
_FEW = 20  # texts of a group, or sentences of an occupation, below which nothing is compared
_FEW_GONE = 5  # texts that a rule took away among two groups together, below which they are not compared


@dataclass
class Removal:
    """How much oftener a rule took away texts of one group than those of the others of its axis."""

    rule: str
    axis: str
    group: str
    gone: int
    texts: int
    ratio: float
    low: float
    high: float

    @property
    def state(self) -> str:
        """`outside` of the four-fifths rule for certain, `unclear` where chance could explain it, else `inside`."""
        if FAIR[0] <= self.ratio <= FAIR[1]:
            return "inside"
        return "outside" if self.low > 1 or self.high < 1 else "unclear"

    @property
    def certain(self) -> float:
        """The factor that is certain: the interval's nearer end to 1, as a number of at least 1."""
        return max(self.low, 1 / self.high, 1.0)


@dataclass
class Bond:
    """An occupation and the gender of the sentences that it stands in."""

    occupation: str
    sentences: int
    women: int
    men: int
    value: float
    low: float
    high: float
    pmi_women: float
    pmi_men: float

    @property
    def certain(self) -> float:
        """How far the interval's nearer end is from 0."""
        return max(self.low, -self.high, 0.0)


@dataclass
class Counted:
    """What was counted of the train split's texts, kept and dropped."""

    axes: Axes
    texts: int = 0
    gone: int = 0
    named: dict[Key, Any] = field(default_factory=dict)
    rules: Any = None
    labels: list[str | None] = field(default_factory=list)
    sentences: int = 0
    removals: list[Removal] = field(default_factory=list)
    bonds: list[Bond] = field(default_factory=list)


def count_texts(run: Run, data: Dataset, axes: Axes, label: str) -> Counted:
    """Read every text of the train split once, what was dropped too."""
    import numpy as np
    import pyarrow as pa

    from volant.modalities.demography import Together, groups, mentions, occupations

    gender = groups()["gender"]
    together = Together(gender["women"], gender["men"], occupations())
    found = Counted(axes)
    rules: list[str] = []
    named: dict[Key, list[Any]] = {(axis, group): [] for axis, own in axes.items() for group in own}
    total = data.about["splits"]["train"] + data.about["dropped"]
    with run.progress("counting", total, "records") as bar:
        for part in _parts(data):
            run.check_stop()
            texts = pa.array([sample.text for sample in part], pa.large_string())
            for key, flags in mentions(texts, axes).items():
                named[key].append(flags)
            together.add(texts.filter(pa.array([not sample.drop for sample in part])))
            rules += [sample.drop.split(":")[0] for sample in part]
            found.labels += [label_of(sample, label) for sample in part]
            bar.advance(len(part))
    found.texts, found.gone = len(rules), sum(1 for rule in rules if rule)
    found.rules = np.array(rules)
    found.named = {key: np.concatenate(flags) for key, flags in named.items() if flags}
    found.sentences = together.sentences
    found.removals = _removals(found)
    found.bonds = _bonds(together)
    return found


def label_of(sample: Sample, label: str) -> str | None:
    """The value of a label, or of an attribute of that name; the only label there is, if none is named."""
    names = {own.name for own in sample.labels}
    wanted = label or (names.pop() if len(names) == 1 else "")
    values = [own.value for own in sample.labels if own.name == wanted]
    if not values and wanted in sample.attrs:
        values = [str(sample.attrs[wanted])]
    return values[-1] if values else None


def text_scores(found: Counted) -> list[Score]:
    """The figures that a goal may bound: evenness of each axis, the worst removal, the strongest bond."""
    kept = found.rules == ""
    scores = []
    for axis, own in found.axes.items():
        counts = {group: int((found.named[axis, group] & kept).sum()) for group in own if (axis, group) in found.named}
        if len(counts) < 2 or not any(counts.values()):
            continue
        rarest, commonest = min(counts, key=lambda g: (counts[g], g)), max(counts, key=lambda g: (counts[g], g))
        note = f"{rarest} {counts[rarest]:,}, {commonest} {counts[commonest]:,}"
        value = counts[rarest] / counts[commonest]
        scores.append(Score.exact(f"balance_{slug(axis)}", value, n=int(kept.sum()), note=note))
    if found.removals:
        worst = max(found.removals, key=lambda r: (r.certain, r.texts, r.rule, r.group))
        low, high = sorted((worst.low, worst.high)) if worst.ratio >= 1 else sorted((1 / worst.low, 1 / worst.high))
        value = max(worst.ratio, 1 / worst.ratio)
        oftener = "oftener" if worst.ratio >= 1 else "more seldom"
        note = f"{worst.rule} took away {worst.group} {value:.2f} times {oftener} than others of {worst.axis}"
        scores.append(
            Score(
                name="removal_disparity", value=value, low=max(1.0, low), high=high, n=found.texts,
                direction="lower", note=note,
            )
        )  # fmt: skip
    if found.bonds:
        most = max(found.bonds, key=lambda b: (b.certain, abs(b.value), b.occupation))
        low, high = sorted((abs(most.low), abs(most.high)))
        note = f"{most.occupation}: {most.women:,} sentences with women alone, {most.men:,} with men alone"
        scores.append(
            Score(
                name="occupation_gender", value=abs(most.value), low=low if most.certain else 0.0, high=high,
                n=found.sentences, direction="lower", note=note,
            )
        )  # fmt: skip
    return scores


def slug(axis: str) -> str:
    """An axis as a part of a score's name."""
    return axis.replace(" ", "_")


def _parts(data: Dataset) -> Iterator[list[Sample]]:
    """The train split, what was dropped of it too."""
    from volant.store.dataset import batched, dropped, rows

    both = (sample for samples in (rows(data, "train"), dropped(data)) for sample in samples)
    return batched((sample for sample in both if sample.split == "train"), _AT_ONCE)


def _removals(found: Counted) -> list[Removal]:
    """Every rule against every group that has enough texts; the intervals hold for all of them together."""
    import numpy as np

    from volant.modalities.demography import removal

    gone = {rule: found.rules == rule for rule in sorted(set(found.rules) - {""})}
    if len(gone) > 1:
        gone = {"any rule": found.rules != "", **gone}
    compared = []
    for (axis, group), named in found.named.items():
        rest = [flags for (other, name), flags in found.named.items() if other == axis and name != group]
        others = np.logical_or.reduce(rest) & ~named if rest else np.zeros_like(named)
        if min(named.sum(), others.sum()) < _FEW:
            continue
        compared += [
            (rule, axis, group, taken, named, others)
            for rule, taken in gone.items()
            if (taken & (named | others)).sum() >= _FEW_GONE
        ]
    z = _wide(len(compared))
    return [
        Removal(rule, axis, group, int((taken & named).sum()), int(named.sum()), *removal(taken, named, others, z))
        for rule, axis, group, taken, named, others in compared
    ]


def _bonds(together: Any) -> list[Bond]:
    from volant.modalities.demography import log_odds, pmi

    enough = {name: [int(n) for n in counts] for name, counts in together.named.items() if counts[1:].sum() >= _FEW}
    z = _wide(len(enough))
    women, men, total = together.women, together.men, together.sentences
    return [
        Bond(
            name, all_of, with_women, with_men, *log_odds(with_women, with_men, women, men, z),
            pmi(with_women, all_of, women, total), pmi(with_men, all_of, men, total),
        )
        for name, (all_of, with_women, with_men) in enough.items()
    ]  # fmt: skip


def _wide(comparisons: int) -> float:
    """Standard errors of an interval that holds for so many comparisons together at 95 % (Bonferroni)."""
    return NormalDist().inv_cdf(1 - 0.025 / max(1, comparisons))


def counts_json(found: Counted) -> dict[str, Any]:
    """What was counted, for `balance.json`; figures to four digits."""
    kept = found.rules == ""
    named: dict[str, dict[str, dict[str, int]]] = {}
    for (axis, group), flags in found.named.items():
        named.setdefault(axis, {})[group] = {"kept": int((flags & kept).sum()), "dropped": int((flags & ~kept).sum())}
    return {
        "texts": found.texts,
        "dropped": found.gone,
        "mentions": named,
        "removal": [{**_rounded(r), "state": r.state} for r in found.removals],
        "occupations": [_rounded(b) for b in found.bonds],
        "sentences": found.sentences,
        "labels": dict(sorted(Counter(v for v in found.labels if v is not None).items())),
    }


def _rounded(thing: Removal | Bond) -> dict[str, Any]:
    from math import isfinite

    values = {k: round(v, 4) if isinstance(v, float) else v for k, v in vars(thing).items()}
    return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in values.items()}
