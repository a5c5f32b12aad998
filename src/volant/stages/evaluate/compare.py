"""`evaluate.compare`: a candidate against the champion, once, on the sealed test split.

Two models and a dataset enter; a Report leaves whose `report.json` a turn of the wheel reads: the paired
test (`p`, one-sided: is the candidate better?), the `gain` (positive is better), and the gates. Only one
metric is tested, so the p needs no correction here; the turn corrects for repeated openings of one test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Model, Prompt, Report, Run, Sample, Score

if TYPE_CHECKING:
    from volant.scorers.compare import Comparison
    from volant.stages.evaluate.figures import Figures


def compare(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    champion: Model | None = None,
    prompt: Prompt | None = None,
    judge: Model | None = None,
    metric: str = "relevance",
    split: Literal["test", "validation"] = "test",
    limit: Annotated[int, Field(ge=1, le=100_000)] = 192,
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 48,
    bias_pairs: Annotated[int, Field(ge=0, le=10_000)] = 32,
) -> Report:
    """Compare a candidate with the champion on the same examples, and check the gates.

    Args:
        run: the run.
        model: the candidate.
        data: samples with prompts and answers; its training split is searched for copies.
        champion: what the candidate has to beat; without one it is the goal's trivial baseline.
        prompt: instructions and examples that both are used with.
        judge: a model that scorers with a `judge` ask; the one of the report.
        metric: the scorer (or `bits_per_byte`) that decides. Bits per byte see gains that answers do not show yet; the
            goal's own metric must not fall then.
        split: which split is opened; a promotion is decided on `test`, and each look at it costs significance.
        limit: how many examples, spread evenly; more finds smaller gains and costs time.
        max_tokens: the longest answer, in tokens.
        bias_pairs: how many prompts are asked in two demographic forms; 0 leaves that gate out.
    """
    from volant.modalities import open_modality
    from volant.stages.evaluate.figures import BITS, guards_of, scorers_for, task_samples, training_samples

    samples = task_samples(data, split, limit)
    modality = model.about.modality
    watched = [run.goal.metric] if metric == BITS and run.goal.metric != BITS else []
    names = [*open_modality(modality).gates(), *watched]
    built = scorers_for(names, metric, training_samples(data, None, run), judge)
    own, other = _measure_both(run, model, champion, prompt, data, samples, built, max_tokens, bias_pairs)
    tested = _paired(run, metric, own, other)
    gates = _gates(run, tested, own, other, list(guards_of(modality, built)))
    gates += [_kept(_paired(run, name, own, other)) for name in watched]
    for figure in (*own.scores, *other.scores, tested.change):
        run.score(figure)
    return _write(run, split, model, champion, tested, gates, own, other, samples)


def _measure_both(
    run: Run,
    model: Model,
    champion: Model | None,
    prompt: Prompt | None,
    data: Dataset,
    samples: list[Sample],
    scorers: dict[str, Any],
    max_tokens: int,
    bias_pairs: int,
) -> tuple[Figures, Figures]:
    from volant.core.errors import SettingError
    from volant.stages.evaluate.figures import baselines, bias_score, measure, opened

    def measured(which: Model, of: str) -> Figures:
        with opened(run, which, prompt) as session:
            found = measure(run, session, samples, scorers, of=of, max_tokens=max_tokens)
            gap = scorers.get("bias_gap")
            if bias_pairs and gap is not None:
                found.scores.append(
                    bias_score(run, session, samples, gap, of=of, pairs=bias_pairs, max_tokens=max_tokens)
                )
        return found

    own = measured(model, "model")
    if champion is not None:
        return own, measured(champion, "champion")
    wanted = f"baseline:{run.goal.baseline}"
    for name, session in baselines(run, data, model.about.modality):
        if name == wanted:
            return own, measure(run, session, samples, scorers, of=name, max_tokens=max_tokens)
    raise SettingError(
        f"there is no champion, and the goal's baseline {run.goal.baseline!r} was not measured.",
        fix="Give a champion, or name a baseline of the modality under `goal: baseline`.",
    )


def _gates(run: Run, tested: Comparison, own: Figures, other: Figures, guards: Sequence[str]) -> list[dict[str, Any]]:
    """The quality gate, and the guards that the modality names.

    A guard with a target in the goal has to meet it. One without must not be shown to be worse than the
    champion's: its interval may not lie wholly on the wrong side of the champion's.
    """
    sound = tested.verdict != "worse"
    found = [{"name": "not_worse", "passed": sound, "value": tested.gain, "bar": 0.0, "asked": "no significant loss"}]
    for name in guards:
        mine, theirs = own.score(name), other.score(name)
        if mine is None:
            continue
        target = run.goal.targets.get(name)
        if target is not None:
            passed, bar, asked = target.met_by(mine.value), target.bar, str(target)
        elif theirs is not None:
            bar, asked = theirs.value, f"not worse than {other.of}"
            passed = not _shown_worse(mine, theirs)
        else:
            continue
        found.append({"name": name, "passed": passed, "value": mine.value, "bar": bar, "asked": asked})
    quality = {"kind": "quality", "counts": True, "why": str(tested)}
    why = "" if sound else "does not count: quality has not passed"
    return [
        {**gate, **(quality if i == 0 else {"kind": "guard", "counts": sound, "why": why})}
        for i, gate in enumerate(found)
    ]


def _paired(run: Run, name: str, own: Figures, other: Figures) -> Comparison:
    """The candidate beside the other on one metric, example by example.

    Raises:
        SettingError: one of them gives no such figure.
    """
    from volant.core.errors import SettingError
    from volant.scorers.compare import paired

    for side in (own, other):
        if name not in side.values:
            what = f"the {side.of} gives no {name} for these samples, so the two cannot be compared on it."
            raise SettingError(what, where=run.step, fix="Compare on another metric, or with a champion that gives it.")
    score = own.score(name)
    assert score is not None, name
    return paired(name, other.values[name], own.values[name], direction=score.direction, seed=run.seed, unit=score.unit)


def _kept(told: Comparison) -> dict[str, Any]:
    """The gate on the goal's own metric where another one decides: no significant loss."""
    found = {"name": told.name, "passed": told.verdict != "worse", "value": told.gain, "bar": 0.0}
    return {**found, "asked": "no significant loss", "kind": "guard", "counts": True, "why": str(told)}


