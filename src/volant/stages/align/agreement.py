"""How far what judges answers agrees with people, before its labels are used.

Enters: people's ratings of two answers to one prompt from the records, and what says by how much the first of the two
is ahead. Leaves: Cohen's kappa with its interval as a score, or a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from volant.core import Run, Sample
from volant.core.errors import GateRefused

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
    from volant.core.protocols import Output
    from volant.scorers.agreement import kappa_score
    from volant.scorers.measure import prompt_of

    samples = {prompt_of(s): s for s in known}
    rows = _rows(run, samples)
    if not rows:
        run.say(f"nobody rated answers to these prompts: how far {what} agree with people is not known")
        return
    first, second = ([Output(str(row[side])) for row in rows] for side in ("a", "b"))
    ahead = lead((first, second, [samples[str(row["prompt"])] for row in rows]))
    chosen = ["a" if x > 0 else "b" if x < 0 else "tie" for x in ahead]
    note = f"{what} against people's choices; their ties count as disagreement"
    score = kappa_score([str(row["choice"]) for row in rows], chosen, seed=run.seed, note=note)
    run.score(score)
    run.say(f"kappa of {what} with people: {score.value:.2f} [{score.low:.2f}, {score.high:.2f}], n = {score.n}")
    if score.n >= 10 and score.value < least:
        said = f"{what} agree with people by a kappa of {score.value:.2f}, less than {least:g}."
        raise GateRefused(said, where=run.step, fix="Judge by something else, or take people's ratings alone.")


def _rows(run: Run, samples: Mapping[str, Sample]) -> list[dict[str, Any]]:
    """Ratings in which a person chose, of two answers to a prompt that is known."""
    if run.records is None:
        return []
    return [
        row for row in run.records.ratings(run.snapshot("ratings"))
        if row["choice"] in ("a", "b") and row["a"] != row["b"] and str(row["prompt"]) in samples
    ]  # fmt: skip
