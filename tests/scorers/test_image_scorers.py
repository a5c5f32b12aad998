"""Scorers of pictures: their formulas against slow ones, their ladders, what they refuse, and what they cost."""

import io
import sys
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.linalg import sqrtm
from stand_in import StandIn

from volant.core.artifact import Model
from volant.core.errors import DataError, SettingError
from volant.core.protocols import Output
from volant.core.sample import Sample, Source
from volant.modalities.image import pixels
from volant.scorers import NAMES, build
from volant.scorers.fidelity import DRAWS, Discrepancy, FrechetRatio, alike, frechet, frechet_without
from volant.scorers.image_classes import CaptionAccuracy, ClassAccuracy
from volant.scorers.image_diversity import ImageDiversity
from volant.scorers.image_signal import Sharpness, Spectrum, laplacian_variance, radial_power
from volant.scorers.images import stacked, usual_size
from volant.scorers.jackknife import Moments, pseudo_values
from volant.scorers.judging import seen
from volant.scorers.ladders import modality_of, rungs, training
from volant.scorers.ladders_image import references
from volant.scorers.manifold import Manifold, radii
from volant.scorers.nearest import NearestRatio
from volant.testing import check_scorer

SOURCE = Source(uri="test:pictures", licence="CC0-1.0")
IMAGE = sorted(name for name, scorer in build(list(NAMES)).items() if modality_of(scorer) == "image")
NO_JUDGE = ("sharpness", "spectrum", "nearest_ratio")
SETS = ("frechet_ratio", "mmd", "sharpness", "spectrum", "image_diversity")


@pytest.fixture(scope="module")
def judge() -> StandIn:
    return StandIn()


def made(name: str, judge, known: Sequence[Sample] | None = None):
    """A scorer with the stand-in for a judge."""
    known = training("image") if known is None else known
    special = {
        "frechet_ratio": lambda: FrechetRatio(judge, known), "mmd": lambda: Discrepancy(judge),
        "nearest_ratio": lambda: NearestRatio(known), "class_accuracy": lambda: ClassAccuracy(judge),
        "caption_accuracy": lambda: CaptionAccuracy(judge), "sharpness": Sharpness, "spectrum": Spectrum,
        "image_diversity": lambda: ImageDiversity(judge),
    }  # fmt: skip
    return special[name]() if name in special else Manifold(name, judge, 5)


def picture(array, condition: str | None = None, id: str = "p") -> Sample:
    written = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).save(written, "PNG")
    return Sample(id=id, shape="media", source=SOURCE, media=written.getvalue(), condition=condition)


def shown(samples: Sequence[Sample]) -> list[Output]:
    return [Output("", sample=s) for s in samples]


class Told:
    """A judge that reads its features from the sample: for sets whose distribution is known."""

    classes = ("a", "b")
    digest = "7" * 64

    def features(self, samples: Sequence[Sample]):
        return np.stack([np.frombuffer(s.media or b"", np.float64) for s in samples])

    def probabilities(self, samples: Sequence[Sample]):
        return self.features(samples)

    def classify(self, samples: Sequence[Sample]) -> list[str]:
        return [self.classes[int(i)] for i in self.features(samples).argmax(1)]


def telling(x_ND, conditions: Sequence[str] = ()) -> list[Sample]:
    asked = list(conditions) or [""] * len(x_ND)
    rows = np.asarray(x_ND, np.float64)
    return [
        Sample(id=str(i), shape="media", source=SOURCE, media=row.tobytes(), condition=asked[i])
        for i, row in enumerate(rows)
    ]


def slow_frechet(x_ND, y_ND) -> float:
    """Heusel's formula as it stands, with scipy's matrix root."""
    s, t = np.cov(x_ND, rowvar=False), np.cov(y_ND, rowvar=False)
    root = np.real(sqrtm(s @ t))
    return float(((x_ND.mean(0) - y_ND.mean(0)) ** 2).sum() + np.trace(s + t - 2 * root))


# --- the contract -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGE)
def test_it_keeps_the_contract_of_scorers(name: str, judge: StandIn) -> None:
    found = check_scorer(made(name, judge), n=48, means=name in ("class_accuracy", "caption_accuracy"))
    assert len(found) == 3 and found[0].name == name
    assert name in NO_JUDGE or "judge 555555555555" in found[0].note


