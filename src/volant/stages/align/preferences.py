"""Collect what people prefer, as pairs of answers to one prompt.

Enters: a Model, a Dataset with prompts and reference answers, and people's ratings from the records. Leaves: a
Dataset of shape `preference` in the splits of its prompts; who chose stands on every pair. People come first; for
prompts that nobody rated the model answers several times and scorers rank the answers against the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Ratings, Run, Sample, Score, Scorers
from volant.core.errors import DataError
from volant.core.sample import Label, Source, Split, sample_id

_TEMPERATURE = 0.9


def preferences(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    ratings: Ratings = "*",
    scorers: Scorers = ["relevance"],  # noqa: B006 - only read; the default is part of the schema
    prompts: Annotated[int, Field(ge=0, le=1_000_000)] = 256,
    answers: Annotated[int, Field(ge=2, le=64)] = 4,
    margin: Annotated[float, Field(ge=0, le=1)] = 0.03,
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 32,
) -> Dataset:
    """Make preference pairs from people's ratings, and from scorers where there are none.

    Args:
        run: seed, records, where to write.
        model: the one whose answers are compared; alignment works best on its own answers.
        data: prompts with reference answers; train prompts give pairs to learn from, validation prompts held-out
            ones. Its validation samples travel along, so that `align.dpo` can watch the task metric.
        ratings: workload whose ratings are used (`*`: all). Ties and unknown raters' doubles are dropped.
        scorers: what ranks the answers where no person did; several are averaged.
        prompts: how many prompts without ratings the model answers; a quarter of them from the validation split.
            Each costs `answers` generations; 0 uses people's ratings alone.
        answers: sampled for each prompt; the best and the worst become the pair. More give clearer pairs and take
            longer.
        margin: how far apart the two have to be, in the scorers' unit; pairs nearer than that are ties and dropped.
        max_tokens: the longest answer.

    Raises:
        DataError: neither people nor scorers gave a pair.
    """
    from volant.store.dataset import writer

    train, held = _tasks(data, "train"), _tasks(data, "validation")
    people = list(_rated(run, {_prompt(s): s for s in [*train, *held]}))
    rated = {pair.condition for pair in people}
    asked = _asked(run, train, held, prompts, rated)
    scored = _scored(run, model, asked, scorers, answers=answers, margin=margin, max_tokens=max_tokens)
    pairs = [*people, *scored]
    counts = {split: sum(p.split == split for p in pairs) for split in ("train", "validation")}
    if not counts["train"]:
        raise DataError(
            f"there is no pair to learn from: {len(people)} from people, {len(scored)} from scorers, none to train on.",
            where=run.step,
            fix="Rate answers to train prompts with `volant rate`, raise `prompts` or `answers`, or lower `margin`.",
        )
    run.say(f"{len(people)} pairs from people, {len(scored)} from scorers; {counts['validation']} of all held out")
    run.score(Score.exact("pairs", len(pairs), note=f"{len(people)} from people"))
    if asked:
        note = "prompts whose best and worst answer differ enough"
        run.score(Score.exact("pair_yield", len(scored) / len(asked), n=len(asked), note=note))
    with writer(run.out, modality=run.modality) as out:
        out.write_all(pairs)
        out.write_all(held)
    return Dataset(run.out)


def _tasks(data: Dataset, split: Split) -> list[Sample]:
    """Prompts with answers of a split; none where the split is not there."""
    from volant.scorers.measure import task_samples

    return task_samples(data, split, 1_000_000)


def _prompt(sample: Sample) -> str:
    from volant.scorers.measure import prompt_of

    return prompt_of(sample)


def _rated(run: Run, known: dict[str, Sample]) -> Iterator[Sample]:
    """People's choices as pairs; the last choice of a rater on the same two answers counts."""
    if run.records is None:
        return
    last: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for row in run.records.ratings(run.snapshot("ratings")):
        low, high = sorted((str(row["a"]), str(row["b"])))
        last[str(row["rater"]), str(row["prompt"]), low, high] = row
    ties = outside = 0
    for row in last.values():
        if row["choice"] not in ("a", "b") or row["a"] == row["b"]:
            ties += 1
            continue
        sample = known.get(str(row["prompt"]))
        outside += sample is None
        chosen, rejected = (row["a"], row["b"]) if row["choice"] == "a" else (row["b"], row["a"])
        licence = sample.source.licence if sample else "LicenseRef-project-ratings"
        source = Source(uri=f"ratings:{row['id']}", licence=licence, consent="given", origin="feedback")
        yield Sample(
            id=sample_id("rating", str(row["id"]), str(row["prompt"]), str(chosen), str(rejected)),
            shape="preference", source=source, condition=str(row["prompt"]), target=str(chosen),
            rejected=str(rejected), split=sample.split if sample else "train", group=sample.group if sample else "",
            parents=[sample.id] if sample else [],
            labels=[Label(name="preference", value="chosen", by=f"person:{row['rater']}")],
        )  # fmt: skip
    if ties:
        run.say(f"{ties} ratings were ties and are left out")
    if outside:
        run.say(f"{outside} rated prompts are not in the data; they are used for training")


