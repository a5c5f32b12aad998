"""Which labels are wrong: confident learning, from what a classifier says of records that it has not learnt from.

Held-out probabilities and the labels as they stand enter; the suspects leave, the likeliest first, with an estimate of
how many labels of each class are really of another. A record counts as of a class where its probability reaches what
records of that label have on average, so that a class that the classifier is shy of is not suspected as a whole.
Source: Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels" (JAIR 2021). Of its
rules this takes the confident joint's off-diagonal, and asks in addition that the classifier itself prefers the other
class; suspects are ranked by the normalised margin.

Shape legend: n records, k classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Verdict:
    """What confident learning says of a set of labels.

    Attributes:
        suspects: indices of the records whose labels are probably wrong, the likeliest first.
        suggested: for every record the class that it is taken for; its label where it is none, int [n].
        margins: how much likelier the suggested class is than the label, -1 to 1, float [n].
        thresholds: what a record's probability has to reach to count as of a class, float [k].
        joint: the share of all records that are labelled i and really j, float [k, k]; adds up to 1.
    """

    suspects: Classes
    suggested: Classes
    margins: Floats
    thresholds: Floats
    joint: Floats

    @property
    def noise(self) -> float:
        """The estimated share of wrong labels."""
        return float(1.0 - np.trace(self.joint))


def judge(probabilities_NK: Floats, labels_N: Classes, *, margin: float = 0.0) -> Verdict:
    """Find the labels that are probably wrong.

    Args:
        probabilities_NK: of each class, from classifiers that have not learnt from the record.
        labels_N: as they stand; every class has at least one record.
        margin: how much likelier another class has to be (0 to 1) for a label to be suspected.
    """
    count, classes = probabilities_NK.shape
    own = probabilities_NK[np.arange(count), labels_N]
    thresholds = np.array([own[labels_N == k].mean() for k in range(classes)])
    reached = probabilities_NK >= thresholds - 1e-12
    counted = np.where(reached, probabilities_NK, -1.0).argmax(1)
    known = reached.any(1)
    taken = np.where(known, counted, labels_N)
    margins = probabilities_NK[np.arange(count), taken] - own
    suspected = np.flatnonzero((taken != labels_N) & (probabilities_NK.argmax(1) == taken) & (margins > margin))
    order = suspected[np.lexsort((suspected, -margins[suspected]))]
    return Verdict(order, taken, margins, thresholds, _joint(labels_N[known], counted[known], labels_N, classes))


def _joint(labels: Classes, counted: Classes, every: Classes, classes: int) -> Floats:
    """Counts of labelled i and counted as j, each row scaled to the share of records that have the label."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, counted), 1.0)
    empty = counts.sum(1) == 0
    counts[empty, empty] = 1.0
    shares = np.bincount(every, minlength=classes) / len(every)
    return np.asarray(counts / counts.sum(1, keepdims=True) * shares[:, None])