def test_the_names_are_those_that_were_agreed() -> None:
    assert set(IMAGE) == {
        "frechet_ratio", "mmd", "precision", "recall", "density", "coverage", "nearest_ratio", "class_accuracy",
        "caption_accuracy", "sharpness", "spectrum", "image_diversity",
    }  # fmt: skip


@pytest.mark.parametrize("name", IMAGE)
def test_the_score_is_the_mean_of_its_values_and_the_same_every_time(name: str, judge: StandIn) -> None:
    outputs, samples = rungs("fidelity", modality="image", n=40, seed=3)[1]
    first, again = made(name, judge), made(name, StandIn())
    values, score = first.values(outputs, samples), first.score(outputs, samples)[0]
    assert again.values(outputs, samples) == values and again.score(outputs, samples)[0] == score
    middle = np.median(values) if name == "nearest_ratio" else np.mean(values)
    assert score.value == pytest.approx(middle, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", [n for n in IMAGE if n not in NO_JUDGE])
def test_without_a_judge_the_fix_is_the_step_to_add(name: str) -> None:
    outputs, samples = rungs("fidelity", modality="image", n=8)[0]
    with pytest.raises(SettingError, match=r"judge: \{use: pretrain.judge"):
        build([name])[name].score(outputs, samples)


@pytest.mark.parametrize("name", ["frechet_ratio", "nearest_ratio"])
def test_without_training_samples_they_are_asked_for(name: str, judge: StandIn) -> None:
    outputs, samples = rungs("fidelity", modality="image", n=8)[0]
    with pytest.raises(SettingError, match="as `training`"):
        made(name, judge, []).score(outputs, samples)


@pytest.mark.parametrize("name", [*SETS, "precision", "recall", "density", "coverage"])
def test_one_example_is_no_set(name: str, judge: StandIn) -> None:
    outputs, samples = rungs("fidelity", modality="image", n=1)[0]
    for ask in (made(name, judge).score, made(name, judge).values):
        with pytest.raises(DataError, match=r"n=1.*Score more examples together"):
            ask(outputs, samples)
        with pytest.raises(DataError, match="n=0"):
            ask([], [])


@pytest.mark.parametrize("name", ["class_accuracy", "caption_accuracy", "nearest_ratio"])
def test_one_example_is_enough_where_each_stands_for_itself(name: str, judge: StandIn) -> None:
    outputs, samples = rungs("fidelity", modality="image", n=1)[0]
    assert made(name, judge).score(outputs, samples)[0].n == 1


@pytest.mark.parametrize("name", IMAGE)
def test_outputs_without_pictures_are_refused(name: str, judge: StandIn) -> None:
    samples = references(8)
    with pytest.raises(DataError, match="output 7 holds no picture"):
        made(name, judge).score([*shown(samples)[:7], Output("a disc")], samples)
    broken = samples[7].model_copy(update={"media": b"no", "id": "broken"})
    with pytest.raises(DataError, match="broken: the image is no PNG, JPEG or WEBP image"):
        made(name, judge).score(shown([*samples[:7], broken]), samples)


def test_ladders_of_another_modality_are_found_by_name() -> None:
    with pytest.raises(SettingError, match="no ladders for the modality 'smell'.*ladders_smell"):
        rungs("fidelity", modality="smell")
    with pytest.raises(SettingError, match="no ladder 'planted' of pictures"):
        rungs("planted", modality="image")
    known = {s.media for s in training("image")}
    assert training("image") == training("image") and not known & {s.media for s in references(80, seed=1)}
    assert {s.media for s in references(20, seed=1)} != {s.media for s in references(20, seed=2)}


def test_scorers_of_one_model_share_the_judge_and_look_once(tmp_path, monkeypatch) -> None:
    looking = StandIn()
    monkeypatch.setitem(sys.modules, "volant.nets.conv", SimpleNamespace(open_judge=lambda model: looking))
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "weights").write_text("w")
    model = Model(tmp_path / "judge")
    scorers = build(["precision", "recall", "mmd"], {"judge": model})
    assert looking.looked == 0
    outputs, samples = rungs("fidelity", modality="image", n=20)[0]
    for scorer in scorers.values():
        scorer.score(outputs, samples)
        scorer.values(outputs, samples)
    assert looking.looked == 2
    assert f"judge {model.digest[:12]}" in scorers["mmd"].score(outputs, samples)[0].note
    assert seen(model) is seen(Model(tmp_path / "judge"))
    assert scorers["mmd"].digest != build(["mmd"])["mmd"].digest  # type: ignore[attr-defined]


