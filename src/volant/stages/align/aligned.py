"""How models stand after they were aligned: on held-out pairs, against real data, and by the task metric.

What enters: a run, the model before, the Dataset. Leaves: scores, which the methods of this stage state alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from volant.core import Dataset, Model, Run, Sample, Score


def pairs_of(data: Dataset, split: Any) -> list[Sample]:
    """The preference pairs of a split; empty where it is not there."""
    from volant.store.dataset import count, rows

    if split != "train" and not count(data, split):
        return []
    return [s for s in rows(data, split) if s.shape == "preference"]


def steps_of(run: Run, count: int, rows: int, epochs: float, what: str = "pairs") -> int:
    """Steps that so many passes take; says where a step takes all there are."""
    if count < rows:
        run.say(f"a step takes all {count} {what} there are, not {rows}")
    return math.ceil(epochs * count / min(rows, count))


def cut_away(length: int) -> str:
    """What to do where the context leaves no two different answers."""
    return f"No answer differs within the {length} tokens that the model reads: give shorter texts."


def held(data: Dataset) -> list[Sample]:
    """The real pictures or rows of the validation split; empty where there are none."""
    from volant.core.sample import CONTENT_SHAPES
    from volant.store.dataset import count, rows

    found = rows(data, "validation") if count(data, "validation") else ()
    return [sample for sample in found if sample.shape in CONTENT_SHAPES]


def state_distance(run: Run, before: list[float], after: list[float]) -> None:
    """The loss on real data, before and after with the same noise, which says how far the model went from them."""
    from volant.scorers.compare import paired

    if before:
        told = paired("validation_loss", before, after, direction="lower")
        run.score(told.change)
        run.say(f"distance from real data: {told}")


def checked(run: Run, model: Model, data: Dataset, judge: Model | None) -> Model:
    """The project's task metric against the model before: a preference that is met at its cost is hacked."""
    from volant.engines import open_model
    from volant.scorers.measure import check_task

    made = Model(run.out)
    session = open_model(made, threads=run.threads, device=run.device)
    try:
        check_task(run, session, data, before=model, judge=judge)
    finally:
        session.close()
    return made


def state_pairs(run: Run, judged: Any, bound: float) -> None:
    """Held-out accuracy (of the implicit reward, which is 0.5 by definition before the first step) and distance."""
    from volant.scorers.compare import paired
    from volant.scorers.measure import mean_score

    right = [1.0 if m > 0 else 0.5 if m == 0 else 0.0 for m in judged.margins]
    note = "held-out pairs, by how much likelier each answer became; chance is 0.5"
    run.score(mean_score("pair_accuracy", right, note=note))
    gain = paired("pair_accuracy", [0.5] * len(right), right, seed=run.seed)
    run.score(gain.change)
    run.say(f"held-out pair accuracy against chance: {gain.verdict} (p = {gain.p:.2g}, n = {gain.n})")
    n = len(judged.margins)
    note = f"mean distance from the reference on held-out answers; bound {bound:g}"
    run.score(Score.exact("logratio", judged.shift, n=n, unit="nats", direction="lower", note=note))
    run.score(Score.exact("chosen_logratio", judged.chosen_shift, n=n, unit="nats"))


def lengths(session: Any, data: Dataset, limit: int) -> list[float]:
    """Characters of each greedy answer to the validation prompts; empty where there are none."""
    from volant.scorers.measure import answers, task_samples

    samples = task_samples(data, "validation", min(limit, 32))
    return [float(len(o.text)) for o in answers(session, samples)] if samples else []


def state_lengths(run: Run, before: list[float], after: list[float]) -> None:
    """How long answers are, before and after; growth is the usual way to cheat."""
    from volant.scorers.compare import paired
    from volant.scorers.measure import mean_score

    if not before:
        run.say("the length of answers was not measured: the validation split has no prompts with answers")
        return
    change = paired("answer_length", before, after, direction="lower", unit="characters")
    run.score(mean_score("answer_length", after, unit="characters", direction="lower", note="watched, not aimed at"))
    run.score(change.change)
    if change.verdict == "worse" and change.after > 1.2 * max(change.before, 1.0):
        run.say(f"WARNING: answers grew from {change.before:.0f} to {change.after:.0f} characters: length bias")


def state_chosen_length(run: Run, pairs: Sequence[Sample]) -> None:
    """Whether what is chosen is longer than what is rejected: a model learns to write long from such pairs."""
    from volant.scorers.compare import paired

    sizes = [[float(len(text or "")) for text in (p.rejected, p.target)] for p in pairs]
    longer = paired("chosen_length", *map(list, zip(*sizes, strict=True)), direction="lower", unit="characters")
    run.score(longer.change)
    if longer.verdict == "worse":
        run.say(
            f"WARNING: chosen answers are longer ({longer.before:.0f} to {longer.after:.0f} characters): length bias"
        )
