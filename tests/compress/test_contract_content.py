"""The contract of methods, for those that make models of images and tables smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiny_content import content_model, pictures
from volant.core.artifact import Model
from volant.stages.compress import distil, onnx, quantise
from volant.testing import check_method
from volant.testing.worlds import dataset, put

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "quantise": (quantise, {"metric": "sharpness", "limit": 8, "loss": 1.0}),
    "onnx": (onnx, {"limit": 4}),
    "distil": (
        distil,
        {"steps": 2, "teacher_steps": 4, "samples": 20, "train_steps": 4, "batch": 8, "metric": "sharpness",
         "limit": 8, "loss": 10.0},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("models")
    still = content_model(folder / "vae", "vae", steps=3, z=4, width=8)
    flow = content_model(folder / "flow", "flow", steps=3, width=8, depth=1)
    return {"quantise": still, "onnx": still, "distil": flow}


@pytest.mark.parametrize("name", CASES)
def test_contract(name: str, models: dict[str, Model], tmp_path: Path) -> None:
    function, settings = CASES[name]
    given = lambda p: {"model": put(p, models[name]), "data": dataset(p, pictures(32)), **settings}  # noqa: E731
    check_method(function, given, folder=tmp_path, stops=1)
