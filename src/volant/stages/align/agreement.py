"""How far what judges answers agrees with people, before its labels are used.

Enters: people's ratings of two answers to one prompt from the records, and what says by how much the first of the two
is ahead. Leaves: Cohen's kappa with its interval as a score, or a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from volant.core import Run, Sample
from volant.core.errors import DataError, GateRefused
from volant.core.sample import CONTENT_SHAPES, content_sample

if TYPE_CHECKING:
    from volant.core.protocols import Output

Sides = tuple[list["Output"], list["Output"], list[Sample]]
"""First answers, second answers, and the samples that they answer."""


def check_agreement(
    run: Run, known: Sequence[Sample], lead: Callable[[Sides], Sequence[float]], *, what: str, least: float
) -> None:
    """State Cohen's kappa between people's choices and a judge's on the same two answers.

    Args:
        run: its records hold the ratings.
        known: prompts; ratings of answers to others are passed over.
        lead: by how much the judge puts each first answer ahead of the second; 0 is a tie.
        what: judges, in the plural, for messages.
        least: the kappa that is enough.

    Raises:
        GateRefused: it is below `least`, over ten ratings or more.
    """
    from volant.scorers.agreement import kappa_score
    from volant.scorers.measure import prompt_of

    samples = {prompt_of(s): s for s in known}
    sides = _sides(run, samples)
    if not sides:
        run.say(f"nobody rated answers to these prompts: how far {what} agree with people is not known")
        return
    choices, first, second, asked = (list(column) for column in zip(*sides, strict=True))
    ahead = lead((first, second, asked))
    chosen = ["a" if x > 0 else "b" if x < 0 else "tie" for x in ahead]
    note = f"{what} against people's choices; their ties count as disagreement"
    score = kappa_score(choices, chosen, seed=run.seed, note=note)
    run.score(score)
    run.say(f"kappa of {what} with people: {score.value:.2f} [{score.low:.2f}, {score.high:.2f}], n = {score.n}")
    if score.n >= 10 and score.value < least:
        said = f"{what} agree with people by a kappa of {score.value:.2f}, less than {least:g}."
        raise GateRefused(said, where=run.step, fix="Judge by something else, or take people's ratings alone.")


def last_words(ratings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each rater the last rating of the same two answers to a prompt; it takes the place of the earlier ones."""
    last = {(*judged(row), str(row["rater"])): row for row in ratings}
    return list(last.values())


def judged(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What a rating is about, whichever answer stood first."""
    return str(row["prompt"]), *sorted((str(row["a"]), str(row["b"])))


def _sides(run: Run, samples: Mapping[str, Sample]) -> list[tuple[str, Output, Output, Sample]]:
    """Choice, both answers and the sample of ratings in which a person chose, of answers to a prompt that is known."""
    if run.records is None:
        return []
    found, unread = [], 0
    for row in last_words(run.records.ratings(run.snapshot("ratings"))):
        sample = samples.get(str(row["prompt"]))
        if sample is None or row["choice"] not in ("a", "b") or row["a"] == row["b"]:
            continue
        try:
            first, second = (_output(run.modality, sample, str(row[side])) for side in ("a", "b"))
        except DataError:
            unread += 1
            continue
        found.append((str(row["choice"]), first, second, sample))
    if unread:
        run.say(f"{unread} ratings are not of pictures or rows that can be read, and count in no kappa")
    return found


def _output(modality: str, sample: Sample, text: str) -> Output:
    """What was rated, as scorers take it.

    Raises:
        DataError: it is no picture and no row, where these are judged, or does not read.
    """
    from volant.core.protocols import Output
    from volant.modalities import open_modality
    from volant.scorers.measure import request_of

    if sample.shape not in CONTENT_SHAPES:
        return Output(text)
    content = content_sample(sample, text)
    if problems := open_modality(modality).check(content):
        raise DataError(f"it cannot be judged: {problems[0]}.", where=sample.source.uri)
    return Output(text, request_of(sample), sample=content)
