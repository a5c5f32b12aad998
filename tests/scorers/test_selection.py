"""Which record to label next: each way keeps its promise, by seed, and never asks for what is labelled."""

import numpy as np
import pytest

from volant.scorers.selection import ASIDE, HOW, OPEN, pick


def blobs(each=(60, 30, 10), seed=0):
    """Three heaps of records on a circle, and which heap each is of."""
    random = np.random.default_rng(seed)
    heap = np.repeat(np.arange(len(each)), each)
    angle = 2 * np.pi * heap / len(each) + random.normal(0, 0.12, len(heap))
    return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32), heap


@pytest.mark.parametrize("how", HOW)
def test_the_same_labels_and_seed_give_the_same_open_records(how):
    features, heap = blobs()
    labels = np.full(len(heap), OPEN)
    labels[:5], labels[60:65], labels[70:80] = 0, 1, ASIDE
    chosen = pick(features, labels, 3, 12, how=how, seed=4)
    assert len(set(chosen.tolist())) == 12 and (labels[chosen] == OPEN).all()
    assert chosen.tolist() == pick(features, labels, 3, 12, how=how, seed=4).tolist()
    everything = pick(features, labels, 3, 1000, how=how, seed=4)
    assert sorted(everything.tolist()) == np.flatnonzero(labels == OPEN).tolist()
    assert pick(features[:0], labels[:0], 3, 5, how=how).tolist() == []
    assert len(pick(features, np.full(len(heap), ASIDE), 3, 5, how=how)) == 0


def test_seeds_give_other_random_records():
    features, heap = blobs()
    labels = np.full(len(heap), OPEN)
    draws = [pick(features, labels, 3, 100, how="random", seed=seed).tolist() for seed in (1, 2)]
    assert draws[0] != draws[1] and draws[0] != sorted(draws[0])


@pytest.mark.parametrize("how", ["diverse", "mixed"])
def test_without_a_label_one_of_each_heap_comes_first(how):
    features, heap = blobs()
    chosen = pick(features, np.full(len(heap), OPEN), 3, 3, how=how)
    assert set(heap[chosen].tolist()) == {0, 1, 2}
    labels = np.full(len(heap), OPEN)
    labels[heap == 0] = 0  # nothing of one class alone tells two apart: what is not stood for yet comes next
    assert set(heap[pick(features, labels, 3, 2, how=how)].tolist()) == {1, 2}


def test_uncertain_asks_at_the_border_and_mixed_not_for_the_same_twice():
    at = np.linspace(-1, 1, 201)
    features = np.stack([at, np.ones_like(at)], 1).astype(np.float32)
    labels = np.full(len(at), OPEN)
    labels[:20], labels[-20:] = 0, 1
    assert np.abs(at[pick(features, labels, 2, 5, how="uncertain")]).max() < 0.25
    twins = np.concatenate([features, np.repeat(features[[100]], 30, 0)])
    more = np.concatenate([labels, np.full(30, OPEN)])
    same = [(np.abs(twins[pick(twins, more, 2, 8, how=how), 0]) < 1e-6).sum() for how in ("uncertain", "mixed")]
    assert same[1] < same[0]
