"""Have a model write more data: from examples, by rewriting what is there, or as answers that several draws agree on.

Enters: a Dataset whose training records are the seeds, and a Model: one made here, or a hosted one (`pretrain.base` of
an OpenAI-compatible address). Leaves: the new records alone, all for training, each with origin `generated`, its
parents, the model's digest and a licence that follows from both. What is malformed, cut, disputed, filtered, repeated
or over the plan's cap is kept in `dropped/` with its reason. Mix them in with `collect.clean`: its gate against the
evaluation splits is not repeated here.

Sources: Self-Instruct (Wang et al., 2022), Evol-Instruct (Xu et al., 2023), self-consistency (Wang et al., 2022).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Model, Run, Sample, Score
from volant.core.errors import DataError, SettingError
from volant.stages.collect._asking import Asking, check_writer
from volant.stages.collect._generated import Terms, drop_over_cap, room_for, told, written
from volant.stages.collect._sieve import Bounds, drop_repeats
from volant.stages.collect._writing import Wish, Writing

_ROUND = 64  # drafts


def synthesize(
    run: Run,
    model: Model,
    data: Dataset,
    judge: Model | None = None,
    *,
    how: Literal["examples", "evolve", "answers"] = "examples",
    instructions: str = "",
    count: Annotated[int, Field(ge=1, le=1_000_000)] = 64,
    examples: Annotated[int, Field(ge=1, le=16)] = 3,
    generations: Annotated[int, Field(ge=1, le=8)] = 1,
    draws: Annotated[int, Field(ge=1, le=64)] = 1,
    agree: Annotated[float, Field(ge=0, le=1)] = 0.6,
    decides: str = "",
    filters: dict[str, str | dict[str, Any]] | None = None,
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.8,
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 256,
    tokens: Annotated[int, Field(ge=0)] = 0,
    licence: str = "",
) -> Dataset:
    """Write new training records with a model.

    Args:
        model: that writes; its answers are kept while the step runs, so that a killed run asks for none of them again.
        data: its training records that no model wrote are the seeds; of them and the validation records none is said
            again.
        judge: a model that the filters' scorers ask, where they need one.
        how: `examples` shows a few seeds and asks for one more (texts, or requests that are then answered); `evolve`
            rewrites seeds' requests and answers them; `answers` answers seeds' requests as they are.
        instructions: what is wanted, in words; goes before every request as the system's turn.
        count: records that are tried; fewer where the plan's cap (`goal.generated`) allows no more.
        examples: seeds shown in a request of `examples`; more show the kind better and cost more.
        generations: how often `evolve` rewrites in a row; each one names the one before it as its parent.
        draws: answers drawn for a request; several cost that many times more, and one that they agree on is kept.
        agree: share (0 to 1) of the draws that has to agree; below it the record is dropped.
        decides: regular expression of the part that draws have to agree on, its first group where it has one, as in
            `#### (.+)`; empty compares numbers and words of the whole answers.
        filters: scorers that every record has to pass, with a bound, as in {grammar: ">= 0.8"}, or with settings
            beside it, as in {word_count: {least: 5, most: 200, keep: ">= 1"}}.
        temperature: of the draws; 0 says the likeliest thing, and then several draws are the same.
        max_tokens: the longest thing that the model may say, in tokens; what is cut there is dropped.
        tokens: most tokens, prompts and answers together, that the step may use; 0 sets no limit. What was made until
            then is kept.
        licence: of what the model writes, where it states none itself (a hosted one: its service's terms).

    Returns:
        A Dataset of training records alone, with `synthesis.json`.

    Raises:
        DataError: there is no seed, or nothing that was made can be kept.
        LicenceError: the terms of model or seeds are unknown or forbid the goal's use.
        RemoteError: the service failed; the next run goes on with what it had answered.
        SettingError: several draws at temperature 0 or of plain texts, or an unknown scorer or bound.
    """
    if draws > 1 and temperature == 0:
        what = f"{draws} draws at temperature 0 are {draws} times the same."
        raise SettingError(what, where=run.step, fix="Set temperature: 0.8, or draws: 1.")
    try:
        re.compile(decides)
    except re.error as error:
        what = f"`decides` is no regular expression: {error}."
        raise SettingError(what, where=run.step, fix="As in: '#### (.+)'.") from error
    check_writer(run, model)
    wish = Wish(how, instructions, examples, generations, draws, agree, decides, temperature, max_tokens)
    bounds, terms = Bounds(run, filters or {}, judge), Terms(run, model, licence)
    pool = Pool.of(run, data, how)
    if (draws > 1 or decides) and pool.plain:
        what = (
            "the training records are plain texts, which have no answer to agree on: `draws` and `decides` do nothing."
        )
        raise SettingError(what, where=run.step, fix="Leave both out, or give records with requests and answers.")
    room = room_for(run, pool.others, pool.generated)
    asking = Asking(run, model, most_tokens=tokens)
    try:
        asking.state(wish.most_requests(count), max_tokens)
        writing = Writing(run, wish, asking, terms, model.digest, pool.seeds)
        made = _made(run, writing, bounds, pool, count, room)
    finally:
        asking.close()
    drop_repeats(run, made, pool.known, whole=how == "answers")
    drop_over_cap(run, made, others=pool.others, there=pool.generated)
    fix = "Look at what the model says, loosen the filters, or raise `tokens` and `max_tokens`."
    body = {"asked_for": count, **told(run, made, asking, terms, fix), **_kinds(run, made)}
    return written(run, made, "synthesis.json", body)


@dataclass(frozen=True)
class Pool:
    """What the data hold.

    Attributes:
        seeds: what the model is shown, or asked.
        known: what is not to be said again: every record of the splits that are there.
        others: how many training records no model wrote.
        generated: how many one did.
    """

    seeds: list[Sample]
    known: list[Sample]
    others: int
    generated: int

    @property
    def plain(self) -> bool:
        """Whether the seeds are plain texts, without requests."""
        return all(seed.shape == "text" for seed in self.seeds)

    @classmethod
    def of(cls, run: Run, data: Dataset, how: str) -> Pool:
        """Read the data.

        Raises:
            DataError: there is no seed.
        """
        from volant.scorers.measure import answered, prompt_of
        from volant.store.dataset import rows

        found = [run.remembered(sample) for sample in rows(data)]
        known = [s for s in found if not s.drop and s.shape in ("text", "completion", "messages")]
        train = [s for s in known if s.split == "train"]
        own = [s for s in train if s.source.origin != "generated"]
        if how == "answers":
            seeds = [s for s in own if s.shape != "text" and prompt_of(s).strip()]
        else:
            seeds = [s for s in own if answered(s)]
        if not seeds and how == "examples":
            seeds = [s for s in own if s.shape == "text"]
        if not seeds:
            kind = "no requests" if how != "examples" else "no texts and no requests with answers"
            fix = "Give records with `prompt` and `completion`, or set how: examples." if own else "Give a train split."
            raise DataError(f"the training records hold {kind} that no model wrote.", where=run.step, fix=fix)
        return cls(seeds, known, len(own), len(train) - len(own))


def _made(run: Run, writing: Writing, bounds: Bounds, pool: Pool, count: int, room: int | None) -> list[Sample]:
    """Records of up to `count` drafts, in rounds; no more rounds than fill the room."""
    generations = writing.wish.generations
    size = _ROUND // generations * generations  # whole chains
    whole = writing.wish.how == "answers"
    made: list[Sample] = []
    stop = 0
    with run.progress("drafts", count, "drafts") as bar:
        while stop < count:
            start, left = stop, size if room is None else room - sum(not record.drop for record in made)
            stop = min(start + min(size, -(-left // generations) * generations), count)
            drafts = writing.drafts(range(start, stop))
            records = [writing.record(draft) for draft in drafts]
            seeds = [draft.parents[0] for draft in drafts]
            bounds.judge(records, seeds if whole else records)
            made += records
            bar.advance(stop - start)
            if writing.asking.ended:
                run.say(f"the limit of tokens is reached: {len(made):,} of {count:,} records were tried")
                break
            if room is not None and sum(not record.drop for record in made) >= room:
                drop_repeats(run, made, pool.known, whole=whole)
                if sum(not record.drop for record in made) >= room:
                    run.say(f"the plan allows {room:,} generated records (goal.generated): no more are asked for")
                    break
    return made


def _kinds(run: Run, made: Sequence[Sample]) -> dict[str, Any]:
    """How the kept records were made and under which licences; how far draws agreed, as a figure."""
    kept = [sample for sample in made if not sample.drop]
    shares = [float(sample.attrs["agreement"]) for sample in made if "agreement" in sample.attrs]
    if shares:
        run.score(Score.exact("agreement", sum(shares) / len(shares), n=len(shares), note="mean share of the draws"))
    ways = Counter(str(sample.attrs["way"]) for sample in kept)
    return {"ways": dict(sorted(ways.items())), "licences": sorted({sample.source.licence for sample in kept})}
