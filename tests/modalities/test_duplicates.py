"""Sketches, banding in memory and on disk, clusters, and what is found at 3 % of words changed."""

import random

import numpy as np
import pytest

from volant.modalities import minhash
from volant.modalities.banding import candidate_pairs
from volant.modalities.duplicates import near_clusters, near_duplicates, near_signatures, text_clusters
from volant.modalities.linking import meeting
from volant.modalities.shingle_sets import shingle_sets
from volant.modalities.text_features import word_hashes

DICE = random.Random(11)
VOCABULARY = [f"w{i}" for i in range(4000)]


def prose(count):
    return [DICE.choice(VOCABULARY) for _ in range(count)]


def edited(words, share):
    """Exactly that share of the words replaced, left out or put in."""
    out = list(words)
    for at in sorted(DICE.sample(range(len(words)), max(1, int(share * len(words)))), reverse=True):
        kind = DICE.random()
        if kind < 0.6:
            out[at] = "changed"
        elif kind < 0.8:
            del out[at]
        else:
            out.insert(at, "more")
    return out


@pytest.fixture(scope="module")
def families():
    """200 texts of 40 to 400 words, each with one copy at 3 %, and one at 30 % that is none."""
    base = [prose(DICE.randint(40, 400)) for _ in range(200)]
    near, far = [edited(w, 0.03) for w in base], [edited(w, 0.3) for w in base]
    return [" ".join(w) for w in [*base, *near, *far]]


def test_the_banding_finds_what_it_says():
    assert minhash.found_share(0.752, 14, 8) == pytest.approx(0.78, abs=0.01)
    bands, rows = minhash.bands_for(minhash.NEAR)
    assert bands * rows <= minhash.LENGTH and minhash.found_share(0.75, bands, rows) > 0.9999
    assert minhash.found_share(minhash.NEAR, bands, rows) >= 0.99 > minhash.found_share(minhash.NEAR, 25, 5)


def test_three_percent_is_found_and_thirty_is_not(families):
    found = near_duplicates(families, minhash.NEAR)
    assert len(set(found) & set(range(200, 400))) >= 198 and set(found) <= set(range(200, 400))
    assert all(earlier == later - 200 and share >= minhash.NEAR for later, (earlier, share) in found.items())


def test_entries_agree_as_often_as_shingles_are_shared():
    base = prose(300)
    texts = [" ".join(base), " ".join(edited(base, 0.05)), " ".join(base[:40]), "one", "", "one"]
    words = word_hashes(texts)
    signature = minhash.signatures(words)
    sets = list(shingle_sets(words))
    for i, j in ((0, 1), (0, 2), (2, 3), (3, 5)):
        assert abs(np.mean(signature[i] == signature[j]) - minhash.jaccard(sets[i], sets[j])) < 0.12
    assert (signature[4] == np.iinfo(np.uint32).max).all() and len(set(signature[3].tolist())) > 120


def test_on_disk_as_in_memory(families, tmp_path):
    signature = minhash.signatures(word_hashes(families))
    whole = candidate_pairs(signature, 32, 4)
    dealt = candidate_pairs(signature, 32, 4, work=tmp_path, keys=300)
    few = candidate_pairs(signature, 32, 4, work=tmp_path, keys=6 * len(signature), threads=2)
    assert np.array_equal(whole, few)
    assert np.array_equal(whole, dealt) and len(whole) >= 200 and not list(tmp_path.rglob("*/*"))
    mapped = np.lib.format.open_memmap(tmp_path / "s.npy", "w+", signature.dtype, signature.shape)
    mapped[:] = signature
    assert np.array_equal(candidate_pairs(mapped, 32, 4, keys=2000), whole)


def test_keys_that_were_dealt_by_their_first_bits_are_sifted_all_the_same():
    key = np.random.default_rng(0).integers(0, 1 << 32, 5000, np.uint64) | np.uint64(77) << np.uint64(40)
    key[-500:] = key[:500]
    met = meeting(key)
    assert met[:500].all() and met[-500:].all() and met[500:-500].mean() < 0.13


def test_only_new_ones_are_held_against_old_ones(families):
    signature = minhash.signatures(word_hashes(families))
    late = candidate_pairs(signature, 32, 4, since=300)
    assert len(late) and late[:, 1].min() >= 300
    whole = candidate_pairs(signature, 32, 4)
    assert np.array_equal(late, whole[whole[:, 1] >= 300])


def test_chains_make_one_cluster_and_its_first_stays():
    base = prose(200)
    chain = [base]
    for _ in range(4):
        chain.append(edited(chain[-1], 0.03))
    texts = [" ".join(words) for words in chain]
    for order in (texts, texts[::-1]):
        clusters = text_clusters(order, 0.7)
        assert clusters.first_N.tolist() == [0] * 5
        repeats = clusters.repeats()
        assert sorted(repeats) == [1, 2, 3, 4] and repeats[1][0] == 0
        # The last is not like the first one itself, so one in between is named.
        assert repeats[4][0] != 0 and repeats[4][1] >= 0.7


def test_equal_texts_in_great_number_are_one_cluster():
    texts = [" ".join(prose(30))] * 500 + [" ".join(prose(30))]
    assert text_clusters(texts, 0.8).first_N.tolist() == [0] * 500 + [500]


def test_signatures_alone_decide_where_there_is_no_text():
    entries = [[k] * 64 + [k + 1] * 64 for k in range(5)]
    near = [*entries, [0] * 64 + [1] * 60 + [9] * 4]
    assert near_signatures(near, 0.9) == {5: (0, pytest.approx(124 / 128))} and near_signatures([], 0.9) == {}
    assert near_clusters(np.zeros((0, 128), np.uint32), 0.8).first_N.tolist() == []
