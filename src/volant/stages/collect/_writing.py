"""Drafts of new records: what a model is asked for each, and the record that its answers make.

Enters: seeds, what is asked and how, an open model. Leaves: drafts in the order of their numbers, each with its text or
the reason why there is none, and of each the Sample with its parents. A draft's request has a seed of its own, so that
no draft depends on how many others there are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from volant.core import Run, Sample
from volant.core.sample import sample_id
from volant.stages.collect._agreement import agreed
from volant.stages.collect._asking import Answer, Asking, failed, seed_of
from volant.stages.collect._evolution import WAYS, further, malformed, refused, rewriting, shown_text, taken
from volant.stages.collect._generated import Terms

if TYPE_CHECKING:
    from volant.core.protocols import Request


@dataclass(frozen=True)
class Wish:
    """What is asked: the settings of `collect.synthesize` that the model feels."""

    how: str
    instructions: str
    examples: int
    generations: int
    draws: int
    agree: float
    decides: str
    temperature: float
    max_tokens: int

    def most_requests(self, count: int) -> int:
        """How many requests so many drafts take at most."""
        return count * (self.draws + (self.how != "answers"))

    def request(self, run: Run, id: str, turns: Sequence[dict[str, str]]) -> Request:
        """One request, with the instructions before it and a seed of its own."""
        from volant.core.protocols import Request

        before = [{"role": "system", "content": self.instructions}] if self.instructions else []
        return Request(
            id=id, messages=(*before, *turns), max_tokens=self.max_tokens, temperature=self.temperature,
            seed=seed_of(run, id),
        )  # fmt: skip


@dataclass
class Draft:
    """A record on its way: what it is made from, what the model is asked for it, and what came of it."""

    number: int
    parents: list[Sample]
    way: str
    turns: list[dict[str, str]] = field(default_factory=list)
    text: str = ""
    share: float | None = None
    problem: str = ""


class Writing:
    """Makes drafts of seeds and records of drafts."""

    def __init__(
        self, run: Run, wish: Wish, asking: Asking, terms: Terms, digest: str, seeds: Sequence[Sample]
    ) -> None:
        from volant.store.order import Order, sub_seed

        self.run, self.wish, self.asking, self.terms, self.digest, self.seeds = run, wish, asking, terms, digest, seeds
        self.texts = wish.how == "examples" and seeds[0].shape == "text"
        self._order = Order(len(seeds), sub_seed(run.seed, 1))

    def drafts(self, numbers: range) -> list[Draft]:
        """Drafts of these numbers, asked for and answered; what the limit of tokens kept back is not there."""
        wish = self.wish
        if wish.how == "evolve":
            return self._evolved(numbers)
        drafts = []
        for number in numbers:
            # The next seeds of one order for each draft: every seed is shown as often as the others.
            many = min(wish.examples, len(self.seeds)) if wish.how == "examples" else 1
            drawn = self._order.at([number * many + place for place in range(many)]).tolist()
            drafts.append(Draft(number, [self.seeds[at] for at in dict.fromkeys(drawn)], wish.how))
        if wish.how == "answers":
            for draft in drafts:
                draft.turns = _turns(draft.parents[0])
            return self._answered(drafts)
        drafts = self._new(drafts, lambda draft: further([shown_text(s) for s in draft.parents], texts=self.texts))
        if self.texts:
            return drafts
        for draft in drafts:
            shown = [turn for parent in draft.parents for turn in parent.messages]
            draft.turns = [] if draft.problem else [*shown, _user(draft.text)]
        return self._answered(drafts)

    def record(self, draft: Draft) -> Sample:
        """The record of a draft; one with a problem is dropped for it."""
        text = draft.text if draft.turns else ""
        fields: dict[str, Any] = {"shape": "completion", "target": text}
        fields["condition"] = draft.turns[-1]["content"] if draft.turns else draft.text
        if self.texts:
            fields = {"shape": "text", "content": draft.text}
        elif self.wish.how == "answers" and len(draft.turns) > 1:
            turns = [*draft.turns, {"role": "assistant", "content": draft.text}]
            fields = {"shape": "messages", "content": json.dumps(turns, ensure_ascii=False)}
        attrs: dict[str, Any] = {"model": self.digest, "way": draft.way, "draft": draft.number, "seed": self.run.seed}
        if draft.share is not None:
            attrs["agreement"] = round(draft.share, 4)
        parents = [parent.id for parent in draft.parents]
        said = [str(fields.get(name) or "") for name in ("condition", "content", "target")]
        return Sample(
            id=sample_id("synthesize", self.digest, *parents, str(draft.number), *said), **fields,
            source=self.terms.source(draft.parents, "collect.synthesize", f"how={draft.way}", f"draft={draft.number}"),
            split="train", group=draft.parents[0].group or draft.parents[0].id, parents=parents, attrs=attrs,
            drop=draft.problem,
        )  # fmt: skip

    def _evolved(self, numbers: range) -> list[Draft]:
        """Chains: draft `number` is generation `number % generations` of chain `number // generations`."""
        many, ways = self.wish.generations, list(WAYS)
        made: list[Draft] = []
        last: dict[int, Draft] = {}
        for generation in range(many):
            drafts = []
            for number in numbers:
                chain = number // many
                if number % many != generation or (generation and chain not in last):
                    continue  # what could not be read is not rewritten
                before = last.get(chain)
                parent = self.record(before) if before else self.seeds[int(self._order.at([chain])[0])]
                drafts.append(Draft(number, [parent], ways[seed_of(self.run, "way", number) % len(ways)]))
            drafts = self._new(drafts, lambda draft: rewriting(shown_text(draft.parents[0]), draft.way))
            for draft in drafts:
                draft.turns = [] if draft.problem else [_user(draft.text)]
            drafts = self._answered(drafts)
            last = {draft.number // many: draft for draft in drafts if not draft.problem}
            made += drafts
        return sorted(made, key=lambda draft: draft.number)

    def _new(self, drafts: list[Draft], asked: Callable[[Draft], str]) -> list[Draft]:
        """Ask for each draft's new request or text; drafts that were not asked for are left out."""
        requests = [self.wish.request(self.run, f"new/{d.number}", [_user(asked(d))]) for d in drafts]
        found = self.asking.ask(requests)
        kept = []
        for draft in drafts:
            answer = found.get(f"new/{draft.number}")
            if answer is None:
                continue
            draft.text = taken(answer.text)
            shown = [shown_text(parent) for parent in draft.parents]
            draft.problem = failed(answer, self.wish.max_tokens) or malformed(draft.text, shown)
            kept.append(draft)
        return kept

    def _answered(self, drafts: list[Draft]) -> list[Draft]:
        """Have each draft's request answered, several times where draws have to agree."""
        wish = self.wish
        requests = [
            wish.request(self.run, f"answer/{draft.number}/{draw}", draft.turns)
            for draft in drafts if not draft.problem for draw in range(wish.draws)
        ]  # fmt: skip
        found = self.asking.ask(requests)
        kept = []
        for draft in drafts:
            names = [f"answer/{draft.number}/{draw}" for draw in range(wish.draws)]
            if draft.problem:
                kept.append(draft)
            elif all(name in found for name in names):
                kept.append(self._decided(draft, [found[name] for name in names]))
        return kept

    def _decided(self, draft: Draft, answers: Sequence[Answer]) -> Draft:
        wish = self.wish
        problems = [failed(answer, wish.max_tokens) for answer in answers]
        texts = [answer.text.strip() for answer, bad in zip(answers, problems, strict=True) if not bad]
        if not texts:
            return replace(draft, text="", problem=problems[0])
        at, share = agreed(texts, wish.decides, of=len(answers))
        problem = ""
        if refused(texts[at]):
            problem = "malformed: the model refused against an answer"
        elif wish.decides and not share:
            problem = "undecided: no draw holds the part that decides against one"
        elif wish.draws > 1 and share < wish.agree:
            problem = f"disagreement: {share:.2f} of {len(answers)} draws against {wish.agree:.2f}"
        return replace(draft, text=texts[at], share=share if wish.draws > 1 else None, problem=problem)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _turns(sample: Sample) -> list[dict[str, str]]:
    """What a record asks: its turns up to the last answer."""
    from volant.scorers.measure import request_of

    return [dict(turn) for turn in request_of(sample).messages]
