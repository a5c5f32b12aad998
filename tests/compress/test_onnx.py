"""ONNX with the draws of torch, or a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_files
import pytest

from tiny_converted import content_model, pictures
from tiny_models import dataset, run_in, watched
from volant.core.artifact import Dataset, Model, payload_digest
from volant.core.errors import GateRefused, SettingError
from volant.core.method import method_of
from volant.engines import open_model
from volant.engines.onnx import Answerer
from volant.scorers.measure import answers
from volant.stages.compress import onnx
from volant.testing.methods import check_documented

SIZES: dict[str, dict[str, Any]] = {
    "flow": {"width": 8, "depth": 1, "controls": {"guidance": 1.5, "steps": 3.0}},
    "vae": {"z": 4, "width": 8},
}


@pytest.fixture(scope="module", params=list(SIZES))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Dataset]:
    folder = tmp_path_factory.mktemp(request.param)
    model = content_model(folder, request.param, steps=5, **SIZES[request.param])
    return model, dataset(folder / "data", pictures())


def test_it_draws_what_torch_draws_and_repeats(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    run = run_in(tmp_path / "one")
    other, again = onnx(run, *made, limit=4), onnx(run_in(tmp_path / "two"), *made, limit=4)
    assert payload_digest(other.path)[0] == payload_digest(again.path)[0]
    assert other.about.engine == "onnx" and other.about.family == made[0].about.family
    torch_session, session = open_model(made[0]), open_model(other)
    asked = pictures(12)
    for one, two in zip(answers(torch_session, asked), answers(session, asked), strict=True):
        assert one.sample is not None and two.sample is not None
        from volant.modalities.image import pixels

        np.testing.assert_allclose(pixels(two.sample), pixels(one.sample).astype(float), atol=1)
    scores = {s.name: s for s in watched(run).scores}
    assert 0 <= scores["onnx_difference"].value < 1e-3 and scores["speed_ratio"].value > 0
    content = (other.path / "model.onnx").read_bytes()
    onnx_files.checker.check_model(content)
    assert b"site-packages" not in content and b"volant/nets" not in content


def test_more_than_the_tolerance_is_refused(
    made: tuple[Model, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Answerer.__call__
    monkeypatch.setattr(Answerer, "__call__", lambda self, inputs: answer(self, inputs) * 0.9)
    with pytest.raises(GateRefused, match=r"draws differ from torch's by up to .*tolerance of 0.001"):
        onnx(run_in(tmp_path), *made, limit=4)


def test_a_family_without_onnx_is_refused(tmp_path: Path) -> None:
    still = content_model(tmp_path, "gaussian")
    with pytest.raises(SettingError, match="a gaussian cannot be turned into ONNX"):
        onnx(run_in(tmp_path / "run"), still, dataset(tmp_path / "data", pictures()), limit=4)


def test_settings_are_documented() -> None:
    check_documented(method_of(onnx))
