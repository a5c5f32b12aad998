"""Questions and answers from your own documents, each answer held against the passage that it was asked of.

Enters: a Dataset of plain texts and a Model (own or hosted). Leaves: pairs of question and answer, in the split of
their document, with the document as parent, origin `generated` and the licence of document and model. A pair stays
when its answer stands in the passage (word for word, or nearly all of its words and every number), and when the model,
asked the question with the passage, answers the same again. What fails is kept in `dropped/` with its figure.

Roundtrip check after Alberti et al., "Synthetic QA Corpora Generation with Roundtrip Consistency", 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Run, Sample
from volant.core.errors import DataError
from volant.core.sample import sample_id
from volant.stages.collect._asking import Answer, Asking, check_writer, failed, seed_of
from volant.stages.collect._generated import Terms, drop_over_cap, room_for, told, written
from volant.stages.collect._passages import (
    ASK,
    READ,
    Passage,
    asked_and_answered,
    passages,
    problem,
    same_answer,
    support,
)
from volant.stages.collect._sieve import drop_repeats

_ROUND = 64  # passages


@dataclass(frozen=True)
class _Place:
    """A passage, the document that it is of, and which question of it is asked."""

    document: Sample
    passage: Passage
    draw: int

    @property
    def name(self) -> str:
        return f"{self.document.id}/{self.passage.at}/{self.draw}"


def questions(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    count: Annotated[int, Field(ge=1, le=1_000_000)] = 64,
    words: Annotated[int, Field(ge=10, le=2000)] = 120,
    each: Annotated[int, Field(ge=1, le=16)] = 1,
    supported: Annotated[float, Field(ge=0, le=1)] = 0.8,
    round_trip: Annotated[float, Field(ge=0, le=1)] = 0.5,
    with_passage: bool = False,
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.7,
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 256,
    tokens: Annotated[int, Field(ge=0)] = 0,
    licence: str = "",
) -> Dataset:
    """Make questions and answers of documents.

    Args:
        model: that asks and answers; what it said is kept while the step runs, so that a killed run asks again for
            nothing.
        data: its plain texts are the documents; what the pairs are, is said under their splits.
        count: questions that are tried; passages are taken in an order that the seed gives.
        words: of a passage, about; longer ones give harder questions and cost more.
        each: questions tried of each passage.
        supported: share (0 to 1) of the answer's content words that the passage has to hold; below it the pair is
            dropped. 1 asks for all of them. A number that the passage does not hold counts as 0.
        round_trip: how far (0 to 1, F1 of the words) the model's answer to the question, with the passage before it,
            has to agree with the pair's; 0 does not ask, which halves the requests.
        with_passage: whether the prompt of a pair holds the passage too: for answering from given texts.
        temperature: of the questions; the check is asked at 0.
        max_tokens: the longest thing that the model may say, in tokens.
        tokens: most tokens, prompts and answers together, that the step may use; 0 sets no limit.
        licence: of what the model writes, where it states none itself (a hosted one: its service's terms).

    Raises:
        DataError: there is no document, or no pair can be kept.
        LicenceError: the terms of model or documents are unknown or forbid the goal's use.
        RemoteError: the service failed; the next run goes on with what it had answered.
    """
    from volant.store.dataset import rows

    check_writer(run, model)
    terms = Terms(run, model, licence)
    known = [run.remembered(sample) for sample in rows(data)]
    places = _places(run, [s for s in known if s.shape == "text" and not s.drop], words, each)[:count]
    train = [s for s in known if s.split == "train" and not s.drop]
    others = sum(s.source.origin != "generated" for s in train)
    room_for(run, others, len(train) - others)
    asking = Asking(run, model, most_tokens=tokens)
    talk = _Talk(run, asking, terms, model.digest, supported, round_trip, with_passage, temperature, max_tokens)
    try:
        asking.state(len(places) * (2 if round_trip else 1), max_tokens)
        made = talk.pairs(places)
    finally:
        asking.close()
    made.sort(key=lambda sample: ("test", "validation", "train").index(sample.split))  # held-out questions stay first
    drop_repeats(run, made, [s for s in known if s.shape != "text"], whole=False)
    drop_over_cap(run, made, others=others, there=len(train) - others)
    fix = "Look at what the model says, lower `supported` or `round_trip`, or take a model that can follow this."
    body = told(run, made, asking, terms, fix)
    kept = [sample for sample in made if not sample.drop]
    body["word_for_word"] = sum("answer_at" in sample.attrs for sample in kept)
    body["documents"] = len({sample.parents[0] for sample in kept})
    return written(run, made, "questions.json", body)


def _places(run: Run, documents: Sequence[Sample], words: int, each: int) -> list[_Place]:
    """Which passages are asked about, in order: an order by hash, so that a new document moves no other one."""
    places = [
        _Place(document, passage, draw)
        for document in documents for passage in passages(document.content or "", words) for draw in range(each)
    ]  # fmt: skip
    if not places:
        fix = f"Give plain texts of at least {max(3, words // 4)} words, or lower `words`."
        raise DataError("there is no passage to ask about.", where=run.step, fix=fix)
    return sorted(places, key=lambda place: (place.draw, sample_id(str(run.seed), place.name)))


@dataclass(frozen=True)
class _Talk:
    """Asks a model about passages, and again with the passage before it; the settings are those of `questions`."""

    run: Run
    asking: Asking
    terms: Terms
    digest: str
    supported: float
    round_trip: float
    with_passage: bool
    temperature: float
    max_tokens: int

    def pairs(self, places: Sequence[_Place]) -> list[Sample]:
        """A pair of each place, in rounds, until the limit of tokens is reached."""
        made: list[Sample] = []
        with self.run.progress("passages", len(places), "passages") as bar:
            for start in range(0, len(places), _ROUND):
                part = places[start : start + _ROUND]
                asked = self._asked(part)
                made += self._again(asked) if self.round_trip else [one for _, one in asked]
                bar.advance(len(part))
                if self.asking.ended:
                    told = f"{len(made):,} of {len(places):,} questions were tried"
                    self.run.say(f"the limit of tokens is reached: {told}")
                    break
        return made

    def _asked(self, places: Sequence[_Place]) -> list[tuple[_Place, Sample]]:
        """Ask for a question of each place, and hold its answer against the passage."""
        from volant.core.protocols import Request

        requests = [
            Request(id=place.name, messages=({"role": "user", "content": ASK.format(passage=place.passage.text)},),
                    seed=seed_of(self.run, place.name), temperature=self.temperature, max_tokens=self.max_tokens)
            for place in places
        ]  # fmt: skip
        found = self.asking.ask(requests)
        return [(place, self._record(place, found[place.name])) for place in places if place.name in found]

    def _record(self, place: _Place, answer: Answer) -> Sample:
        document, passage = place.document, place.passage
        question, target = asked_and_answered(answer.text)
        share, spot = support(target, passage.text)
        drop = failed(answer, self.max_tokens) or problem(question, target, passage.text)
        if not drop and share < self.supported:
            drop = f"unsupported: {share:.2f} of the answer in the passage against {self.supported:.2f}"
        attrs: dict[str, Any] = {
            "model": self.digest, "passage_at": passage.at, "passage_characters": len(passage.text),
            "seed": self.run.seed, "support": round(share, 4), "question": question,
        }  # fmt: skip
        if spot >= 0:
            attrs["answer_at"] = passage.at + spot
        source = self.terms.source([document], "collect.questions", f"at={passage.at}", f"draw={place.draw}")
        return Sample(
            id=sample_id("questions", self.digest, place.name, question, target), shape="completion",
            condition=f"{passage.text}\n\n{question}" if self.with_passage and question else question, target=target,
            split=document.split, group=document.group or document.id, parents=[document.id], attrs=attrs,
            source=source, drop=drop,
        )  # fmt: skip

    def _again(self, pairs: Sequence[tuple[_Place, Sample]]) -> list[Sample]:
        """Ask each question again with its passage before it; one that was not asked again is left out."""
        from volant.core.protocols import Request

        open_ones = [(place, one) for place, one in pairs if not one.drop]
        texts = [READ.format(passage=place.passage.text, question=one.attrs["question"]) for place, one in open_ones]
        requests = [
            Request(id=f"again/{place.name}", messages=({"role": "user", "content": text},), max_tokens=self.max_tokens)
            for text, (place, _) in zip(texts, open_ones, strict=True)
        ]
        found = self.asking.ask(requests)
        kept = []
        for place, one in pairs:
            answer = found.get(f"again/{place.name}")
            if not one.drop and answer is None:
                continue
            if not one.drop and answer is not None:
                share = 0.0 if failed(answer, self.max_tokens) else same_answer(one.target or "", answer.text)
                one.attrs["round_trip"] = round(share, 4)
                if share < self.round_trip:
                    one.drop = f"round_trip: {share:.2f} against {self.round_trip:.2f}"
            kept.append(one)
        return kept