def _shown_worse(mine: Score, theirs: Score) -> bool:
    return mine.low > theirs.high if mine.direction == "lower" else mine.high < theirs.low


def _write(
    run: Run,
    split: str,
    model: Model,
    champion: Model | None,
    tested: Comparison,
    gates: list[dict[str, Any]],
    own: Figures,
    other: Figures,
    samples: list[Sample],
) -> Report:
    import json

    from volant.stages.evaluate.figures import rounded
    from volant.stages.evaluate.page import compare_page

    body = rounded(
        {
            "kind": "compare",
            "split": split,
            "metric": tested.name,
            "direction": tested.change.direction,
            "p": tested.p_better,
            "p_two_sided": tested.p,
            "gain": tested.gain,
            "n": tested.n,
            "better": tested.verdict == "better",
            "verdict": tested.verdict,
            "gates": gates,
            "model": model.digest,
            "champion": champion.digest if champion else "",
            "against": other.of.removeprefix("baseline:").replace("_", " "),
            "comparison": tested.as_json(),
            "scores": [s.model_dump() for s in (*own.scores, *other.scores)],
            "ids": [s.id for s in samples],
            "values": {"model": own.values[tested.name], "against": other.values[tested.name]},
        }
    )
    (run.out / "report.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (run.out / "index.html").write_text(compare_page(body), encoding="utf-8")
    run.say(str(tested))
    for gate in gates:
        if gate["counts"] and not gate["passed"]:
            run.say(f"gate {gate['name']} fails: {gate['value']:.4g}, asked {gate['asked']}")
    return Report(run.out)