def _asked(run: Run, train: list[Sample], held: list[Sample], prompts: int, rated: set[str | None]) -> list[Sample]:
    """The prompts that the model answers: a random choice, three quarters from train, none that people rated."""
    import numpy as np

    rng = np.random.default_rng(run.seed)
    found: list[Sample] = []
    for samples, wanted in ((train, prompts - prompts // 4), (held, prompts // 4)):
        left = [s for s in samples if _prompt(s) not in rated and s.shape == "completion"]
        chosen = rng.permutation(len(left))[:wanted]
        found += [left[int(i)] for i in sorted(chosen)]
    return found


def _scored(
    run: Run, model: Model, asked: list[Sample], scorers: Scorers, *, answers: int, margin: float, max_tokens: int
) -> list[Sample]:
    """Best and worst of several sampled answers to each prompt, where they are far enough apart."""
    if not asked:
        return []
    from volant.scorers import build

    judges = build(scorers)
    if not judges:
        return []
    by = "+".join(f"scorer:{name}@{judge.version}" for name, judge in judges.items())
    texts = _sampled(run, model, asked, answers, max_tokens)
    pairs = []
    for number, sample in enumerate(asked):
        outputs = texts[number]
        totals = [0.0] * len(outputs)
        for judge in judges.values():
            sign = 1.0 if judge.direction == "higher" else -1.0
            values = judge.values(outputs, [sample] * len(outputs))
            totals = [t + sign * v / len(judges) for t, v in zip(totals, values, strict=True)]
        best, worst = (pick(range(len(totals)), key=totals.__getitem__) for pick in (max, min))
        if totals[best] - totals[worst] < max(margin, 1e-9) or not outputs[best].text.strip():
            continue
        pairs.append(_pair(sample, outputs[best].text, outputs[worst].text, totals[best], totals[worst], by))
    run.say(f"{len(asked) - len(pairs)} of {len(asked)} prompts gave no two answers at least {margin:g} apart")
    return pairs


def _pair(sample: Sample, chosen: str, rejected: str, best: float, worst: float, by: str) -> Sample:
    return Sample(
        id=sample_id("scored", sample.id, chosen, rejected),
        shape="preference",
        source=sample.source.model_copy(update={"origin": "generated"}),
        condition=sample.condition,
        target=chosen,
        rejected=rejected,
        split=sample.split,
        group=sample.group,
        parents=[sample.id],
        labels=[Label(name="preference", value="chosen", by=by)],
        attrs={"chosen_value": round(best, 6), "rejected_value": round(worst, 6)},
    )


def _sampled(run: Run, model: Model, asked: list[Sample], count: int, max_tokens: int) -> list[list[Any]]:
    """`count` sampled answers to each prompt; every one has a seed of its own, so order and batches do not matter."""
    from dataclasses import replace

    from volant.core.protocols import Output, Request
    from volant.engines import open_model
    from volant.scorers.measure import request_of

    requests: dict[str, Request] = {}
    for number, sample in enumerate(asked):
        for turn in range(count):
            seed = (run.seed * 1_000_003 + number) * 64 + turn
            plain = request_of(sample, max_tokens=max_tokens, id=f"{number}/{turn}")
            requests[plain.id] = replace(plain, temperature=_TEMPERATURE, seed=seed % 2**31)
    outputs = {id: Output("", request) for id, request in requests.items()}
    session = open_model(model, threads=run.threads, device=run.device)
    order = sorted(requests, key=lambda id: len(_prompt(asked[int(id.split("/")[0])])))
    try:
        with run.progress("answers", len(order), "answers") as bar:
            for start in range(0, len(order), 16):
                run.check_stop()
                part = order[start : start + 16]
                for chunk in session.generate([requests[id] for id in part]):
                    if chunk.finish == "error":
                        raise DataError(f"the model failed: {chunk.error}", where=run.step)
                    outputs[chunk.id].text += chunk.text
                bar.advance(len(part))
    finally:
        session.close()
    return [[outputs[f"{number}/{turn}"] for turn in range(count)] for number in range(len(asked))]
