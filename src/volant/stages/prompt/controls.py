"""Find how a model should be asked for content: guidance strength, sampling steps, temperature.

Enters: a Model that draws whole samples and a Dataset. Leaves: a Prompt that holds the controls; no weight is
touched. Each combination is drawn with the same seeds on the validation split and compared, in pairs, with the
model's own controls. One number never decides: a combination is out if it makes one of the modality's gates
(fidelity, diversity, memorisation) worse for certain, because guidance buys recognisable content with variety.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Prompt, Run
from volant.core.errors import DataError, SettingError
from volant.core.protocols import Scorer, Session
from volant.core.sample import Sample
from volant.core.score import Score

if TYPE_CHECKING:
    from volant.scorers.compare import Comparison

_LEVEL = 0.05
_MOST = 64


def controls(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    candidates: dict[str, list[float]],
    metric: str = "",
    limit: Annotated[int, Field(ge=2, le=100_000)] = 256,
) -> Prompt:
    """Choose the controls that a model is asked with, by measuring.

    Args:
        run: seed, the goal's metric, where to write.
        model: the one to ask; it is not changed.
        data: its validation split's conditions are asked; its train split is what gates measure against.
        judge: a model that the scorers ask, where they need one.
        candidates: values of each control to try, as `{guidance: [1, 1.5, 2], steps: [10, 20]}`; every combination
            is measured, 64 at most, and costs as much as drawing `limit` samples.
        metric: what is to get better; empty takes the goal's.
        limit: validation samples that are drawn for each combination.

    Raises:
        DataError: the validation split holds no content.
        SettingError: no combination or too many, a control that the model's family does not have, or a model that
            writes text.
    """
    from volant.engines import open_model
    from volant.engines.prompting import PromptFile
    from volant.modalities import open_modality
    from volant.scorers import build
    from volant.scorers.measure import TRAINING, task_samples
    from volant.store.dataset import rows

    tried = _combinations(run, model, candidates)
    held = task_samples(data, "validation", limit)
    if not held:
        raise DataError("the validation split holds no content to ask for.", where=run.step, fix="Add `collect.split`.")
    name = metric or run.goal.metric
    training = [s for s, _ in zip(rows(data, "train"), range(TRAINING), strict=False)]
    gates = [g for g in open_modality(model.about.modality).gates() if g != name]
    scorers = build([name, *gates], {"judge": judge, "training": training})
    session = open_model(model, threads=run.threads, device=run.device)
    try:
        measured = _Measured(run, session, held, scorers, name)
        file, why = _best(run, measured, tried, model)
    finally:
        session.close()
    run.say(why)
    assert isinstance(file, PromptFile)
    file.save(run.out)
    return Prompt(run.out)


def _combinations(run: Run, model: Model, candidates: dict[str, list[float]]) -> list[dict[str, float]]:
    """Every combination, each of which the model's family takes."""
    from volant.nets import open_family
    from volant.nets.controls import check_controls

    if model.about.engine != "sampler":
        raise SettingError("the model writes text.", where=run.step, fix="Use `prompt.few_shot`.")
    tried = [dict(zip(candidates, values, strict=True)) for values in product(*candidates.values())]
    if not any(tried):
        raise SettingError("there is no control to try.", where=run.step, fix="Name some: `{guidance: [1, 2]}`.")
    if len(tried) > _MOST:
        raise SettingError(f"{len(tried)} combinations are too many.", where=run.step, fix=f"Try {_MOST} at most.")
    family = open_family(model.about.family)
    for one in tried:
        check_controls(family, one)
    return tried


class _Measured:
    """Draws the held-out samples under controls and judges them."""

    def __init__(self, run: Run, session: Session, held: list[Sample], scorers: dict[str, Scorer], metric: str) -> None:
        self.run, self.session, self.held, self.scorers, self.metric = run, session, held, scorers, metric

    def under(self, controls: dict[str, float]) -> tuple[list[float], dict[str, Score]]:
        """The metric of each sample, and the figures of all scorers by name."""
        from volant.engines.prompting import Library, PromptFile, prompted
        from volant.scorers.measure import answers

        asked = prompted(self.session, Library.of(PromptFile(controls=controls)))
        outputs = answers(asked, self.held, run=self.run)
        figures = {name: scorer.score(outputs, self.held)[0] for name, scorer in self.scorers.items()}
        return list(self.scorers[self.metric].values(outputs, self.held)), figures


def _best(run: Run, measured: _Measured, tried: list[dict[str, float]], model: Model) -> tuple[Any, str]:
    """The best combination that gets better and makes no gate worse; else the model's own controls."""
    from volant.engines.prompting import PromptFile
    from volant.scorers.compare import paired

    metric = measured.metric
    direction = measured.scorers[metric].direction
    before, base = measured.under({})
    level = _LEVEL / max(1, len(tried))  # the best of several has several chances to be lucky
    table: list[dict[str, Any]] = [{"controls": {}, **{n: round(s.value, 6) for n, s in base.items()}}]
    best: tuple[dict[str, float], Comparison] | None = None
    for controls in tried:
        after, figures = measured.under(controls)
        told = paired(metric, before, after, direction=direction, seed=run.seed)
        worse = [n for n, s in figures.items() if n != metric and _worse(s, base[n])]
        row = {n: round(s.value, 6) for n, s in figures.items()}
        table.append({"controls": controls, **row, "p_better": round(told.p_better, 6), "worse": worse})
        run.say(f"{controls}: {told}" + (f"; worse in {', '.join(worse)}" if worse else ""))
        if not worse and told.p_better < level and (best is None or told.gain > best[1].gain):
            best = (controls, told)
    if best is None:
        chosen: dict[str, float] = {}
        why = f"the model's own controls stay: none of {len(tried)} is better in {metric} and no worse elsewhere"
    else:
        chosen, told = best
        why = f"{chosen} changes {metric} from {told.before:.3f} to {told.after:.3f} (p = {told.p_better:.2g})"
        run.score(told.change)
    facts = {"metric": metric, "samples": len(measured.held), "tried": table, "level": round(level, 6), "why": why}
    return PromptFile(controls=chosen, model=model.digest, measured=facts), why


def _worse(mine: Score, base: Score) -> bool:
    """Whether a figure lies wholly on the wrong side of the other's interval."""
    return mine.low > base.high if mine.direction == "lower" else mine.high < base.low