# --- the jackknife ----------------------------------------------------------------------------


@pytest.mark.parametrize("n, d, dead", [(40, 6, 0), (40, 6, 2), (9, 6, 0), (6, 6, 0), (4, 8, 0), (3, 5, 1)])
def test_leaving_one_out_is_leaving_one_out(n: int, d: int, dead: int) -> None:
    """Also where covariances are singular: features that never move, and fewer examples than features."""
    rng = np.random.default_rng(n * d)
    x, y = rng.normal(0.4, 1.3, (n, d)), rng.normal(size=(n, d))
    x[:, :dead] = y[:, :dead] = 1.0
    found = frechet_without(Moments(x), Moments(y))
    kept = [np.arange(n) != i for i in range(n)]
    slow = [frechet(Moments(x[k]), Moments(y[k])) for k in kept]
    np.testing.assert_allclose(found, slow, rtol=1e-6, atol=1e-6)
    if not dead and n > d + 1:
        np.testing.assert_allclose(found, [slow_frechet(x[k], y[k]) for k in kept], rtol=1e-6)
        assert frechet(Moments(x), Moments(y)) == pytest.approx(slow_frechet(x, y), rel=1e-9)


def test_the_distance_is_one_and_its_sides_can_be_changed() -> None:
    rng = np.random.default_rng(1)
    x, y = Moments(rng.normal(1, 2, (30, 5))), Moments(rng.normal(size=(40, 5)))
    assert frechet(x, x) == pytest.approx(0, abs=1e-9) and frechet(x, y) == pytest.approx(frechet(y, x))


def test_pseudo_values_of_a_mean_are_the_values() -> None:
    x = np.random.default_rng(2).normal(size=20)
    np.testing.assert_allclose(pseudo_values(x.mean(), (x.sum() - x) / 19), x)


@pytest.mark.parametrize("name", ["sharpness", "spectrum", "image_diversity"])
def test_values_are_the_pseudo_values_of_the_score(name: str, judge: StandIn) -> None:
    outputs, samples = rungs("fidelity", modality="image", n=16, seed=5)[1]
    scorer = made(name, judge)
    less = [scorer.score(outputs[:i] + outputs[i + 1 :], samples[:i] + samples[i + 1 :])[0].value for i in range(16)]
    slow = pseudo_values(scorer.score(outputs, samples)[0].value, np.array(less))
    np.testing.assert_allclose(scorer.values(outputs, samples), slow, rtol=1e-6, atol=1e-8)


# --- formulas ---------------------------------------------------------------------------------


def test_the_frechet_ratio_is_that_of_two_distances() -> None:
    """The lower one is the mean over draws of training samples; both are left out of in pairs."""
    rng, n = np.random.default_rng(3), 30
    x, y, t = rng.normal(0.5, 1, (n, 4)), rng.normal(size=(n, 4)), rng.normal(size=(90, 4))
    asked = ["a" if i % 3 else "b" for i in range(n)]
    known, samples = telling(t, ["a", "b", "c"] * 30), telling(y, asked)
    draws = alike(known, samples)

    def ratio(kept) -> float:
        return slow_frechet(x[kept], y[kept]) / np.mean([slow_frechet(t[d][kept], y[kept]) for d in np.array(draws)])

    scorer = FrechetRatio(Told(), known)
    assert scorer.score(shown(telling(x)), samples)[0].value == pytest.approx(ratio(np.arange(n)), rel=1e-9)
    slow = pseudo_values(ratio(np.arange(n)), np.array([ratio(np.arange(n) != i) for i in range(n)]))
    np.testing.assert_allclose(scorer.values(shown(telling(x)), samples), slow, rtol=1e-6)
    with pytest.raises(DataError, match="references are the training data"):
        FrechetRatio(Told(), telling(y)).score(shown(telling(x)), telling(y))


