"""Votes weighed by agreement: better than the plain majority, with accuracies that are near the truth."""

import numpy as np
import pytest

from volant.scorers.voting import elect, majority


def voters(seed, n=1500, classes=3, accuracies=(0.9, 0.85, 0.55, 0.5, 0.5, 0.45), coverage=0.7):
    """Voters of several classes, each silent at random."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, n)
    cast = np.full((n, len(accuracies)), -1)
    for column, accuracy in enumerate(accuracies):
        said = np.where(random.random(n) < accuracy, truth, (truth + random.integers(1, classes, n)) % classes)
        cast[:, column] = np.where(random.random(n) < coverage, said, -1)
    return truth, cast


def rules(seed, n=1500, share=0.5):
    """Rules of one class each: (class, how often they fire on it, and on the other)."""
    random = np.random.default_rng(seed)
    truth = (random.random(n) < share).astype(int)
    kinds = [(1, 0.6, 0.02), (1, 0.4, 0.1), (1, 0.3, 0.2), (0, 0.5, 0.1), (0, 0.4, 0.05), (0, 0.3, 0.2)]
    cast = np.full((n, len(kinds)), -1)
    for column, (label, fires, wrongly) in enumerate(kinds):
        cast[random.random(n) < np.where(truth == label, fires, wrongly), column] = label
    return truth, cast


def right(found, truth, cast):
    heard = (cast >= 0).any(1)
    return float((found == truth)[heard].mean())


@pytest.mark.parametrize("seed", range(3))
def test_good_voters_outweigh_many_bad_ones(seed):
    truth, cast = voters(seed)
    found = elect(cast, 3)
    assert right(found.winners, truth, cast) > right(majority(cast, 3).argmax(1), truth, cast) + 0.05
    assert found.accuracies == pytest.approx([0.9, 0.85, 0.55, 0.5, 0.5, 0.45], abs=0.07)
    assert found.probabilities.sum(1) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.3, 0.5])
def test_rules_of_one_class_do_not_settle_on_one_class_for_everything(seed, share):
    truth, cast = rules(seed, share=share)
    found = elect(cast, 2)
    assert right(found.winners, truth, cast) > right(majority(cast, 2).argmax(1), truth, cast) + 0.01
    assert 0.2 < (found.winners == 1)[(cast >= 0).any(1)].mean() < 0.8


def test_probabilities_mean_what_they_say():
    truth, cast = voters(5, n=6000)
    found = elect(cast, 3)
    for low in (0.5, 0.7, 0.9):
        here = (found.sure >= low) & (found.sure < low + 0.1)
        assert (found.winners == truth)[here].mean() == pytest.approx(found.sure[here].mean(), abs=0.08)


def test_what_is_known_is_kept_and_teaches():
    truth, cast = voters(1, n=400)
    known = np.where(np.arange(400) < 200, truth, -1)
    found = elect(cast, 3, known=known)
    assert (found.winners[:200] == truth[:200]).all() and (found.sure[:200] == 1).all()
    assert right(found.winners[200:], truth[200:], cast[200:]) >= right(
        elect(cast, 3).winners[200:], truth[200:], cast[200:]
    )


def test_one_voter_and_none():
    alone = elect(np.array([[0], [1], [-1]]), 2)
    assert list(alone.winners[:2]) == [0, 1]
    assert elect(np.full((3, 1), -1), 2).sure == pytest.approx(0.5)
    assert elect(np.zeros((0, 2), np.int64), 2).probabilities.shape == (0, 2)
