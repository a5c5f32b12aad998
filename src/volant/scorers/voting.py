"""One label from many votes: voters weighted by how they agree, without one record whose truth is known.

Votes enter as class indices, -1 where a voter abstains; the probability of each class leaves, with an estimate of each
voter's accuracy. The model is Dawid and Skene's (1979), fitted by expectation and maximisation: given the true class,
what each voter says has a table of its own. A voter of several classes says nothing by its silence. A rule that only
ever says one class (Ratner et al. 2016 call it unipolar) says all that it knows by when it is silent, so for it silence
is an outcome too; without that, rules of two classes come to agree that everything is one of them.

Shape legend: n records, m voters, k classes, o = k + 1 outcomes (the last is silence).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Votes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ABSTAINS = -1
_ROUNDS = 300
_STILL = 1e-7  # the largest change of a probability at which the fit ends
_BELIEF = 0.7  # of its votes that a voter is believed to cast rightly before its first one
_STRENGTH = 10.0  # how many records of each class that belief weighs


@dataclass(frozen=True)
class Election:
    """What the votes come to.

    Attributes:
        probabilities: of each class, float [n, k].
        accuracies: how often each voter is right where it speaks, float [m]; 0 for one that never does.
        shares: of the classes, float [k].
    """

    probabilities: Floats
    accuracies: Floats
    shares: Floats

    @property
    def winners(self) -> Votes:
        """The most probable class, int [n]; the first of equals."""
        return np.asarray(self.probabilities.argmax(1), np.int64)

    @property
    def sure(self) -> Floats:
        """Its probability, float [n]."""
        return np.asarray(self.probabilities.max(1), np.float64)


def majority(votes_NM: Votes, classes: int) -> Floats:
    """The share of the votes for each class, float [n, k]; even where nobody votes."""
    counts = np.stack([(votes_NM == value).sum(1) for value in range(classes)], 1).astype(np.float64)
    total = counts.sum(1, keepdims=True)
    return np.where(total > 0, counts / np.where(total > 0, total, 1.0), 1.0 / classes)


def elect(
    votes_NM: Votes, classes: int, *, known: Votes | None = None, shares: Sequence[float] | None = None
) -> Election:
    """Weigh voters by their agreement and give each record the probabilities of its classes.

    Args:
        votes_NM: int [n, m], a class below `classes`, or -1.
        classes: how many there are.
        known: the class of each record where it is certain, else -1; int [n].
        shares: of the classes, where they are known; else those of the plain majority. They are not fitted along.

    Returns:
        The probabilities and accuracies. One voter alone has nobody to agree with: its belief stays.
    """
    fixed = np.full(len(votes_NM), ABSTAINS) if known is None else known
    posterior = _with_known(majority(votes_NM, classes), fixed)
    said_NMO = _outcomes(votes_NM, classes)
    heard = (votes_NM != ABSTAINS).any(1) | (fixed != ABSTAINS)
    expected = posterior[heard].sum(0) + 1.0 if shares is None else np.asarray(shares, np.float64)
    expected = expected / expected.sum()
    belief_MKO = _beliefs(said_NMO, expected)
    for _ in range(_ROUNDS):
        table_MKO = np.einsum("nk,nmo->mko", posterior, said_NMO, optimize=True) + _STRENGTH * belief_MKO
        table_MKO /= table_MKO.sum(2, keepdims=True)
        after = _with_known(_posterior(said_NMO, table_MKO, expected), fixed)
        moved = float(np.abs(after - posterior).max(initial=0.0))
        posterior = after
        if moved < _STILL:
            break
    return Election(posterior, _accuracies(votes_NM, posterior), expected)


def _outcomes(votes_NM: Votes, classes: int) -> Floats:
    """What each voter said as indicators, float [n, m, o]; the silence of a voter of several classes is no outcome."""
    said = np.stack([votes_NM == value for value in [*range(classes), ABSTAINS]], 2).astype(np.float64)
    several = said[:, :, :classes].any(0).sum(1) > 1
    said[:, several, classes] = 0.0
    return said


def _beliefs(said_NMO: Floats, shares_K: Floats) -> Floats:
    """What each voter is believed to say of each class, float [m, k, o]: as often as it does, and rightly at 0.7."""
    classes = len(shares_K)
    right = np.where(np.eye(classes) > 0, _BELIEF, (1 - _BELIEF) / max(classes - 1, 1))
    often_MO = said_NMO.mean(0) if len(said_NMO) else np.zeros(said_NMO.shape[1:])
    found = np.zeros((said_NMO.shape[1], classes, classes + 1))
    for voter, often in enumerate(often_MO):
        if often[classes] == 0:  # it always speaks, or its silence says nothing
            found[voter, :, :classes] = right
            continue
        found[voter, :, :classes] = right * often[:classes] / np.maximum(shares_K, 1e-3)[:, None]
        found[voter, :, classes] = np.maximum(1 - found[voter, :, :classes].sum(1), 0.02)
    found += 1e-6
    return np.asarray(found / found.sum(2, keepdims=True))


def _posterior(said_NMO: Floats, table_MKO: Floats, shares_K: Floats) -> Floats:
    logs = np.log(shares_K) + np.einsum("nmo,mko->nk", said_NMO, np.log(table_MKO), optimize=True)
    logs -= logs.max(1, keepdims=True)
    weights = np.exp(logs)
    return np.asarray(weights / weights.sum(1, keepdims=True))


def _accuracies(votes_NM: Votes, posterior_NK: Floats) -> Floats:
    spoken = votes_NM != ABSTAINS
    chosen = np.take_along_axis(posterior_NK, np.maximum(votes_NM, 0), axis=1)  # probability of what was voted for
    count = spoken.sum(0)
    return np.where(count > 0, np.where(spoken, chosen, 0.0).sum(0) / np.maximum(count, 1), 0.0)


def _with_known(posterior_NK: Floats, known_N: Votes) -> Floats:
    sure = known_N != ABSTAINS
    if sure.any():
        posterior_NK = posterior_NK.copy()
        posterior_NK[sure] = 0.0
        posterior_NK[sure, known_N[sure]] = 1.0
    return posterior_NK
