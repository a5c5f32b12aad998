"""Few steps in place of many: what the student learns, what is stated, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny_converted import content_model, pictures
from tiny_models import dataset, run_in, watched
from volant.core.artifact import Dataset, Model, payload_digest
from volant.core.errors import DataError, GateRefused, SettingError
from volant.core.method import method_of
from volant.engines import open_model
from volant.nets import distil as learning
from volant.nets.flow import family
from volant.scorers.measure import answers
from volant.stages.compress import distil
from volant.testing.methods import check_documented

SMALL: dict[str, Any] = {
    "steps": 2, "teacher_steps": 8, "samples": 64, "train_steps": 60, "batch": 16, "rate": 0.5,
    "metric": "sharpness", "limit": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Dataset]:
    folder = tmp_path_factory.mktemp("distil")
    taught = content_model(folder, "flow", width=8, depth=1, average=0.9, controls={"guidance": 2.0, "steps": 20.0})
    return taught, dataset(folder / "data", pictures())


def far(net: Any, other: Any, steps: int, **told: float) -> float:
    """How far two steps end from where the teacher's many steps end, for noise that was not learnt from."""
    prompts = [(n % 2,) for n in range(32)]
    aim = family.sample(other, prompts, seed=99, steps=8, order=1, guidance=2.0)
    return float(np.square(family.sample(net, prompts, seed=99, steps=steps, order=1, **told) - aim).mean())


def test_the_student_goes_where_the_teacher_goes(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    run = run_in(tmp_path)
    small = distil(run, *made, **SMALL, loss=10)
    teacher, student = family.load(made[0].path), family.load(small.path)
    assert far(student, teacher, 2) < 0.5 * min(far(teacher, teacher, 2, guidance=2.0), far(teacher, teacher, 2))
    scores = {s.name: s for s in watched(run).scores}
    assert scores["speed_ratio"].value > 3 and {"sharpness", "sharpness_change"} <= set(scores)
    about = small.about
    assert about.extra["controls"] == {"steps": 2, "guidance": 1.0, "order": 1.0} and about.family == "flow"
    told = about.extra["distilled"]
    assert told["teacher"] == made[0].digest and told["taught"] == {"guidance": 2.0, "steps": 8, "order": 1.0}
    assert told["metric"] == "sharpness" and told["samples"] == 8


def test_the_engine_asks_with_few_steps_by_itself(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    small = distil(run_in(tmp_path), *made, **{**SMALL, "train_steps": 2}, loss=10)
    session: Any = open_model(small)
    calls = []
    session._net.register_forward_hook(lambda *_: calls.append(1))
    assert all(o.sample is not None for o in answers(session, pictures(8)[:4]))
    assert len(calls) == 2


def test_it_repeats_bit_by_bit_and_leaves_its_inputs(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    before = payload_digest(made[0].path)[0]
    quick = {**SMALL, "train_steps": 3, "samples": 20, "loss": 10}
    one, two = (distil(run_in(tmp_path / name), *made, **quick) for name in ("one", "two"))
    assert payload_digest(one.path)[0] == payload_digest(two.path)[0]
    assert payload_digest(made[0].path)[0] == before


def test_more_loss_than_stated_is_refused_with_numbers(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    # One step for eight, hardly learnt: the mean of pictures where there were pictures.
    broken = {**SMALL, "steps": 1, "limit": 16, "train_steps": 1, "rate": 0.01, "loss": 0.05}
    with pytest.raises(GateRefused, match=r"sharpness went from .* \(p = .*, n = 16\).*stated loss of 5.0%") as caught:
        distil(run_in(tmp_path), *made, **broken)
    assert "train_steps" in caught.value.fix


def test_a_family_without_steps_is_refused(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    still = content_model(tmp_path, "vae", steps=2, z=4, width=8)
    with pytest.raises(SettingError, match="a vae draws without sampling steps") as caught:
        distil(run_in(tmp_path / "run"), still, made[1], **SMALL)
    assert "compress.quantise" in caught.value.fix


def test_what_saves_nothing_is_refused(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="save nothing"):
        distil(run_in(tmp_path), *made, **{**SMALL, "steps": 8, "teacher_steps": 8})


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_empty_split_is_refused(made: tuple[Model, Dataset], tmp_path: Path, split: str) -> None:
    data = dataset(tmp_path / "data", [s for s in pictures() if s.split != split])
    with pytest.raises(DataError, match=f"the {split} split holds no content"):
        distil(run_in(tmp_path / "run"), made[0], data, **SMALL)


def test_settings_are_documented() -> None:
    check_documented(method_of(distil))


def test_the_ways_are_the_teachers(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    teacher = family.load(made[0].path)
    found = learning.ways(run_in(tmp_path), family, teacher, [(0,), ()], steps=2, controls={"steps": 6})
    assert [e.values.shape for e in found] == [(3, 1, 8, 8)] * 2 and found[1].condition == ()
    seeds = [learning._FIRST_SEED, learning._FIRST_SEED + 1]
    aim = family.sample(teacher, [(0,), ()], seed=0, seeds=seeds, steps=6, order=1)
    np.testing.assert_allclose(np.stack([e.values[-1] for e in found]), aim, atol=1e-6)
    assert learning.teacher_steps_for(4, 39) == 40 and learning.teacher_steps_for(4, 2) == 4