def test_training_samples_stand_for_references_of_their_condition() -> None:
    known = telling(np.arange(24)[:, None], ["a", "a", "b"] * 8)
    draws = alike(known, telling(np.zeros((6, 1)), ["a", "b", "b", "a", "a", "b"]))
    assert len(draws) == DRAWS and alike(known, telling(np.zeros((1, 1)), ["a"])) != draws
    assert {"".join(known[i].condition or "" for i in draw) for draw in draws} == {"abbaab"}
    turns = [i for draw in draws[:5] for i in draw if known[i].condition == "a"]
    assert len(set(turns)) == len(turns) == 15
    apart = alike(known, telling(np.zeros((24, 1)), ["a caption of its own"] * 24))
    assert sorted(apart[0]) == list(range(24)) and apart[0] != apart[1]


def test_real_pictures_score_one_however_often_each_class_occurs() -> None:
    """Classes far apart, rare ones in the training data that are frequent in the references."""
    rng, n = np.random.default_rng(20), 300
    middles = rng.normal(0, 4, (5, 6))

    def drawn(kinds, wide=1.0) -> list[Sample]:
        return telling(middles[kinds] + rng.normal(0, wide, (len(kinds), 6)), [str(k) for k in kinds])

    rare = np.minimum(rng.integers(0, 9, 2000), 4)
    known, kinds = drawn(rare), rng.integers(0, 5, n)
    samples, scorer = drawn(kinds), FrechetRatio(Told(), known)
    real = scorer.score(shown(drawn(kinds)), samples)[0]
    wide = scorer.score(shown(drawn(kinds, 1.5)), samples)[0]
    assert 0.6 < real.value < 1.6 and real.low < 1 < real.high and wide.low > real.high


def slow_mmd(x, y, width: float) -> float:
    n, total = len(x), 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                pairs = ((x[i], x[j], 1), (y[i], y[j], 1), (x[i], y[j], -1), (x[j], y[i], -1))
                total += sum(sign * np.exp(-((a - b) ** 2).sum() / width) for a, b, sign in pairs)
    return total / (n * (n - 1))


def test_mmd_is_the_unbiased_one_of_gretton() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(0.6, 1, (14, 3)), rng.normal(size=(14, 3))
    width = float(np.median([((y[i] - y[j]) ** 2).sum() for i in range(14) for j in range(i)]))
    scorer = Discrepancy(Told())
    values = scorer.values(shown(telling(x)), telling(y))
    assert np.mean(values) == pytest.approx(slow_mmd(x, y, width))
    less = np.array([slow_mmd(np.delete(x, i, 0), np.delete(y, i, 0), width) for i in range(14)])
    np.testing.assert_allclose(values, pseudo_values(slow_mmd(x, y, width), less), rtol=1e-9)


def test_the_four_of_the_manifold_are_those_of_the_papers() -> None:
    rng = np.random.default_rng(6)
    x, y, k = rng.normal(0.5, 0.8, (30, 3)), rng.normal(size=(30, 3)), 3

    def away(a, b) -> float:
        return float(np.sqrt(((a - b) ** 2).sum()))

    def ball(points, i: int) -> float:
        return sorted(away(points[i], points[j]) for j in range(30) if j != i)[k - 1]

    real, fake = [ball(y, j) for j in range(30)], [ball(x, i) for i in range(30)]
    inside = [[away(x[i], y[j]) <= real[j] for j in range(30)] for i in range(30)]
    slow = {
        "precision": [float(any(row)) for row in inside],
        "density": [sum(row) / k for row in inside],
        "coverage": [float(any(inside[i][j] for i in range(30))) for j in range(30)],
        "recall": [float(any(away(x[i], y[j]) <= fake[i] for i in range(30))) for j in range(30)],
    }
    for kind, wanted in slow.items():
        found = Manifold(kind, Told(), k).values(shown(telling(x)), telling(y))  # type: ignore[arg-type]
        np.testing.assert_allclose(found, wanted)
        assert np.mean(wanted) > 0 and (kind == "density" or np.mean(wanted) < 1)
    with pytest.raises(DataError, match="no 30-th neighbour"):
        radii(x, 30)


def test_copies_of_one_picture_cover_one_reference_at_most() -> None:
    y = np.random.default_rng(7).normal(size=(30, 3)) * 1e3
    same = shown(telling(np.repeat(y[:1], 30, 0)))
    assert Manifold("recall", Told(), 5).score(same, telling(y))[0].value == pytest.approx(1 / 30)
    assert ImageDiversity(Told()).score(same, telling(y))[0].value == 0.0


