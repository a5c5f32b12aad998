"""Images, rows and other content on request: conditions in, checked samples out.

Enters: a model and what is asked for, in words (`7`, `a red square`, `income > 50K`). Leaves: a Dataset of
generated samples and one file with all of them in a form that people use. A sample is what was asked for
only as far as something looked: scorers named in `checks` judge each one, and what falls short of `comply`
stays in `dropped/` with its figure. Text has conditions of its own: `deliver.generate`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Files, Model, Prompt, Run, Sample, Scorers
from volant.core.errors import DataError, RemoteError, SettingError, did_you_mean
from volant.core.sample import Source

_BATCH = 512
NO_CHECKS: list[str] = []


def content(
    run: Run,
    model: Model,
    prompt: Prompt | None = None,
    *,
    judge: Model | None = None,
    prompts: Files = "",
    ask: list[str] | None = None,
    count: Annotated[int, Field(ge=1, le=1_000_000)] = 16,
    controls: dict[str, float] | None = None,
    checks: Scorers = NO_CHECKS,
    comply: Annotated[float, Field(ge=0, le=1)] = 0.5,
    approval: Literal["none", "required"] = "none",
    form: str = "",
) -> Dataset:
    """Generate content for each condition, check it, and keep what holds.

    Args:
        run: brings the seed that every draw comes from.
        model: that draws.
        prompt: controls that were measured to be the best (`prompt.controls`); `controls` go before them.
        judge: a model that `checks` ask, where they need one.
        prompts: files with conditions: txt (one a line), jsonl or json.
        ask: conditions written here; an empty one asks for anything. None and no file: anything.
        count: samples for each condition.
        controls: how samples are drawn (`{guidance: 1.5, steps: 20}`); the model's own by default.
        checks: scorers that judge each sample, higher being better (`[class_accuracy]`).
        comply: value of each check below which a sample is dropped.
        approval: `required` keeps each sample back until a person approves it (`deliver.publish` reads decisions).
        form: of the file with all samples (`png`, `csv` ...); the modality's first by default.

    Raises:
        RemoteError: the model failed on every condition.
        SettingError: there is no such form, control or check.
    """
    from volant.modalities import open_modality
    from volant.stages.deliver.channels import write_whole
    from volant.stages.deliver.editing import read_prompts
    from volant.store.dataset import writer

    modality = open_modality(model.about.modality)
    forms = modality.forms()
    chosen = form or next(iter(forms))
    if chosen not in forms:
        raise SettingError(f"{modality.name} has no form {chosen!r}.", where=run.step, fix=did_you_mean(chosen, forms))
    asked = [*read_prompts(run.outside["prompts"].files if "prompts" in run.outside else ()), *(ask or [])] or [""]
    drawn = _drawn(run, model, prompt, asked, count, controls or {}, approval)
    _say_ignored(run, drawn)
    made = _checked(run, drawn, checks, judge, comply)
    kept = [sample for sample in made if not sample.drop]
    with writer(run.out, modality=modality.name) as file:
        file.write_all(made)
    if kept:
        write_whole(run.out / f"content{forms[chosen]}", modality.deliver(kept, chosen))
    (run.out / "index.html").write_text(_page(run, modality, model, kept), encoding="utf-8")
    _report(run, made, kept)
    return Dataset(run.out)


def _drawn(
    run: Run, model: Model, prompt: Prompt | None, asked: Sequence[str], count: int, controls: dict[str, Any],
    approval: str,
) -> list[Sample]:  # fmt: skip
    """`count` samples for each condition, with where they come from."""
    from volant.core.protocols import Request
    from volant.engines import open_model
    from volant.stages.deliver.editing import seed_of

    requests = [
        Request(id=f"{i}/{k}", prompt=text, seed=seed_of(run.seed, i, k), controls=controls)
        for i, text in enumerate(asked)
        for k in range(count)
    ]
    found: dict[str, Sample] = {}
    refused: Counter[str] = Counter()
    session = open_model(model, prompt=prompt, threads=run.threads, device=run.device)
    try:
        with run.progress("samples", len(requests), "samples") as bar:
            for start in range(0, len(requests), _BATCH):
                run.check_stop()
                batch = requests[start : start + _BATCH]
                for chunk in session.generate(batch):
                    if chunk.sample is not None:
                        found[chunk.id] = chunk.sample
                    elif chunk.finish:
                        refused[chunk.error or "the model gave no content"] += 1
                bar.advance(len(batch))
    finally:
        session.close()
    if not found:
        what = f"the model failed on every condition: {refused.most_common(1)[0][0]}"
        raise RemoteError(what, where=run.step, fix="Ask for something else, or train on more of it.")
    for reason, n in refused.most_common(5):
        run.say(f"{n} of {len(requests)} samples were not made: {reason}")
    return [_named(found[r.id], r, model, approval) for r in requests if r.id in found]


def _say_ignored(run: Run, drawn: Sequence[Sample]) -> None:
    """Which words of what was asked the model was not told."""
    asked = {s.condition: s.attrs["ignored"] for s in drawn if s.attrs.get("ignored")}
    for condition, words in list(asked.items())[:5]:
        run.say(f"of {condition!r} the model was not told: {', '.join(words)}")
    if len(asked) > 5:
        run.say(f"nor all words of {len(asked) - 5} further conditions")


def _named(sample: Sample, request: Any, model: Model, approval: str) -> Sample:
    """The sample with its model, seed and controls, under an id of its own for each draw."""
    from volant.core.sample import sample_id

    source = Source(
        uri=f"model:{model.digest}", licence=" AND ".join(model.licences) or "LicenseRef-generated", origin="generated"
    )
    told = {
        "model": model.digest, "seed": request.seed, "controls": dict(request.controls),
        "approval": "pending" if approval == "required" else "none",
    }  # fmt: skip
    update = {"id": sample_id(sample.id, str(request.seed)), "source": source, "attrs": {**sample.attrs, **told}}
    # All in one split: what lies in a test split is sealed to whoever publishes it.
    return sample.model_copy(update={**update, "split": "train"})


def _checked(run: Run, samples: list[Sample], checks: Scorers, judge: Model | None, comply: float) -> list[Sample]:
    """The samples, those dropped that a check finds short."""
    from volant.core.protocols import Output
    from volant.scorers import build

    reasons: dict[str, str] = {}
    for name, scorer in build(checks, {"judge": judge}).items():
        for sample, value in zip(samples, scorer.values([Output("", sample=s) for s in samples], samples), strict=True):
            if value < comply:
                reasons.setdefault(sample.id, f"{name}: {value:.3g} against {comply:g}")
    return [s.model_copy(update={"drop": reasons[s.id]}) if s.id in reasons else s for s in samples]


def _page(run: Run, modality: Any, model: Model, kept: Sequence[Sample]) -> str:
    from volant.stages.deliver import marking
    from volant.store.page import Html, page, paragraph

    shown = Html(modality.preview(kept[:100]))
    parts = [paragraph(marking.sentence(model.digest), kind="note"), shown]
    return page(run.goal.problem or "Generated content", "\n".join(parts), head=marking.head(model.digest))


def _report(run: Run, made: Sequence[Sample], kept: Sequence[Sample]) -> None:
    """Figures into the records, and a line for the person."""
    from volant.core import Score
    from volant.scorers.measure import mean_score

    run.score(mean_score("compliance", [float(not s.drop) for s in made], binary=True, note="share that checks pass"))
    tries = sum(int(s.attrs.get("tries", 1)) for s in made)
    note = f"{len(made)} samples from {tries} draws: the others broke a constraint or were not what was asked"
    run.score(Score.exact("acceptance", len(made) / tries, n=tries, note=note))
    dropped: Mapping[str, int] = Counter(s.drop.split(":")[0] for s in made if s.drop)
    said = f"; dropped: {', '.join(f'{n} {why}' for why, n in sorted(dropped.items()))}" if dropped else ""
    run.say(f"{len(kept)} of {len(made)} samples kept, {tries} draws{said}")
    if not kept:
        raise DataError(f"no sample is left{said}.", where=run.step, fix="Lower `comply`, or train the model longer.")
