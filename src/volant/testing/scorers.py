"""The contract of a scorer: `check_scorer(scorer)`.

A scorer enters; an `AssertionError` leaves where it does not rank its declared ladder, repeats itself
differently, gives intervals that miss, or answers nothing at all with a number. The ladders are in
`volant.scorers.ladders`; the scorer's attribute `modality` (text where it has none) says which ones. One
that needs a judge or training samples is given them by its maker: `volant.scorers.ladders.training`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

from volant.core.errors import DataError
from volant.core.protocols import Output, Scorer
from volant.core.sample import Sample
from volant.core.score import Score
from volant.testing.expecting import expect, refusal, same

_DRAWS, _LEAST_COVERED = 20, 12


def check_scorer(scorer: Scorer, *, n: int = 60, seeds: Sequence[int] = (0, 1), means: bool = True) -> list[Score]:
    """Hold a scorer to its contract.

    Args:
        scorer: what a factory returned.
        n: examples on each rung.
        seeds: of the ladders; each has to be ranked.
        means: the figure is a mean over examples, so intervals on halves have to cover it; turn off
            for a figure of a whole set.

    Returns:
        Its first figure on each rung of the first ladder, best first.
    """
    from volant.scorers.ladders import modality_of, rungs

    _check_face(scorer)
    ladders = [rungs(scorer.ladder, n=n, seed=seed, modality=modality_of(scorer)) for seed in seeds]
    found = [[_checked(scorer, *rung) for rung in ladder] for ladder in ladders]
    for seed, scores in zip(seeds, found, strict=True):
        told = " > ".join(f"{s.value:.4g}" for s in scores)
        for better, worse in pairwise(scores):
            sentence = (
                f"{scorer.name} does not rank its ladder {scorer.ladder!r} (seed {seed}, {scorer.direction} is better)"
            )
            expect(better.better_than(worse), f"{sentence}: {told}")
    _check_nothing(scorer, ladders[0][0][1])
    if means and scorer.ladder == "fidelity":
        _check_cover(scorer, *ladders[0][1])
    return found[0]


def _check_face(scorer: Scorer) -> None:
    expect(isinstance(scorer, Scorer), f"{type(scorer).__name__} lacks a part of the protocol Scorer")
    expect(
        scorer.name.replace("_", "a").isalnum() and scorer.name == scorer.name.lower(),
        f"{scorer.name!r} is no snake case",
    )
    expect(scorer.direction in ("higher", "lower"), f"{scorer.name}: direction {scorer.direction!r}")
    expect(scorer.version >= 1 and scorer.unit, f"{scorer.name}: version and unit have to be stated")


def _checked(scorer: Scorer, outputs: Sequence[Output], samples: Sequence[Sample]) -> Score:
    """The first figure of one rung, after everything that has to hold for any rung."""
    texts = [o.text for o in outputs]
    scores, again = scorer.score(outputs, samples), scorer.score(outputs, samples)
    expect(scores, f"{scorer.name} gives no figure")
    same(again, scores, f"{scorer.name} gives other figures for the same outputs")
    values = scorer.values(outputs, samples)
    same(len(values), len(outputs), f"{scorer.name} has to give one value an example")
    expect(all(math.isfinite(v) for v in values), f"{scorer.name} gives values that are not finite")
    same([o.text for o in outputs], texts, f"{scorer.name} changed the outputs")
    first = scores[0]
    same((first.name, first.direction, first.unit), (scorer.name, scorer.direction, scorer.unit),
         f"the first figure of {scorer.name} is not the one that it declares")  # fmt: skip
    for score in scores:
        expect(score.low <= score.value <= score.high, f"{scorer.name}: the interval of {score} misses its value")
        expect(1 <= score.n <= len(outputs), f"{scorer.name}: {score} says that it rests on {score.n} examples")
    same(len({s.name for s in scores}), len(scores), f"{scorer.name} gives two figures of one name")
    return first


def _check_nothing(scorer: Scorer, samples: Sequence[Sample]) -> None:
    """Nothing to score, and outputs without their references, are errors and not numbers."""
    refusal(lambda: scorer.score([], []), f"{scorer.name} has to refuse n = 0", kind=DataError)
    few = [Output("one")]
    sentence = f"{scorer.name} has to refuse outputs that do not belong to the references"
    refusal(lambda: scorer.score(few, samples[:3]), sentence, kind=DataError)


def _check_cover(scorer: Scorer, outputs: Sequence[Output], samples: Sequence[Sample]) -> None:
    """The intervals of random halves cover the figure of the whole; by chance 95 of 100 would, or more."""
    whole = scorer.score(outputs, samples)[0].value
    rng, covered = random.Random(0), 0
    for _ in range(_DRAWS):
        chosen = rng.sample(range(len(outputs)), len(outputs) // 2)
        score = scorer.score([outputs[i] for i in chosen], [samples[i] for i in chosen])[0]
        covered += score.low <= whole <= score.high
    sentence = f"the intervals of {scorer.name} cover the figure in {covered} of {_DRAWS} halves only"
    expect(covered >= _LEAST_COVERED, sentence)
