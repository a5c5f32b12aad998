"""What a smaller model of images or tables loses: one metric, before and after, on the same seeds.

What enters: a Model that draws whole samples, a Dataset and the name of a scorer. What leaves: values of both models
in pairs, their scores, and a refusal (`GateRefused`) where more is lost than was allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volant.core import Dataset, Model, Run, Score
from volant.core.errors import DataError, GateRefused, SettingError
from volant.core.protocols import Scorer, Session
from volant.core.sample import Sample

if TYPE_CHECKING:
    from volant.scorers.compare import Comparison

_TIMED = 64  # samples that a round of timing draws
_ROUNDS = 2


@dataclass(frozen=True)
class Yardstick:
    """The held-out samples and the scorer that both models are measured with."""

    run: Run
    held: list[Sample]
    scorer: Scorer

    def values(self, session: Session) -> list[float]:
        """The metric's values an example of what a session draws for the held-out samples."""
        from volant.scorers.measure import answers

        outputs = answers(session, self.held, run=self.run)
        return list(self.scorer.values(outputs, self.held))

    def stated(self, before: Sequence[float], after: Sequence[float], loss: float, fix: str) -> dict[str, Any]:
        """Score both and compare; what the artifact says of it.

        Raises:
            GateRefused: the metric is worse by more than `loss`, and not by chance.
        """
        from volant.scorers.compare import paired
        from volant.scorers.measure import mean_score

        name, direction, unit = self.scorer.name, self.scorer.direction, self.scorer.unit
        note = "validation, same seeds before and after"
        self.run.score(mean_score(name, after, direction=direction, unit=unit, note=note))
        told = paired(name, before, after, direction=direction, unit=unit, seed=self.run.seed)
        self.run.score(told.change)
        self.run.say(str(told))
        lost = lost_share(told)
        if told.verdict == "worse" and lost > loss:
            what = (
                f"{name} went from {told.before:.3f} to {told.after:.3f} (p = {told.p:.2g}, n = {told.n}), {lost:.1%}"
            )
            what = f"{what} worse, more than the stated loss of {loss:.1%}."
            raise GateRefused(what, where=self.run.step, fix=fix)
        return {
            "metric": name, "before": round(told.before, 5), "after": round(told.after, 5), "lost": round(lost, 5),
            "allowed_loss": loss, "samples": told.n, "verdict": told.verdict,
        }  # fmt: skip


def yardstick(run: Run, model: Model, data: Dataset, judge: Model | None, metric: str, limit: int) -> Yardstick:
    """The scorer of that name, or the modality's first gate, with the samples of the validation split.

    Raises:
        DataError: the validation split holds no content.
        SettingError: there is no such scorer.
    """
    from volant.modalities import open_modality
    from volant.scorers import build
    from volant.scorers.measure import TRAINING
    from volant.store.dataset import count, rows

    held = held_out(run, data, limit)
    training = [s for s, _ in zip(rows(data, "train"), range(TRAINING), strict=False)] if count(data, "train") else []
    name = metric or open_modality(model.about.modality).gates()[0]
    return Yardstick(run, held, build([name], {"judge": judge, "training": training})[name])


def need_float(run: Run, model: Model) -> None:
    """Refuse a model that torch does not draw from, or whose weights were cut already.

    Raises:
        SettingError: it is of another engine, or in 8 bits.
    """
    from volant.nets.opened import check_drawing, unconverted

    check_drawing(run, model)
    if "quantisation" in model.about.extra:
        what = "the model's weights are in 8 bits already."
        raise SettingError(what, where=run.step, fix=unconverted(model))


def held_out(run: Run, data: Dataset, limit: int) -> list[Sample]:
    """`limit` samples of the validation split that are content, spread over it.

    Raises:
        DataError: it holds none.
    """
    from volant.scorers.measure import CONTENT_SHAPES, task_samples

    held = [s for s in task_samples(data, "validation", limit) if s.shape in CONTENT_SHAPES]
    if not held:
        what = "the validation split holds no content to measure the loss on."
        raise DataError(what, where=run.step, fix="Add a `collect.split` step.")
    return held


def lost_share(told: Comparison) -> float:
    """The share by which the metric got worse, whichever way is better; below 0 where it got better."""
    return -told.gain / max(abs(told.before), 1e-9)


def state_speed(
    run: Run, family: Any, before: tuple[Any, Mapping[str, Any]], after: tuple[Any, Mapping[str, Any]],
    prompts: Sequence[Sequence[int]],
) -> None:  # fmt: skip
    """Score how many times faster `after` draws, in CPU seconds of this process; a measurement, so never payload.

    Args:
        run: takes the score.
        family: of both networks.
        before, after: a network and the controls it is asked with.
        prompts: condition ids; the first few are drawn.
    """
    from time import process_time

    some = [list(ids) for ids in prompts[:_TIMED]]
    spent = []
    for net, controls in (before, after):
        best = float("inf")
        for _ in range(_ROUNDS):
            begun = process_time()
            family.sample(net, some, seed=run.seed, **controls)
            best = min(best, process_time() - begun)
        spent.append(max(best, 1e-9))
    note = f"{spent[1]:.3g} to {spent[0]:.3g} CPU seconds for {len(some)} samples, {run.threads} threads"
    run.score(Score.exact("speed_ratio", spent[0] / spent[1], n=len(some), note=note))