def test_image_diversity_is_a_ratio_of_mean_distances() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.normal(0, 0.5, (20, 4)), rng.normal(size=(20, 4))
    means = [
        np.mean([np.sqrt(((a[i] - a[j]) ** 2).sum()) for i in range(20) for j in range(20) if i != j]) for a in (x, y)
    ]
    assert ImageDiversity(Told()).score(shown(telling(x)), telling(y))[0].value == pytest.approx(means[0] / means[1])
    with pytest.raises(DataError, match="look all the same"):
        ImageDiversity(Told()).score(shown(telling(x)), telling(np.ones((20, 4))))


def test_the_nearest_training_picture_is_found_and_copies_are_told() -> None:
    rng = np.random.default_rng(9)
    known, real, new = (rng.integers(0, 256, (n, 6, 6), dtype=np.uint8) for n in (50, 12, 12))
    new[:3] = known[[4, 9, 40]]
    slow = [
        np.array([min(np.sqrt(((p.astype(float) - t.astype(float)) ** 2).mean()) for t in known) for p in side])
        for side in (new, real)
    ]
    scorer = NearestRatio([picture(a) for a in known])
    outputs, samples = shown([picture(a) for a in new]), [picture(a) for a in real]
    np.testing.assert_allclose(scorer.values(outputs, samples), slow[0] / np.median(slow[1]))
    ratio, near = scorer.score(outputs, samples)
    assert ratio.value == pytest.approx(np.median(slow[0]) / np.median(slow[1])) and ratio.direction == "higher"
    assert (near.name, near.value, near.direction) == ("near_copies", 0.25, "lower")
    with pytest.raises(DataError, match="are training pictures"):
        scorer.score(outputs, [picture(a) for a in known[:12]])


def test_a_copy_at_another_size_and_in_colour_is_a_copy() -> None:
    rng = np.random.default_rng(10)
    known, real = (rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8) for _ in range(2))
    larger = [Image.fromarray(a).resize((48, 48), Image.Resampling.NEAREST) for a in known]
    scorer = NearestRatio([picture(a) for a in known])
    assert scorer.score(shown([picture(a) for a in larger]), [picture(a) for a in real])[0].value == 0
    big = [picture(np.kron(a[..., 0], np.ones((4, 4)))) for a in known]
    assert stacked(big, (16, 16, 3)).shape == (8, 16, 16, 3)
    assert NearestRatio(big)._trained[1] == (32, 32, 1)


def test_pictures_are_brought_to_the_references_usual_size() -> None:
    grey, colour = np.full((5, 7), 100), np.full((5, 7, 3), (100, 50, 20))
    assert usual_size([picture(grey), picture(colour), picture(colour)]) == (5, 7, 3)
    assert usual_size([picture(np.full((5, 7, 4), (100, 50, 20, 255)))]) == (5, 7, 3)
    assert pixels(picture(grey)).shape == (5, 7, 1) and (stacked([picture(grey)], (3, 4, 3)) == 100).all()


def test_a_class_is_right_or_wrong() -> None:
    x = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    scorer = ClassAccuracy(Told())
    assert scorer.values(shown(telling(x)), telling(x, ["a", "A ", "b"])) == [1.0, 0.0, 0.0]
    with pytest.raises(DataError, match=r"no reference asks for a class of the judge \(a, b\)"):
        scorer.score(shown(telling(x)), telling(x, ["c", "", "a b"]))


class Worded(Told):
    classes = ("red disc", "red cross", "blue disc")  # type: ignore[assignment]


def test_words_of_a_caption_are_confirmed_one_by_one() -> None:
    x = np.array([[0.4, 0.4, 0.2], [0.1, 0.1, 0.8], [0.5, 0.2, 0.3], [1.0, 0.0, 0.0]])
    asked = ["a Red disc, please", "red cross", "blue", "nothing known"]
    scorer = CaptionAccuracy(Worded())
    outputs, samples = shown(telling(x)), telling(x, asked)
    assert scorer.values(outputs, samples) == [1.0, 0.0, 0.0, 0.0]
    score = scorer.score(outputs, samples)[0]
    assert score.n == 3 and score.value == pytest.approx(1 / 3) and "1 captions without a known word" in score.note
    with pytest.raises(DataError, match=r"no caption has a word that the judge knows \(blue, cross"):
        scorer.score(outputs, telling(x, ["?"] * 4))


