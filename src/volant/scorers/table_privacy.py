"""How much of the training rows shows through: copies, and attacks that ask "was this row in the training data?"

`closest_share`, the share of outputs that lie closer to a training row than to any reference (DCR share). Training
rows and references are real rows alike, so an output that was not made from a certain row is as likely near to the
one as to the other: 0.5 is best, 1.0 is a copier. The larger of both sets would win by its size; so an output's value
is the probability that a training row wins against the references when as many of each are drawn, counted exactly
instead of drawn. Ties count half. `exact_copies` comes along: outputs that are a training row in all columns, with
the share of references that happen to be one beside it.

`membership`, the attack of someone who sees the outputs only and holds a row: the nearer an output, the more likely it
was in the training data (distance-based, as in Chen et al. 2020, GAN-Leaks). The score is its area under the curve on
training rows against references, 0.5 is best. `membership_found` comes along: training rows that it names when it may
be wrong on one reference in a hundred; means hide that a few rows are given away (Carlini et al. 2022).

Neither proves privacy; both show its breach. References have to be rows that the model has not seen.

Shape legend: N outputs (and references), T training rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volant.core.sample import Sample
from volant.core.score import Direction
from volant.scorers.measure import mean_score
from volant.scorers.table_distance import SAME, Placed, blocks, nearest, placed
from volant.scorers.table_figures import Floats, placements, share, spread_over
from volant.scorers.table_rows import LEANS_ON, Ints, Measured, RowScoring, Sides, drawn, equal_rows

MOST_ROWS = 5000  # of the training rows and of the references in distances; drawn by a fixed seed beyond
FALSE_ALARMS = 0.01


class ClosestShare(RowScoring):
    """See the module."""

    name = "closest_share"
    bar = "<= 0.6"  # fresh real rows come to 0.5, trees with leaves of five to 0.64
    direction: Direction = "lower"
    ladder = "memorisation"
    least = 1
    needs_training = True
    leans_on = (*LEANS_ON, "volant.scorers.table_distance")

    def measure(self, sides: Sides) -> Measured:
        """The share, and the exact copies."""
        assert sides.training_TC is not None
        training, references = (drawn(rows, MOST_ROWS) for rows in (sides.training_TC, sides.references_NC))
        values = [float(v) for v in closer(sides, sides.outputs_NC, training, references)]
        note = f"{len(training)} training rows against {len(references)} references; 0.5: no nearer to the former"
        first = mean_score(self.name, values, direction="lower", note=note, binary=True)
        copies = equal_rows(sides.outputs_NC, sides.training_TC)
        real = equal_rows(sides.references_NC, sides.training_TC).mean()
        note = f"outputs that are a training row; of the references {real:.4f} are"
        return Measured(values, [first, share("exact_copies", copies, note)])


class Membership(RowScoring):
    """See the module."""

    name = "membership"
    direction: Direction = "lower"
    ladder = "memorisation"
    needs_training = True
    leans_on = (*LEANS_ON, "volant.scorers.table_distance")

    def measure(self, sides: Sides) -> Measured:
        """The attack's area under the curve, and what it finds at few false alarms."""
        assert sides.training_TC is not None
        outputs = placed(sides.outputs_NC, sides)
        inside = _rounded(nearest(placed(drawn(sides.training_TC, MOST_ROWS), sides), outputs))
        outside = _rounded(nearest(placed(sides.references_NC, sides), outputs))
        # A reference that lies farther than a training row is told apart from it.
        placed_N, placed_T = placements(outside, inside), 1 - placements(inside, outside)
        values = [float(v) for v in placed_N + spread_over(placed_T, len(placed_N))]
        note = "area under the curve of the attack by distance; 0.5: members look like others"
        allowed = np.sort(outside)[int(FALSE_ALARMS * len(outside))]
        found = share(
            "membership_found", inside < allowed, f"training rows found at {FALSE_ALARMS:.0%} false alarms or fewer"
        )
        return Measured(values, [self.figure(values, note), found.model_copy(update={"n": min(found.n, len(values))})])


def closest_share(*, training: Sequence[Sample] | None = None) -> ClosestShare:
    """The scorer; `training` is what the model was trained on."""
    return ClosestShare(training)


def membership(*, training: Sequence[Sample] | None = None) -> Membership:
    """The scorer; `training` is what the model was trained on."""
    return Membership(training)


def closer(sides: Sides, outputs: Floats, training: Floats, references: Floats) -> Floats:
    """For each output, how likely a training row is nearer than all references when as many of each are drawn [N].

    With m rows drawn of a set of s, of which k are near enough, none of the k is drawn with probability
    C(s - k, m) / C(s, m). Where the sets are equally large this is 1, 0, or 0.5 in a tie.
    """
    rows, known, unseen = (placed(x, sides) for x in (outputs, training, references))
    if len(training) >= len(references):
        below, through = _counts(rows, known, nearest(rows, unseen))
        lost = _none_drawn(len(training), len(references), np.stack([below, through]))
        won: Floats = 1 - lost.mean(axis=0)
        return won
    below, through = _counts(rows, unseen, nearest(rows, known))
    kept: Floats = _none_drawn(len(references), len(training), np.stack([below, through])).mean(axis=0)
    return kept


def _counts(rows: Placed, others: Placed, limit_N: Floats) -> tuple[Ints, Ints]:
    """How many of the others lie nearer than the limit of each row, and how many at most as far."""
    below, through = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    for part, distances in blocks(rows, others):
        below[part] = (distances < limit_N[part, None] - SAME).sum(axis=1)
        through[part] = (distances <= limit_N[part, None] + SAME).sum(axis=1)
    return below, through


def _none_drawn(size: int, drawn: int, marked: Ints) -> Floats:
    """The probability that of `drawn` taken from `size` without replacement none is one of the `marked`."""
    from scipy.special import gammaln

    rest = size - marked
    chance = (
        gammaln(rest + 1) - gammaln(np.maximum(rest - drawn, 0) + 1) - gammaln(size + 1) + gammaln(size - drawn + 1)
    )
    found: Floats = np.where(rest >= drawn, np.exp(np.minimum(chance, 0.0)), 0.0)
    return found


def _rounded(distances: Floats) -> Floats:
    """Distances where equal ones are equal in spite of rounding."""
    rounded: Floats = np.round(distances / SAME) * SAME
    return rounded
