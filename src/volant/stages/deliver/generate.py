"""Content on request: prompts in, checked and edited texts out.

Enters: a model, prompts from a file or a list, conditions. Leaves: a Dataset of generated samples, each
labelled with how it kept every condition, and the same content as one marked Markdown, HTML or JSON
file. Asking is not getting: a condition is put into the request, and then looked for in the text; of
several samples the one that keeps most goes on. What fails, is unsafe or empty stays in `dropped/`.

It has more settings than a method should: they are four short lists (what to ask, what to keep, how to
draw, how to edit) that people expect in one place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from volant.core import Dataset, Files, Model, Prompt, Run, Sample
from volant.core.errors import DataError, RemoteError, SettingError
from volant.core.sample import Label, Source, sample_id

if TYPE_CHECKING:
    from volant.stages.deliver.editing import Draft, Edits

BY = "deliver.generate"
_BATCH = 16


def generate(
    run: Run,
    model: Model,
    prompt: Prompt | None = None,
    *,
    prompts: Files = "",
    ask: list[str] | None = None,
    tone: Literal["neutral", "formal", "friendly", "imperative"] | None = None,
    min_words: Annotated[int, Field(ge=0)] | None = None,
    max_words: Annotated[int, Field(ge=1)] | None = None,
    keywords: list[str] | None = None,
    forbidden: list[str] | None = None,
    audience: Literal["children", "general", "student", "expert"] | None = None,
    language: str | None = None,
    json_schema: dict[str, Any] | None = None,
    comply: Annotated[float, Field(ge=0, le=1)] = 1.0,
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.0,
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0,
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 64,
    samples: Annotated[int, Field(ge=1, le=64)] = 1,
    trim: bool = True,
    limit: Annotated[int, Field(ge=0)] = 0,
    replace: dict[str, str] | None = None,
    safety: bool = True,
    approval: Literal["none", "required"] = "none",
    form: Literal["markdown", "html", "json"] = "markdown",
) -> Dataset:
    """Generate content, check it against its conditions, edit it, and keep what holds.

    Args:
        run: brings the seed that every draw comes from.
        model: that writes.
        prompt: instructions and examples that go before each request.
        prompts: files with prompts: txt (one a line, or blocks between lines of `---`), jsonl or json.
        ask: prompts written here, after those of the files.
        tone: neutral, formal, friendly or imperative; judged by surface marks.
        min_words: fewest words of the text.
        max_words: most words of the text.
        keywords: words or phrases that must occur.
        forbidden: words or phrases that must not occur.
        audience: children, general, student or expert; bounds the reading grade.
        language: its code (`en`, `de`, `fr` ...); judged by the small words.
        json_schema: JSON Schema that the text has to follow.
        comply: share of the conditions that a text must keep, 0 to 1; below it is dropped. 0 only labels.
        temperature: 0 always takes the likeliest token; higher is more varied.
        top_p: draw from the likeliest tokens that together have this probability.
        max_tokens: longest text, in tokens.
        samples: drawn for each prompt, of which the one that keeps most conditions stays; costs that many times more.
        trim: cut white space, and an unfinished last sentence where there is a finished one.
        limit: most characters of a text, cut at a word; 0 sets none.
        replace: plain find and replace, applied in the order given.
        safety: drop texts with personal data, secrets or plainly harmful phrases.
        approval: `required` keeps each text back until a person approves it (`deliver.publish` reads the decisions).
        form: of the file with all texts: markdown, html or json.

    Raises:
        DataError: there is no prompt.
        SettingError: conditions contradict each other, or several samples are asked for at temperature 0.
        RemoteError: the model failed on every prompt.
    """
    from volant.stages.deliver.channels import SUFFIX, rendered, write_whole
    from volant.stages.deliver.editing import Edits, read_prompts
    from volant.store.dataset import writer

    asked = [*read_prompts(run.outside["prompts"].files if "prompts" in run.outside else ()), *(ask or [])]
    if not asked:
        raise DataError("there is no prompt.", where=run.step, fix="Name a file in `prompts`, or write some in `ask`.")
    if samples > 1 and temperature == 0:
        what = f"{samples} samples at temperature 0 are {samples} times the same"
        raise SettingError(f"{what}.", where=run.step, fix="Set temperature: 0.8, or samples: 1.")
    conditions = _conditions(
        run, tone=tone, min_words=min_words, max_words=max_words, keywords=keywords or [], forbidden=forbidden or [],
        audience=audience, language=language, json_schema=json_schema,
    )  # fmt: skip
    edits = Edits(trim=trim, limit=limit, replace=dict(replace or {}))
    draw = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "schema": json_schema}
    drafts = _drafts(run, model, prompt, asked, conditions, edits, safety, samples, draw)
    made = _unique(_sample(draft, model, run, comply=comply, approval=approval) for draft in drafts)
    kept = [sample for sample in made if not sample.drop]
    with writer(run.out, modality=run.modality) as file:
        file.write_all(made)
    write_whole(run.out / f"content{SUFFIX[form]}", rendered(kept, form, run.goal.problem or "Generated content"))
    _report(run, made, kept, approval)
    return Dataset(run.out)


def _conditions(run: Run, **given: Any) -> Any:
    """The conditions, checked."""
    from volant.scorers.compliance import Conditions

    try:
        return Conditions(**given)
    except ValidationError as error:
        first = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SettingError(
            f"the conditions do not hold together: {first}.", where=run.step, fix="Change one."
        ) from error


def _drafts(
    run: Run, model: Model, prompt: Prompt | None, asked: list[str], conditions: Any, edits: Edits,
    safety: bool, samples: int, draw: Mapping[str, Any],
) -> list[Draft]:  # fmt: skip
    """For each prompt the draft that keeps most conditions; the first of equal ones."""
    from volant.core.protocols import Request
    from volant.engines import open_model
    from volant.stages.deliver.editing import draft_of, instruction, seed_of

    told = instruction(conditions)
    before = ({"role": "system", "content": told},) if told else ()
    requests = [
        Request(
            id=f"{i}/{k}", messages=(*before, {"role": "user", "content": text}), seed=seed_of(run.seed, i, k), **draw
        )
        for i, text in enumerate(asked)
        for k in range(samples)
    ]
    best: dict[int, Draft] = {}
    session = open_model(model, prompt=prompt, threads=run.threads, device=run.device)
    try:
        with run.progress("texts", len(requests), "texts") as bar:
            for start in range(0, len(requests), _BATCH):
                run.check_stop()
                batch = requests[start : start + _BATCH]
                texts: dict[str, list[str]] = {request.id: ["", "", ""] for request in batch}
                for chunk in session.generate(batch):
                    texts[chunk.id][0] += chunk.text
                    if chunk.finish:
                        texts[chunk.id][1:] = [chunk.finish, chunk.error]
                for id, (text, finish, error) in texts.items():
                    i = int(id.split("/")[0])
                    draft = draft_of(asked[i], text, finish, error, conditions, edits, safety)
                    if i not in best or draft.rank > best[i].rank:
                        best[i] = draft
                bar.advance(len(batch))
    finally:
        session.close()
    if all(draft.error for draft in best.values()):
        raise RemoteError(f"the model failed on every prompt: {best[0].error}", where=run.step)
    return [best[i] for i in range(len(asked))]


def _sample(draft: Draft, model: Model, run: Run, *, comply: float, approval: str) -> Sample:
    """The draft as a sample: labels for each condition, the reason where it is dropped."""
    drop = f"failed: {draft.error}" if draft.error else ""
    drop = drop or ("" if draft.text.strip() else "empty: no text is left")
    drop = drop or (f"unsafe: {', '.join(draft.unsafe)}" if draft.unsafe else "")
    broken = [str(finding) for finding in draft.findings if not finding.met]
    if not drop and draft.kept < comply:
        drop = f"conditions: {draft.kept:.2f} kept against {comply:g} ({'; '.join(broken)})"
    labels: dict[str, str] = {}
    for finding in draft.findings:  # several keywords are several findings of one name
        name = f"keyword {finding.asked}" if finding.condition == "keyword" else finding.condition
        labels[name] = "met" if finding.met and labels.get(name) != "not met" else "not met"
    return Sample(
        id=sample_id(draft.prompt, draft.text, model.digest),
        shape="completion",
        condition=draft.prompt,
        target=draft.text,
        source=Source(
            uri=f"model:{model.digest}",
            licence=" AND ".join(model.licences) or "LicenseRef-generated",
            origin="generated",
        ),
        labels=[Label(name=name, value=value, by=BY) for name, value in labels.items()],
        attrs={
            "model": model.digest,
            "seed": run.seed,
            "kept": round(draft.kept, 4),
            "finish": draft.finish,
            "approval": "pending" if approval == "required" else "none",
        },
        drop=drop,
    )


def _unique(samples: Iterable[Sample]) -> list[Sample]:
    """The samples, a second one with the same prompt and text dropped."""
    seen: set[str] = set()
    found = []
    for sample in samples:
        again = sample.id in seen and not sample.drop
        seen.add(sample.id)
        found.append(sample.model_copy(update={"drop": "repeated: the same prompt and text"}) if again else sample)
    return found


def _report(run: Run, made: list[Sample], kept: list[Sample], approval: str) -> None:
    """Figures into the records, and a line for the person."""
    from volant.scorers.measure import mean_score

    run.score(mean_score("compliance", [float(s.attrs["kept"]) for s in made], note="share of the conditions kept"))
    dropped = Counter(sample.drop.split(":")[0] for sample in made if sample.drop)
    said = f"; dropped: {', '.join(f'{n} {why}' for why, n in sorted(dropped.items()))}" if dropped else ""
    waiting = "; they wait for a person's approval" if approval == "required" and kept else ""
    run.say(f"{len(kept)} of {len(made)} texts kept{said}{waiting}")
