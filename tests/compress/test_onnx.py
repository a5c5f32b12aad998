"""ONNX with the draws of torch, or a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_files
import pytest

from small_content import content_run
from tiny_converted import content_model, pictures
from tiny_models import dataset, run_in, watched
from volant.core.artifact import Dataset, Model, payload_digest
from volant.core.errors import GateRefused, SettingError
from volant.core.method import method_of
from volant.core.protocols import Request
from volant.engines import open_model
from volant.engines.onnx import Answerer
from volant.modalities.image import pixels
from volant.stages.compress import onnx
from volant.testing.methods import check_documented

SIZES: dict[str, dict[str, Any]] = {
    "flow": {"width": 8, "depth": 1, "captions": "words", "controls": {"guidance": 1.5, "steps": 2.0}},
    "vae": {"z": 4, "width": 8},
}
OTHERS: dict[str, dict[str, Any]] = {
    "gan": {"z": 4, "width": 8},
    "dit": {"kind": "dit", "width": 32, "depth": 1, "controls": {"guidance": 2.0, "steps": 2.0, "order": 1.0}},
}
ASKED = {"flow": ("the left side, lit", "right", "lit left", ""), "vae": ("left", "right", "")}


SLOW = pytest.mark.slow  # exporting a U-Net or a transformer takes torch long


@pytest.fixture(scope="module", params=[pytest.param("flow", marks=SLOW), "vae"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Dataset]:
    folder = tmp_path_factory.mktemp("made")
    samples = pictures(caption="the {} side, lit" if request.param == "flow" else "{}")
    model = content_model(folder, request.param, steps=5, samples=samples, **SIZES[request.param])
    return model, dataset(folder / "data", samples)


def draw_alike(model: Model, other: Model, asked: list[Request]) -> list[bytes | None]:
    """Both engines draw the same, to a step of 8 bits; what the second one drew."""
    drawn = [{c.id: c.sample for c in open_model(m).generate(asked)} for m in (model, other)]
    for request in asked:
        one, two = (side[request.id] for side in drawn)
        assert one is not None and two is not None
        np.testing.assert_allclose(pixels(two), pixels(one).astype(float), atol=1)
    return [one.media for one in drawn[1].values() if one]


def test_it_draws_what_torch_draws_and_repeats(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    run = run_in(tmp_path / "one")
    other, again = onnx(run, *made, limit=4), onnx(run_in(tmp_path / "two"), *made, limit=4)
    assert payload_digest(other.path)[0] == payload_digest(again.path)[0]
    assert other.about.engine == "onnx" and other.about.family == made[0].about.family
    words = ASKED[made[0].about.family]
    asked = [Request(id=str(n), prompt=said, seed=3) for n, said in enumerate(words)]
    assert len(set(draw_alike(made[0], other, asked))) == len(words)  # each class or caption is told
    scores = {s.name: s for s in watched(run).scores}
    assert 0 <= scores["onnx_difference"].value < 1e-3 and scores["speed_ratio"].value > 0
    content = (other.path / "model.onnx").read_bytes()
    onnx_files.checker.check_model(content)
    assert b"site-packages" not in content and b"volant/nets" not in content


@pytest.mark.parametrize("name", ["gan", pytest.param("dit", marks=SLOW)])
def test_so_do_the_other_networks(name: str, tmp_path: Path) -> None:
    model = content_model(tmp_path, "flow" if name == "dit" else name, steps=3, **OTHERS[name])
    run = run_in(tmp_path / "run")
    other = onnx(run, model, dataset(tmp_path / "data", pictures()), limit=4)
    assert {s.name: s for s in watched(run).scores}["onnx_difference"].value < 1e-3
    asked = [Request(id=str(n), prompt=("left", "right", "")[n % 3], seed=n) for n in range(6)]
    assert len(set(draw_alike(model, other, asked))) == 6


@pytest.mark.parametrize("made", ["vae"], indirect=True)
def test_more_than_the_tolerance_is_refused(
    made: tuple[Model, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Answerer.__call__
    monkeypatch.setattr(Answerer, "__call__", lambda self, inputs: answer(self, inputs) * 0.9)
    with pytest.raises(GateRefused, match=r"draws differ from torch's by up to .*tolerance of 0.001"):
        onnx(run_in(tmp_path), *made, limit=4)


def test_a_network_of_rows_is_refused(shelf: Any, tmp_path: Path) -> None:
    from volant.stages.pretrain import fit

    run = content_run(tmp_path / "fit", "table")
    rows = fit(run, shelf.people, family="gan", steps=2, batch=16, size={"width": 16, "z": 4})
    with pytest.raises(SettingError, match="a GAN of rows cannot be turned into ONNX"):
        onnx(run_in(tmp_path / "run"), rows, shelf.people, limit=4)


def test_a_family_without_onnx_is_refused(tmp_path: Path) -> None:
    still = content_model(tmp_path, "gaussian")
    with pytest.raises(SettingError, match="a gaussian cannot be turned into ONNX"):
        onnx(run_in(tmp_path / "run"), still, dataset(tmp_path / "data", pictures()), limit=4)


def test_settings_are_documented() -> None:
    check_documented(method_of(onnx))
