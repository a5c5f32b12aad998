"""`evaluate.suite`: everything that is measured of one model, with baselines beside it, and a verdict.

A model and a dataset enter; a Report leaves. The same samples are answered by the model, by the previous
model and by the trivial baselines, so every difference is a paired one. The report says what failed and
why, not only how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Model, Prompt, Report, Run, Sample, Scorers
from volant.core.sample import spread

if TYPE_CHECKING:
    from volant.scorers.compare import Comparison
    from volant.stages.evaluate.figures import Figures

THE_MODALITYS: list[str] = []
PREVIEWED = 40  # examples that the page shows of each, where content is no text


def suite(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    previous: Model | None = None,
    prompt: Prompt | None = None,
    corpus: Dataset | None = None,
    judge: Model | None = None,
    scorers: Scorers = THE_MODALITYS,
    split: Literal["test", "validation"] = "validation",
    limit: Annotated[int, Field(ge=1, le=100_000)] = 96,
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 48,
    bias_pairs: Annotated[int, Field(ge=0, le=10_000)] = 32,
) -> Report:
    """Measure a model from all sides and say whether to ship it.

    Args:
        run: the run.
        model: what is measured.
        data: samples with prompts and answers; its training split fits the baselines and is searched for copies.
        previous: an earlier model; it is compared with, example by example.
        prompt: instructions and examples that the model is used with.
        corpus: further training data (the text of the pre-training), searched for copies too.
        judge: a model that scorers with a `judge` ask, such as `perplexity`.
        scorers: which scorers, by name, with settings where they have some; none: all that the modality names. The
            task metric is always measured.
        split: which split is measured. `test` is for a last look: every look at it that is followed by a change wears
            it out. A turn compares on it by itself, and counts how often.
        limit: how many examples, spread evenly over the split; more narrows every interval and costs time.
        max_tokens: the longest answer, in tokens; longer ones are cut and count as they are.
        bias_pairs: how many prompts are asked in two demographic forms; 0 leaves the bias gap out. Fewer
            than 30 cannot tell a gap of 0.05 from chance.
    """
    from volant.modalities import open_modality
    from volant.stages.evaluate.figures import guards_of, scorers_for, task_samples, training_samples

    metric = run.goal.metric
    samples = task_samples(data, split, limit)
    training = training_samples(data, corpus, run)
    modality = open_modality(model.about.modality)
    built = scorers_for(scorers or list(modality.scorers()), metric, training, judge)
    everyone, fit = _measure_everyone(
        run, model, data, previous, prompt, samples, training, built, max_tokens, bias_pairs
    )
    comparisons = _comparisons(everyone)
    body = _body(run, everyone, comparisons, samples, fit, guards_of(modality.name, built))
    body |= {
        "kind": "suite",
        "split": split,
        "model": model.digest,
        "previous": previous.digest if previous else "",
        "prompt": prompt.digest if prompt else "",
        "parameters": model.about.parameters,
        "scorers": {name: getattr(s, "digest", f"{s.name}:{s.version}") for name, s in built.items()},
    }
    for score in everyone[0].scores:
        run.score(score)
    return _write(run, body, comparisons, _previews(modality, everyone, samples))


def _measure_everyone(
    run: Run,
    model: Model,
    data: Dataset,
    previous: Model | None,
    prompt: Prompt | None,
    samples: list[Sample],
    training: list[Sample],
    scorers: dict[str, Any],
    max_tokens: int,
    bias_pairs: int,
) -> tuple[list[Figures], tuple[float, float] | None]:
    """Figures of the model first, then of all it stands against; and bits per byte on (training, held-out)."""
    from volant.scorers.measure import answered, bits_per_byte
    from volant.stages.evaluate.figures import BITS, baselines, bias_score, measure, measure_references, opened

    gap = scorers.get("bias_gap") if bias_pairs else None
    fit = None
    with opened(run, model, prompt) as session:
        own = measure(run, session, samples, scorers, of="model", max_tokens=max_tokens)
        if gap is not None:
            own.scores.append(
                bias_score(run, session, samples, gap, of="model", pairs=bias_pairs, max_tokens=max_tokens)
            )
        learnt = [s for s in training if answered(s)]
        if BITS in own.values and learnt:
            known = bits_per_byte(session, spread(learnt, 64))
            fit = (sum(known) / len(known), sum(own.values[BITS]) / len(samples))
    everyone = [own]
    if previous is not None:
        with opened(run, previous, prompt) as session:
            everyone.append(measure(run, session, samples, scorers, of="previous", max_tokens=max_tokens))
    for name, session in baselines(run, data, model.about.modality):
        everyone.append(measure(run, session, samples, scorers, of=name, max_tokens=max_tokens))
    return [*everyone, measure_references(samples, scorers)], fit


def _comparisons(everyone: Sequence[Figures]) -> dict[str, list[Comparison]]:
    """The model against each of the others, in every metric that both have values of."""
    from volant.scorers.compare import paired

    own, *others = everyone
    found: dict[str, list[Comparison]] = {}
    for other in others:
        if other.of != "reference":
            found[other.of] = []
            for metric, values in other.values.items():
                score = own.score(metric)
                if metric in own.values and score is not None:
                    after = own.values[metric]
                    found[other.of].append(paired(metric, values, after, direction=score.direction, unit=score.unit))
    return found


def _body(
    run: Run,
    everyone: Sequence[Figures],
    comparisons: dict[str, list[Comparison]],
    samples: Sequence[Sample],
    fit: tuple[float, float] | None,
    guards: Mapping[str, str],
) -> dict[str, Any]:
    """The report's content: scores, comparisons, gates, verdict, slices, samples, values."""
    from volant.stages.evaluate.verdict import decide, gates, slices

    own, metric = everyone[0], run.goal.metric
    of_task = {of: next((c for c in found if c.name == metric), None) for of, found in comparisons.items()}
    against = of_task.get(f"baseline:{run.goal.baseline}")
    if against is None:
        run.say(f"the goal's baseline {run.goal.baseline!r} was not measured")
    bars = gates(run.goal, {s.name: s for s in own.scores}, against, run.goal.baseline, guards)
    verdict, reasons = decide(bars, n=len(samples), against=against, since=of_task.get("previous"), fit=fit)
    task = own.score(metric)
    direction = task.direction if task else "higher"
    return {
        "problem": run.goal.problem,
        "metric": metric,
        "direction": direction,
        "n": len(samples),
        "baseline": run.goal.baseline,
        "verdict": verdict,
        "reasons": reasons,
        "gates": [g.as_json() for g in bars],
        "scores": [s.model_dump() for figures in everyone for s in figures.scores],
        "comparisons": {of: [c.as_json() for c in found] for of, found in comparisons.items()},
        "training_bits_per_byte": fit[0] if fit else None,
        "slices": [vars(s) for s in slices(samples, own.values[metric], direction)],
        "samples": _shown(everyone, samples, metric, direction),
        "ids": [s.id for s in samples],
        "values": {figures.of: figures.values for figures in everyone},
    }