def test_sharpness_is_least_where_detail_is_lost_or_added() -> None:
    samples = references(40)
    arrays = [pixels(s)[..., 0].astype(float) for s in samples]
    soft = [(a + np.roll(a, 1, 0) + np.roll(a, 1, 1) + np.roll(a, (1, 1), (0, 1))) / 4 for a in arrays]
    rough = [np.clip(a + np.random.default_rng(1).normal(0, 40, a.shape), 0, 255) for a in arrays]
    same, less, more = (
        Sharpness().score(shown([picture(a) for a in each]), samples)[0] for each in (arrays, soft, rough)
    )
    assert same.value == 1 and less.value < 0.8 and more.value < 0.8
    times = [float(s.note.split("detail is ")[1].split()[0]) for s in (less, more)]
    assert times[0] < 1 < times[1] and less.value == pytest.approx(times[0], rel=0.01)
    blank = Sharpness().score(shown([picture(np.zeros((12, 12)))] * 40), samples)[0]
    assert 0 < blank.value < 0.01
    with pytest.raises(DataError, match="no detail to measure"):
        Sharpness().score(shown([picture(np.zeros((2, 2)))] * 3), [picture(np.zeros((2, 2)))] * 3)


def test_the_laplacian_is_the_four_neighbours_less_the_middle() -> None:
    x = np.random.default_rng(11).uniform(size=(1, 5, 6))
    slow = [
        x[0, r - 1, c] + x[0, r + 1, c] + x[0, r, c - 1] + x[0, r, c + 1] - 4 * x[0, r, c]
        for r in range(1, 4)
        for c in range(1, 5)
    ]
    assert laplacian_variance(x)[0] == pytest.approx(np.var(slow))


@pytest.mark.parametrize("waves", [1, 3, 5])
def test_a_wave_has_its_power_on_its_own_ring(waves: int) -> None:
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * waves * np.arange(16) / 16)[None, None] * np.ones((1, 16, 1))
    power = radial_power(wave)[0]
    assert power.shape == (8,) and power.argmax() == waves - 1 and np.delete(power, waves - 1).max() < 1e-12


def test_ten_times_the_power_is_ten_decibels() -> None:
    x = np.random.default_rng(12).integers(100, 156, (30, 16, 16))
    strong = (x - 128) * np.sqrt(10) + 128
    score = Spectrum().score(shown([picture(np.rint(np.clip(a, 0, 255))) for a in strong]), [picture(a) for a in x])[0]
    assert score.value == pytest.approx(10, abs=0.3) and score.unit == "dB"


# --- intervals and cost -----------------------------------------------------------------------


def test_intervals_cover_the_figure_of_known_gaussians() -> None:
    """60 draws. The discrepancy is known in closed form; the ratio's truth is the mean that so many pictures give."""
    rng, d, n, far, draws = np.random.default_rng(13), 8, 100, 0.4, 60
    known = telling(rng.normal(size=(1500, d)))
    ratios, covered = [], 0
    for _ in range(draws):
        y = rng.normal(size=(n, d))
        outputs, samples = shown(telling(rng.normal(far, 1, (n, d)))), telling(y)
        width = np.median(((y[:, None] - y[None]) ** 2).sum(-1)[np.triu_indices(n, 1)])
        truth = 2 * (1 + 4 / width) ** (-d / 2) * (1 - np.exp(-d * far**2 / (width + 4)))
        mmd = Discrepancy(Told()).score(outputs, samples)[0]
        covered += mmd.low <= truth <= mmd.high
        ratios.append(FrechetRatio(Told(), known).score(outputs, samples)[0])
    middle = np.mean([s.value for s in ratios])
    assert covered >= 52 and sum(s.low <= middle <= s.high for s in ratios) >= 52
    # An interval that covers everything says nothing: it has to be about as wide as the draws differ.
    widths = np.mean([s.high - s.low for s in ratios]) / 3.92
    assert 0.7 < widths / np.std([s.value for s in ratios]) < 1.8
