"""Collect what people prefer, as pairs of answers to one prompt: texts, pictures or rows.

Enters: a Model, a Dataset with prompts and reference answers (or pictures and rows, whose conditions are the
prompts), and people's ratings from the records. Leaves: a Dataset of shape `preference`; who chose stands on every
pair. People come first; for prompts that nobody rated the model answers several times and scorers rank the answers
against the reference. A pair lies in the split of its prompt. Conditions come again and again, so that a person's pair
of pictures or rows lies in a split by its own hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Ratings, Run, Sample, Score, Scorers
from volant.core.errors import DataError, SettingError
from volant.core.sample import CONTENT_SHAPES, PERSON, Label, Source, Split, asked_with, pair_sides, sample_id, split_of
from volant.scorers.drawn import TEMPERATURE, drawn
from volant.stages.align.agreement import Sides, check_agreement, judged, last_words
from volant.stages.align.aligned import pairs_of, state_chosen_length

if TYPE_CHECKING:
    from volant.core.protocols import Output


def preferences(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    ratings: Ratings = "*",
    least_kappa: Annotated[float, Field(ge=-1, le=1)] = 0.0,
    scorers: Scorers = [],  # noqa: B006 - only read; the default is part of the schema
    prompts: Annotated[int, Field(ge=0, le=1_000_000)] = 256,
    answers: Annotated[int, Field(ge=2, le=64)] = 4,
    likeliest: bool = False,
    temperature: Annotated[float, Field(gt=0, le=5)] = TEMPERATURE,
    margin: Annotated[float, Field(ge=0, le=1)] = 0.03,
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 32,
    controls: dict[str, float] | None = None,
) -> Dataset:
    """Make preference pairs from people's ratings, and from scorers where there are none.

    Args:
        run: seed, records, where to write.
        model: the one whose answers are compared; alignment works best on its own answers.
        data: prompts with reference answers; train prompts give pairs to learn from, validation prompts held-out
            ones. Its validation samples travel along, so that `align.dpo` can watch the task metric; pictures and
            rows of the train split as well, which such metrics measure against.
        judge: a model that the scorers ask, where they need one.
        ratings: `*` uses all that people rated in this project, empty none of it; a rating is no workload's. Of several
            raters most decide; ties are dropped.
        least_kappa: scorers that agree with people less than this label nothing; it needs at least ten ratings to
            count.
        scorers: what ranks the answers where no person did; several are averaged. Empty takes the goal's metric.
        prompts: how many prompts without ratings the model answers; a quarter of them from the validation split.
            Each costs `answers` generations; 0 uses people's ratings alone.
        answers: sampled for each prompt; the best and the worst become the pair. More give clearer pairs and take
            longer.
        likeliest: the first of the answers is the likeliest one, which users see where nothing is sampled; for text.
            Without it DPO learns from sampled answers alone, and the likeliest one need not gain.
        temperature: of the other answers; for text. A small model says little of worth when it is high: answers that
            are drawn near its likeliest one teach most about that.
        margin: how far apart the two have to be, in the scorers' unit; pairs nearer than that are ties and dropped.
        max_tokens: the longest answer; for text.
        controls: how pictures and rows are drawn (`{guidance: 1.0}`); the model's own by default.

    Raises:
        DataError: neither people nor scorers gave a pair.
        GateRefused: the scorers agree with people less than `least_kappa`.
        SettingError: `likeliest` was asked of pictures or rows.
    """
    from volant.store.dataset import writer

    train, held = _tasks(data, "train"), _tasks(data, "validation")
    texts_only = not any(sample.shape in CONTENT_SHAPES for sample in [*train, *held])
    if likeliest and not texts_only:
        what = "`likeliest` is for text: of pictures and rows no draw is the likeliest one."
        raise SettingError(what, where=run.step, fix="Leave `likeliest` out.")
    both = [pair for split in ("train", "validation") for pair in pairs_of(data, split)] if texts_only else []
    people = list(_rated(run, {_prompt(s): s for s in [*both, *train, *held]}))  # `volant rate` asks what pairs answer
    rated = {_prompt(pair) for pair in people}
    asked = _asked(run, train, held, prompts, rated)
    judges = _judges(run, scorers, judge, train) if asked else {}
    texts: list[list[Output]] = []
    if judges:
        check_agreement(run, [*train, *held], lambda sides: _lead(sides, judges), what="the scorers", least=least_kappa)
        requests = _requests(run, asked, answers, max_tokens, controls, temperature, likeliest)
        texts = _answered(run, model, asked, requests)
    scored = _scored(run, asked, texts, judges, margin)
    pairs = [*people, *scored]
    counts = {split: sum(p.split == split for p in pairs) for split in ("train", "validation")}
    if not counts["train"]:
        fix = "Rate answers to train prompts with `volant rate`, raise `prompts` or `answers`, or lower `margin`."
        raise DataError(
            f"there is no pair to learn from: {len(people)} from people, {len(scored)} from scorers, none to train on.",
            where=run.step, fix=fix,
        )  # fmt: skip
    run.say(f"{len(people)} pairs from people, {len(scored)} from scorers; {counts['validation']} of all held out")
    run.score(Score.exact("pairs", len(pairs), note=f"{len(people)} from people"))
    if asked:
        note = "prompts whose best and worst answer differ enough"
        run.score(Score.exact("pair_yield", len(scored) / len(asked), n=len(asked), note=note))
    if texts_only:
        state_chosen_length(run, pairs)
    with writer(run.out, modality=run.modality) as out:
        out.write_all(pairs)
        out.write_all(held)
        out.write_all(_measured_against(train))
    return Dataset(run.out)


def _tasks(data: Dataset, split: Split) -> list[Sample]:
    """Prompts with answers of a split; none where the split is not there."""
    from volant.scorers.measure import task_samples

    return task_samples(data, split, 1_000_000)


def _prompt(sample: Sample) -> str:
    from volant.scorers.measure import prompt_of

    return prompt_of(sample)


def _rated(run: Run, known: dict[str, Sample]) -> Iterator[Sample]:
    """People's choices as pairs, one for the same two answers: as most raters chose, of whom each one's last counts."""
    if run.records is None:
        return
    last = last_words(run.records.ratings(run.snapshot("ratings")))
    chosen: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in last:
        if row["choice"] in ("a", "b") and row["a"] != row["b"]:
            chosen.setdefault(judged(row), []).append(row)
    content = any(sample.shape in CONTENT_SHAPES for sample in known.values())
    outside = unread = even = 0
    for rows in chosen.values():
        better = [str(row[row["choice"]]) for row in rows]
        (text, votes), *rest = Counter(better).most_common()
        if rest and rest[0][1] == votes:
            even += 1
            continue
        sample = known.get(str(rows[0]["prompt"]))
        pair = _chosen([row for row, one in zip(rows, better, strict=True) if one == text], sample, content)
        if content and not _is_content(pair):
            unread += 1
            continue
        outside += sample is None
        yield pair
    if ties := len(last) - sum(map(len, chosen.values())):
        run.say(f"{ties} ratings were ties and are left out")
    if even:
        run.say(f"of {even} pairs as many raters chose one answer as the other, and they are left out")
    if unread:
        run.say(f"{unread} rated pairs are not of pictures or rows and are left out")
    if outside:
        run.say(f"{outside} rated prompts are not in the data; they are used for training")


def _chosen(rows: list[dict[str, Any]], sample: Sample | None, content: bool) -> Sample:
    """The choice that these ratings share, as a pair."""
    row = rows[0]
    chosen, rejected = (row["a"], row["b"]) if row["choice"] == "a" else (row["b"], row["a"])
    licence = sample.source.licence if sample else "LicenseRef-project-ratings"
    id = sample_id("rating", str(row["id"]), str(row["prompt"]), str(chosen), str(rejected))
    split: Split = sample.split if sample else "train"
    if content:
        split = split_of(id, test=0, validation=2)
    asked = _what_was_asked(sample) if sample and not content else {"condition": str(row["prompt"])}
    return Sample(
        id=id, shape="preference", **asked, target=str(chosen), rejected=str(rejected),
        source=Source(uri=f"ratings:{row['id']}", licence=licence, consent="given", origin="feedback"),
        split=split, group=sample.group if sample and not content else "",
        parents=[sample.id] if sample and not content else [],
        labels=[Label(name="preference", value="chosen", by=f"{PERSON}{one['rater']}") for one in rows],
        attrs=_scores(row),
    )  # fmt: skip


def _what_was_asked(sample: Sample) -> dict[str, Any]:
    """The fields of a pair that say what its answers answer: all turns of a dialogue."""
    from volant.scorers.measure import request_of

    if sample.shape in CONTENT_SHAPES:
        return {"condition": sample.condition}
    return asked_with(request_of(sample).messages)


def _scores(row: dict[str, Any]) -> dict[str, Any]:
    """The scores that the person gave both answers, where they did."""
    if row.get("a_score") is None:
        return {}
    low, high = sorted((row["a_score"], row["b_score"]))
    return {"chosen_score": high, "rejected_score": low}


def _is_content(pair: Sample) -> bool:
    try:
        pair_sides(pair)
    except DataError:
        return False
    return True


def _asked(run: Run, train: list[Sample], held: list[Sample], prompts: int, rated: set[str]) -> list[Sample]:
    """The prompts that the model answers: a random choice, three quarters from train, none that people rated."""
    import numpy as np

    rng = np.random.default_rng(run.seed)
    found: list[Sample] = []
    for samples, wanted in ((train, prompts - prompts // 4), (held, prompts // 4)):
        left = [s for s in samples if _prompt(s) not in rated]
        chosen = rng.permutation(len(left))[:wanted]
        found += [left[int(i)] for i in sorted(chosen)]
    return found


def _measured_against(train: list[Sample]) -> list[Sample]:
    """Training pictures or rows that scorers measure against; none of text, whose answers are compared one by one."""
    from volant.scorers.measure import TRAINING

    return [s for s in train if s.shape in CONTENT_SHAPES][:TRAINING]


def _judges(run: Run, scorers: Scorers, judge: Model | None, train: list[Sample]) -> dict[str, Any]:
    """The scorers that rank; those of pictures and rows may measure against the training samples."""
    from volant.scorers import build

    metric = "relevance" if run.goal.metric == "bits_per_byte" else run.goal.metric
    return build(scorers or [metric], {"judge": judge, "training": _measured_against(train) or None})


def _lead(sides: Sides, judges: dict[str, Any]) -> list[float]:
    """By how much the scorers put each first answer ahead of the second."""
    from volant.scorers.measure import worth

    first, second, samples = sides
    both = zip(worth(judges, first, samples), worth(judges, second, samples), strict=True)
    return [a - b for a, b in both]


def _scored(
    run: Run, asked: list[Sample], outputs: list[list[Output]], judges: dict[str, Any], margin: float
) -> list[Sample]:
    """Best and worst of several sampled answers to each prompt, where they are far enough apart."""
    from volant.scorers.measure import worth

    if not any(outputs):
        return []
    by = "+".join(f"scorer:{name}@{judge.version}" for name, judge in judges.items())
    flat = [output for own in outputs for output in own]
    totals = worth(judges, flat, [sample for sample, own in zip(asked, outputs, strict=True) for _ in own])
    pairs, start = [], 0
    for sample, own in zip(asked, outputs, strict=True):
        mine, start = totals[start : start + len(own)], start + len(own)
        best, worst = (pick(range(len(mine)), key=mine.__getitem__, default=-1) for pick in (max, min))
        if best == worst or mine[best] - mine[worst] < max(margin, 1e-9) or not own[best].text.strip():
            continue
        pairs.append(_pair(sample, own[best].text, own[worst].text, mine[best], mine[worst], by))
    run.say(f"{len(asked) - len(pairs)} of {len(asked)} prompts gave no two answers at least {margin:g} apart")
    return pairs


def _pair(sample: Sample, chosen: str, rejected: str, best: float, worst: float, by: str) -> Sample:
    return Sample(
        id=sample_id("scored", sample.id, chosen, rejected),
        shape="preference",
        source=sample.source.model_copy(update={"origin": "generated"}),
        **_what_was_asked(sample),
        target=chosen,
        rejected=rejected,
        split=sample.split,
        group=sample.group,
        parents=[sample.id],
        labels=[Label(name="preference", value="chosen", by=by)],
        attrs={"chosen_value": round(best, 6), "rejected_value": round(worst, 6)},
    )


def _answered(run: Run, model: Model, asked: list[Sample], requests: dict[str, Any]) -> list[list[Output]]:
    """Answers to each prompt, as many as were asked or the model gives."""
    from volant.engines import open_model
    from volant.modalities import open_modality
    from volant.scorers.measure import CONTENT_BATCH

    media_type = open_modality(model.about.modality).media_type
    batch = CONTENT_BATCH if asked[0].shape in CONTENT_SHAPES else 16
    session = open_model(model, threads=run.threads, device=run.device)
    try:
        made = drawn(run, session, requests, title="answers", batch=batch, media_type=media_type)
    finally:
        session.close()
    found: list[list[Output]] = [[] for _ in asked]
    for id in requests:
        if id in made:
            found[int(id.split("/")[0])].append(made[id])
    return found


def _requests(
    run: Run, asked: list[Sample], count: int, max_tokens: int, controls: dict[str, float] | None, heat: float,
    likeliest: bool,
) -> dict[str, Any]:  # fmt: skip
    """What the model is asked, by id: the prompt's number and the answer's."""
    from dataclasses import replace

    from volant.scorers.measure import request_of

    found = {}
    for number, sample in enumerate(asked):
        for turn in range(count):
            seed = ((run.seed * 1_000_003 + number) * 64 + turn) % 2**31
            plain = request_of(sample, max_tokens=max_tokens, id=f"{number}/{turn}")
            own = 0.0 if likeliest and not turn else heat
            found[plain.id] = replace(plain, temperature=own, seed=seed, controls=controls or {})
    return found