def _shown(everyone: Sequence[Figures], samples: Sequence[Sample], metric: str, direction: str) -> list[dict[str, Any]]:
    """Four of the best, four of the middle, four of the worst: a report that shows only good ones lies."""
    from volant.scorers.measure import prompt_of, target_of

    values = everyone[0].values[metric]
    if everyone[0].outputs[0].sample is not None:
        return []  # content is shown, not quoted: see `_previews`
    order = sorted(range(len(samples)), key=lambda i: (-values[i] if direction == "higher" else values[i], i))
    middle = len(order) // 2
    places = {"best": order[:4], "middle": order[middle - 2 : middle + 2], "worst": order[-4:]}
    shown, seen = [], set()
    for place, chosen in places.items():
        for i in chosen:
            if i not in seen:
                seen.add(i)
                rivals = {f.of: f.outputs[i].text for f in everyone[1:] if f.of != "reference"}
                shown.append({
                    "place": place, "id": samples[i].id, "prompt": prompt_of(samples[i]),
                    "target": target_of(samples[i]), "output": everyone[0].outputs[i].text,
                    "value": values[i], "others": rivals,
                })  # fmt: skip
    return shown


def _previews(modality: Any, everyone: Sequence[Figures], samples: Sequence[Sample]) -> dict[str, str]:
    """What each made of the first samples, as HTML by whose it is; nothing for text, which is quoted."""
    if everyone[0].outputs[0].sample is None:
        return {}
    shown = {"reference": modality.preview(samples[:PREVIEWED])}
    for figures in everyone:
        made = [o.sample for o in figures.outputs[:PREVIEWED] if o.sample is not None]
        if figures.of != "reference" and made:
            shown[figures.of] = modality.preview(made)
    return shown


def _write(
    run: Run, body: dict[str, Any], comparisons: dict[str, list[Comparison]], previews: Mapping[str, str]
) -> Report:
    import json

    from volant.stages.evaluate.figures import rounded
    from volant.stages.evaluate.page import suite_page

    body = rounded(body)
    (run.out / "report.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (run.out / "index.html").write_text(suite_page(body, previews), encoding="utf-8")
    run.say(f"verdict: {body['verdict']}; {body['reasons'][0]}")
    for of, found in comparisons.items():
        for comparison in found:
            if comparison.name == body["metric"]:
                run.say(f"against {of}: {comparison}")
    return Report(run.out)
