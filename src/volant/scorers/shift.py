"""How far two sets of prompts, or of other examples, are apart: discrepancy, a classifier, lengths, words, parts.

Enters: two lists of texts (`of_texts`) or of samples (`of_samples`). Leaves: a `Shift` with scores, intervals and
p-values that are corrected (Holm) for being several. All draws come from the seed.

Shape legend: N training examples, M recent ones, D features, P permutations.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from volant.core.artifact import Model
from volant.core.errors import SettingError
from volant.core.protocols import Modality
from volant.core.sample import Sample, Source, sample_id
from volant.core.score import Score
from volant.scorers import parts

Floats = NDArray[np.float64]
T = TypeVar("T")
_WORD = re.compile(r"[^\W\d_]{2,}")
_SHOWN = 20  # parts with a figure of their own in the report; all of them are tested


@dataclass(frozen=True)
class Shift:
    """What was measured.

    Attributes:
        tests: corrected p-values of the deciding tests, by name.
        new_words: words that no training prompt has, with the number of different requests that have them.
    """

    scores: list[Score]
    tests: dict[str, float]
    new_words: list[tuple[str, int]] = field(default_factory=list)


def of_texts(
    trained: Sequence[str],
    asked: Sequence[str],
    features: Callable[[Sequence[Sample]], Any],
    *,
    seed: int,
    most: int,
    permutations: int,
) -> Shift:
    """Compare two lists of prompts, or of conditions.

    Where they are of few kinds (the classes of images), their shares are compared in the place of their lengths.

    Args:
        trained: the training side.
        asked: the other side.
        features: of texts as samples; float [n, D].
        seed: for subsamples, permutations and folds.
        most: subsample each side to at most this.
        permutations: of the tests.
    """
    random = np.random.default_rng(seed)
    left, right = _drawn(trained, most, random), _drawn(asked, most, random)
    x_ND = _scaled(np.asarray(features(as_samples([*left, *right])), dtype=np.float64))
    mmd, p_mmd = discrepancy(x_ND, len(left), random, permutations)
    scores = [_mmd(mmd, p_mmd, len(right), permutations), classifier_auc(x_ND, len(left), seed, [*left, *right])]
    tests = {"discrepancy": p_mmd}
    if len({*left, *right}) <= min(parts.MOST_KINDS, (len(left) + len(right)) // 4):
        for apart in parts.compare({"condition": left}, {"condition": right}, random=random, permutations=permutations):
            tests.update(apart.tests)
            scores.append(apart.psi)
    else:
        length, p_length = _lengths(left, right, random)
        tests["length"] = p_length
        scores.append(length)
    scores += _unknown_words(trained, right, random)
    return Shift(scores, holm(tests), _new_words(trained, list(dict.fromkeys(right))))


def of_samples(
    trained: Sequence[Sample],
    recent: Sequence[Sample],
    modality: Modality,
    *,
    judge: Model | None = None,
    seed: int,
    most: int,
    permutations: int,
) -> Shift:
    """Compare two sets of examples as wholes, and in each of the parts that their modality names.

    Args:
        trained: the training side.
        recent: the other side.
        modality: names the parts, and gives the features where there is no judge.
        judge: a trained one, whose features see more than the modality's own.
        seed: for subsamples, permutations and folds.
        most: subsample each side to at most this.
        permutations: of the tests.

    Raises:
        SettingError: the judge is no judge.
    """
    random = np.random.default_rng(seed)
    left, right = _drawn(trained, most, random), _drawn(recent, most, random)
    features = modality.features if judge is None else _judge(judge).features
    x_ND = _scaled(np.asarray(features([*left, *right]), dtype=np.float64))
    mmd, p_mmd = discrepancy(x_ND, len(left), random, permutations)
    said = [s.media or s.content for s in (*left, *right)]
    scores = [_mmd(mmd, p_mmd, len(right), permutations), classifier_auc(x_ND, len(left), seed, said)]
    tests = {"discrepancy": p_mmd}
    found = parts.compare(modality.parts(left), modality.parts(right), random=random, permutations=permutations)
    for apart in found:
        tests.update(apart.tests)
    scores += sorted((apart.psi for apart in found), key=lambda score: -score.value)[:_SHOWN]
    return Shift(scores, holm(tests))


def _judge(model: Model) -> Any:
    """The judge that a Model of a judging family holds."""
    family = model.about.family
    try:
        opening = importlib.import_module(f"volant.nets.{family}").open_judge
    except (ImportError, AttributeError):
        fix = "Train one with pretrain.judge."
        raise SettingError(f"a model of the family {family!r} is no judge.", where="judge", fix=fix) from None
    return opening(model)


def word_features(samples: Sequence[Sample]) -> Any:
    """Features of words, whatever they ask for; float32 [n, D]."""
    from volant.modalities.text import modality

    return modality.features(samples)


def as_samples(texts: Sequence[str]) -> list[Sample]:
    """Texts as samples that a modality can turn into features."""
    source = Source(uri="prompt", licence="LicenseRef-unknown")
    return [Sample(id=sample_id(text), shape="text", content=text, source=source) for text in texts]


def prompt_of(sample: Sample) -> str:
    """What a training sample was asked with: its condition or last user turn, or its text where it has neither."""
    if sample.shape in ("completion", "preference", "messages"):
        return next((str(m.get("content") or "") for m in reversed(sample.messages) if m.get("role") == "user"), "")
    return sample.text


def condition_of(sample: Sample) -> str:
    """What an example of content was asked for with; empty where nothing was asked for."""
    return sample.condition or ""


def sampled(samples: Iterable[Sample], most: int, seed: int) -> list[Sample]:
    """At most `most` of the samples, each as likely as the others, in their order; holds no more than that at once.

    Reservoir sampling (Vitter's algorithm R, 1985).
    """
    random = np.random.default_rng(seed)
    kept: list[tuple[int, Sample]] = []
    for number, sample in enumerate(samples):
        if number < most:
            kept.append((number, sample))
        elif (place := int(random.integers(number + 1))) < most:
            kept[place] = (number, sample)
    return [sample for _, sample in sorted(kept, key=lambda pair: pair[0])]


def discrepancy(x_ND: Floats, n: int, random: np.random.Generator, permutations: int) -> tuple[float, float]:
    """The squared maximum mean discrepancy (RBF, median distance) of rows < n against the rest, and its p.

    The p is the exact permutation one, (1 + times as large) / (1 + P), so it never claims too much.
    """
    total = len(x_ND)
    square = (x_ND**2).sum(1)
    distance = np.maximum(square[:, None] + square[None, :] - 2 * x_ND @ x_ND.T, 0.0)
    upper = distance[np.triu_indices(total, 1)]
    width = float(np.median(upper)) or float(upper.mean()) or 1.0
    kernel = np.exp(-distance / width)
    np.fill_diagonal(kernel, 0.0)
    # Signed weights make the statistic one quadratic form, so that permutations are one product.
    m = total - n
    sides_PN = np.zeros((permutations + 1, total))
    sides_PN[0, :n] = 1.0
    for row in range(1, permutations + 1):
        sides_PN[row, random.permutation(total)[:n]] = 1.0
    within_left = np.einsum("pn,pn->p", sides_PN @ kernel, sides_PN)
    others_PN = 1.0 - sides_PN
    with_others = others_PN @ kernel
    within_right = np.einsum("pn,pn->p", with_others, others_PN)
    between = np.einsum("pn,pn->p", with_others, sides_PN)
    statistic = within_left / (n * (n - 1)) + within_right / (m * (m - 1)) - 2 * between / (n * m)
    larger = int((statistic[1:] >= statistic[0] - 1e-12).sum())
    return float(statistic[0]), (1 + larger) / (1 + permutations)


def classifier_auc(x_ND: Floats, n: int, seed: int, said: Sequence[Hashable]) -> Score:
    """How well a logistic regression tells the sides apart on folds that it has not seen, with a bootstrap interval.

    What both sides have goes into one fold: else it would be learnt as the other side's, and the figure would
    fall far below the 0.5 of two sides that are alike. Where most is said more than once (ten classes), there
    is nothing to learn by heart, and how often each is said has to be learnt from other folds.
    """
    from scipy.stats import rankdata
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    side = np.r_[np.zeros(n), np.ones(len(x_ND) - n)]
    chance = np.zeros(len(side))
    known = {one: i for i, one in enumerate(dict.fromkeys(said))}
    if 2 * len(known) >= len(said):
        groups = [known[one] for one in said]
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed % 2**32).split(x_ND, side, groups)
    else:
        folds = StratifiedKFold(5, shuffle=True, random_state=seed % 2**32).split(x_ND, side)
    for train, held in folds:
        model = LogisticRegression(C=0.1, max_iter=500, class_weight="balanced").fit(x_ND[train], side[train])
        # Each fold has its own offset: ranks within the fold are comparable over folds, raw figures are not.
        values = model.decision_function(x_ND[held])
        chance[held] = (rankdata(values) - 1) / max(1, len(held) - 1)
    value = float(roc_auc_score(side, chance))
    random = np.random.default_rng(seed)
    draws = []
    for _ in range(200):
        left, right = random.integers(0, n, n), random.integers(n, len(side), len(side) - n)
        rows = np.r_[left, right]
        draws.append(roc_auc_score(side[rows], chance[rows]))
    low, high = (float(q) for q in np.quantile(draws, [0.025, 0.975]))
    if low == high:  # a perfect split: the bootstrap claims a certainty that so few examples cannot give
        low -= 3 / min(n, len(side) - n)
    note = "5 folds; 0.5: the sides cannot be told apart"
    return Score(name="classifier_auc", value=value, low=max(0.0, min(low, value)), high=max(high, value),
                 n=len(side) - n, direction="lower", note=note)  # fmt: skip


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """p-values corrected for being several (Holm), by name."""
    corrected: dict[str, float] = {}
    running = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        running = max(running, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = running
    return {name: corrected[name] for name in p_values}


def _drawn(items: Sequence[T], most: int, random: np.random.Generator) -> list[T]:
    if len(items) <= most:
        return list(items)
    return [items[i] for i in sorted(random.choice(len(items), most, replace=False))]


def _mmd(value: float, p: float, n: int, permutations: int) -> Score:
    return Score.exact("mmd", value, n=n, direction="lower", note=f"p = {p:.3g}, {permutations} permutations")


def _lengths(left: Sequence[str], right: Sequence[str], random: np.random.Generator) -> tuple[Score, float]:
    """How much longer the right side is, and the p of the difference."""
    from scipy.stats import ks_2samp

    lengths = [np.array([len(text) for text in side]) for side in (left, right)]
    return _length_ratio(lengths, random), float(ks_2samp(*lengths, method="asymp").pvalue)


def _scaled(x_ND: Floats) -> Floats:
    """Columns centred and brought to one scale, constant ones left out; computed on both sides together."""
    spread = x_ND.std(0)
    kept = spread > 1e-9
    if not kept.any():
        return np.zeros((len(x_ND), 1))
    scaled: Floats = (x_ND[:, kept] - x_ND[:, kept].mean(0)) / spread[kept]
    return scaled


def _length_ratio(lengths: Sequence[NDArray[Any]], random: np.random.Generator) -> Score:
    """Median length of the requests over that of the training prompts."""
    draws = [
        np.median(random.choice(lengths[1], len(lengths[1])))
        / max(1.0, np.median(random.choice(lengths[0], len(lengths[0]))))
        for _ in range(200)
    ]
    value = float(np.median(lengths[1]) / max(1.0, float(np.median(lengths[0]))))
    low, high = (float(q) for q in np.quantile(draws, [0.025, 0.975]))
    return Score(name="length_ratio", value=value, low=min(low, value), high=max(high, value), n=len(lengths[1]),
                 direction="lower", note="1: as long as in training")  # fmt: skip


def _unknown_words(trained: Sequence[str], asked: Sequence[str], random: np.random.Generator) -> list[Score]:
    """Share of words that training does not have: of the requests, and of held-out training prompts beside it."""
    order = random.permutation(len(trained))
    fifth = max(1, len(trained) // 5)
    held, rest = [trained[i] for i in order[:fifth]], [trained[i] for i in order[fifth:]]
    known = {word for text in rest for word in _words(text)}
    found = []
    for of, texts in (("model", asked), ("training, held out", held)):
        shares = np.array([np.mean([word not in known for word in words]) for text in texts if (words := _words(text))])
        if not len(shares):
            continue
        draws = [float(random.choice(shares, len(shares)).mean()) for _ in range(200)]
        low, high = (float(q) for q in np.quantile(draws, [0.025, 0.975]))
        value = float(shares.mean())
        found.append(Score(name="unknown_words", value=value, low=min(low, value), high=max(high, value),
                           n=len(shares), direction="lower", of=of, note="share of a prompt's words"))  # fmt: skip
    return found


def _new_words(trained: Sequence[str], asked: Sequence[str], least: int = 3) -> list[tuple[str, int]]:
    """Words that at least `least` requests have and training does not; rarer ones could name a person."""
    known = {word for text in trained for word in _words(text)}
    counts = Counter(word for text in asked for word in set(_words(text)) - known)
    frequent = [(word, n) for word, n in counts.items() if n >= least]
    return sorted(frequent, key=lambda pair: (-pair[1], pair[0]))[:20]


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
