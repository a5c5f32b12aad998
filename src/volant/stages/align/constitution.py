"""Preference pairs from principles: draw, critique, revise, judge (AI feedback; Bai et al., "Constitutional AI", 2022).

Enters: a Model, a Dataset with prompts, a file of principles and, for those that nothing can compute, a critic: any
Model, hosted ones included. Leaves: a Dataset of shape `preference` for `align.dpo` and its kin; what decided stands
on every pair. How far the judge agrees with people (kappa) is reported first, where people rated answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Dataset, Files, Model, Ratings, Run, Sample, Score
from volant.core.errors import DataError
from volant.core.sample import Label, asked_with, sample_id
from volant.scorers.drawn import TEMPERATURE, drawn
from volant.stages.align.agreement import Sides, check_agreement
from volant.stages.align.aligned import state_chosen_length
from volant.stages.align.critic import REVISE, Critic
from volant.stages.align.principles import Bench, Principle, read

if TYPE_CHECKING:
    from volant.core.protocols import Output

_CRITIQUE_TOKENS = 96


@dataclass
class _Answer:
    """One answer to one prompt: what the executable principles give it, and how it came to be."""

    output: Output
    values: list[float]
    critique: str = ""
    principle: str = ""


def constitution(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    principles: Files,
    judge: Model | None = None,
    critic: Model | None = None,
    ratings: Ratings = "*",
    least_kappa: Annotated[float, Field(ge=-1, le=1)] = 0.0,
    prompts: Annotated[int, Field(ge=1, le=1_000_000)] = 256,
    answers: Annotated[int, Field(ge=1, le=64)] = 4,
    tradeoffs: bool = False,
    temperature: Annotated[float, Field(gt=0, le=5)] = TEMPERATURE,
    margin: Annotated[float, Field(ge=0, le=1)] = 0.05,
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 48,
) -> Dataset:
    """Make preference pairs from principles: answers are criticised, revised and judged.

    Args:
        run: seed, records, where to write.
        model: the one whose answers are judged; it revises its own answers.
        data: prompts; train prompts give pairs to learn from, validation prompts held-out ones. Its validation
            samples travel along, so that alignment can watch the task metric.
        principles: a YAML file: each principle's `name` and what it `says`, and a `scorer` that checks it. Scorers
            alone are enough, and all that a small model can learn from.
        judge: a model that the scorers ask, where they need one.
        critic: a model that writes critiques, and judges the principles without a scorer; may be a hosted one
            (`pretrain.base` of an OpenAI-compatible address).
        ratings: `*` compares the judge with all that people rated in this project; empty does not.
        least_kappa: agreement with people below this refuses the labels; it needs at least ten ratings to count.
        prompts: how many are asked, a quarter of them from the validation split.
        answers: drawn for each prompt, beside one revision; more give clearer pairs and take longer. Where no principle
            has a scorer only one is drawn, and the critic compares it with its revision.
        tradeoffs: a chosen answer may keep a principle less well than the rejected one, where the weighted mean is
            ahead. Without it no pair costs a principle, so that a model gives none up for others; fewer pairs come.
        temperature: of the answers; a small model says little of worth when it is high.
        margin: how far apart two answers have to be by the scorers; nearer ones are ties, unless a critic decides.
        max_tokens: the longest answer.

    Raises:
        DataError: the file is no constitution, or no pair came of it.
        GateRefused: the judge agrees with people less than `least_kappa`.
    """
    from volant.engines import open_model
    from volant.scorers.measure import task_samples
    from volant.store.dataset import writer

    files = run.snapshot("principles").files
    if len(files) != 1:
        raise DataError(f"{len(files)} files of principles.", where="principles", fix="Name one YAML file.")
    every = read(files[0].path, files[0].name)
    said = [p for p in every if not p.scorer]
    if said and critic is None:
        fix = "Give each a `scorer`, or name a model as `critic`."
        raise DataError(f"nothing judges {', '.join(p.name for p in said)}.", where=files[0].name, fix=fix)
    bench = Bench(every, judge, files[0].name)
    train, held = task_samples(data, "train", 1_000_000), task_samples(data, "validation", 1_000_000)
    judging = open_model(critic, threads=run.threads, device=run.device) if critic else None
    try:
        asking = Critic(run, judging, max_tokens=_CRITIQUE_TOKENS) if judging else None
        check_agreement(
            run, [*train, *held], lambda sides: _lead(sides, bench, said, asking), what="the principles",
            least=least_kappa,
        )  # fmt: skip
        asked = _chosen(run, train, held, prompts)
        found = _answered(run, model, asked, bench, asking, every, answers, max_tokens, temperature)
        pairs = _pairs(run, asked, found, bench, said, asking, margin, tradeoffs)
        if asking and asking.unread:
            run.say(f"{asking.unread} verdicts of the critic were neither A nor B and count as ties")
    finally:
        if judging:
            judging.close()
    _state(run, bench, asked, found, pairs)
    with writer(run.out, modality=run.modality) as out:
        out.write_all(pairs)
        out.write_all(held)
    return Dataset(run.out)


def _chosen(run: Run, train: list[Sample], held: list[Sample], prompts: int) -> list[Sample]:
    """The prompts that are asked: a random choice, three quarters from train."""
    import numpy as np

    rng = np.random.default_rng(run.seed)
    found = []
    for samples, wanted in ((train, prompts - prompts // 4), (held, prompts // 4)):
        found += [samples[int(i)] for i in sorted(rng.permutation(len(samples))[:wanted])]
    if not found:
        raise DataError("the data holds no prompts.", where=run.step, fix="Give data with prompts and answers.")
    return found


def _answered(
    run: Run, model: Model, asked: list[Sample], bench: Bench, critic: Critic | None, every: Sequence[Principle],
    answers: int, max_tokens: int, heat: float,
) -> list[list[_Answer]]:  # fmt: skip
    """For each prompt its drawn answers, and last a revision of the first one in the light of a critique."""
    from volant.engines import open_model
    from volant.scorers.measure import prompt_of, request_of

    def request(number: int, turn: int, **changed: Any) -> Any:
        seed = ((run.seed * 1_000_003 + number) * 128 + turn) % 2**31
        plain = request_of(asked[number], max_tokens=max_tokens, id=f"{number}/{turn}")
        return replace(plain, temperature=heat, seed=seed, **changed)

    answers = answers if bench else 1
    session = open_model(model, threads=run.threads, device=run.device)
    try:
        drafts = {r.id: r for n in range(len(asked)) for t in range(answers) if (r := request(n, t))}
        made = drawn(run, session, drafts, title="answers")
        found = [_valued(bench, [made[i] for t in range(answers) if (i := f"{n}/{t}") in made], s)
                 for n, s in enumerate(asked)]  # fmt: skip
        open_ones = [n for n, own in enumerate(found) if own]
        aims = {n: bench.worst(found[n][0].values) if bench else every[n % len(every)] for n in open_ones}
        told = {n: f"This falls short: {aims[n].says}" for n in open_ones}
        if critic:
            texts = critic.critiques([(prompt_of(asked[n]), found[n][0].output.text, aims[n].says) for n in open_ones])
            told.update({n: text for n, text in zip(open_ones, texts, strict=True) if text})
        again = {}
        for n in open_ones:
            plain = request(n, answers)
            before = plain.messages or ({"role": "user", "content": plain.prompt or ""},)
            turns = (
                *before, {"role": "assistant", "content": found[n][0].output.text},
                {"role": "user", "content": REVISE.format(critique=told[n], says=aims[n].says)},
            )  # fmt: skip
            again[plain.id] = replace(plain, messages=turns, prompt=None)
        revised = drawn(run, session, again, title="revisions")
    finally:
        session.close()
    for n in open_ones:
        if f"{n}/{answers}" in revised:
            extra = _valued(bench, [revised[f"{n}/{answers}"]], asked[n])[0]
            found[n].append(replace(extra, critique=told[n], principle=aims[n].name))
    return found


def _valued(bench: Bench, outputs: Sequence[Output], sample: Sample) -> list[_Answer]:
    values = bench.values(outputs, [sample] * len(outputs)) if outputs else []
    return [_Answer(output, row) for output, row in zip(outputs, values, strict=True)]


def _pairs(
    run: Run, asked: list[Sample], found: list[list[_Answer]], bench: Bench, said: Sequence[Principle],
    critic: Critic | None, margin: float, tradeoffs: bool,
) -> list[Sample]:  # fmt: skip
    """The better and the worse answer to each prompt, by the scorers, and by the critic where words decide."""
    from volant.scorers.measure import prompt_of

    couples = []
    for number, own in enumerate(found):
        filled = [a for a in own if a.output.text.strip()]
        if couple := _apart(filled, bench, tradeoffs) if bench else _revised(filled):
            couples.append((number, *couple))
    leads = [[x - y for x, y in zip(good.values, bad.values, strict=True)] for _, good, bad in couples]
    judging = bench.principles
    if critic and said:
        judging = [*judging, *said]
        for principle in said:
            verdicts = critic.verdicts(
                [(prompt_of(asked[n]), g.output.text, b.output.text, principle.says) for n, g, b in couples]
            )
            leads = [[*lead, float(verdict)] for lead, verdict in zip(leads, verdicts, strict=True)]
    weights = [p.weight for p in judging]
    by = "constitution:" + "+".join(part for part in (bench.version, "critic" if critic and said else "") if part)
    pairs = []
    for (number, good, bad), each in zip(couples, leads, strict=True):
        ahead = sum(w * x for w, x in zip(weights, each, strict=True)) / sum(weights)
        if ahead < 0:
            good, bad, ahead, each = bad, good, -ahead, [-x for x in each]
        if good.output.text != bad.output.text and ahead >= max(margin, 1e-9) and (tradeoffs or min(each) >= 0):
            pairs.append(_pair(asked[number], good, bad, ahead, by))
    how = "" if tradeoffs else " that cost no principle"
    run.say(f"{len(asked) - len(pairs)} of {len(asked)} prompts gave no two answers at least {margin:g} apart{how}")
    if not any(p.split == "train" for p in pairs):
        fix = "Raise `prompts` or `answers`, lower `margin`, allow `tradeoffs`, or change the principles."
        if critic and critic.unread:
            fix = f"{critic.unread} verdicts of the critic were neither A nor B: name one that follows instructions."
        raise DataError("the principles gave no pair to learn from.", where=run.step, fix=fix)
    return pairs


def _apart(answers: Sequence[_Answer], bench: Bench, tradeoffs: bool) -> tuple[_Answer, _Answer] | None:
    """The two that the scorers set furthest apart; the better one keeps each principle at least as well."""
    ordered = sorted(answers, key=lambda a: bench.total(a.values))
    couples = [
        (good, bad) for good in reversed(ordered) for bad in ordered
        if good is not bad and (tradeoffs or all(x >= y for x, y in zip(good.values, bad.values, strict=True)))
    ]  # fmt: skip
    return max(couples, key=lambda c: bench.total(c[0].values) - bench.total(c[1].values), default=None)


def _revised(answers: Sequence[_Answer]) -> tuple[_Answer, _Answer] | None:
    """The revision and the answer that it revises, for a critic to judge."""
    return (answers[-1], answers[0]) if len(answers) > 1 and answers[-1].critique else None


def _pair(sample: Sample, good: _Answer, bad: _Answer, ahead: float, by: str) -> Sample:
    from volant.scorers.measure import request_of

    revised = good.critique or bad.critique
    attrs = {"lead": round(ahead, 6), "revision": "chosen" if good.critique else "rejected" if bad.critique else ""}
    if revised:
        attrs |= {"critique": revised, "principle": good.principle or bad.principle}
    return Sample(
        id=sample_id("constitution", sample.id, good.output.text, bad.output.text),
        shape="preference", source=sample.source.model_copy(update={"origin": "generated"}),
        **asked_with(request_of(sample).messages), target=good.output.text, rejected=bad.output.text,
        split=sample.split, group=sample.group, parents=[sample.id],
        labels=[Label(name="preference", value="chosen", by=by)], attrs=attrs,
    )  # fmt: skip


def _lead(sides: Sides, bench: Bench, said: Sequence[Principle], critic: Critic | None) -> list[float]:
    """By how much the constitution puts each first answer ahead of the second, weighed as in `_pairs`."""
    from volant.scorers.measure import prompt_of

    first, second, samples = sides
    lead = [0.0] * len(samples)
    if bench:
        good, bad = (bench.values(answers, samples) for answers in (first, second))
        whole = sum(p.weight for p in bench.principles)
        lead = [whole * (bench.total(a) - bench.total(b)) for a, b in zip(good, bad, strict=True)]
    if critic:
        for principle in said:
            both = zip(first, second, samples, strict=True)
            verdicts = critic.verdicts([(prompt_of(s), a.text, b.text, principle.says) for a, b, s in both])
            lead = [x + principle.weight * v for x, v in zip(lead, verdicts, strict=True)]
    return lead


def _state(run: Run, bench: Bench, asked: list[Sample], found: list[list[_Answer]], pairs: list[Sample]) -> None:
    """How well first answers keep each principle, how often the revision won, and whether longer answers do."""
    from volant.scorers.measure import mean_score

    firsts = [own[0] for own in found if own]
    for at, principle in enumerate(bench.principles):
        values = [answer.values[at] for answer in firsts]
        run.score(mean_score(f"keeps_{principle.name}", values, note=principle.says))
    run.score(Score.exact("pairs", len(pairs)))
    run.score(Score.exact("pair_yield", len(pairs) / len(asked), n=len(asked)))
    won = sum(p.attrs["revision"] == "chosen" for p in pairs)
    run.score(Score.exact("revision_wins", won / len(pairs), n=len(pairs), note="pairs whose chosen answer is one"))
    state_chosen_length(run, pairs)
