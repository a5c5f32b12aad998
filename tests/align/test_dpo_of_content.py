"""`align.dpo` over pictures and rows: it moves towards what was chosen, says how far, and refuses what cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_content as tiny
from tiny_models import watched
from volant.core.artifact import Dataset, Model
from volant.core.errors import DataError, SettingError
from volant.core.protocols import Request
from volant.core.sample import Sample
from volant.engines import open_model
from volant.modalities.image import pixels
from volant.stages.align import dpo
from volant.stages.compress import quantise

QUICK = {"epochs": 4.0, "rows": 8, "lr": 3e-4, "bound": 100.0}


def bright(model: Model, n: int = 40) -> list[float]:
    """The mean brightness of fresh draws."""
    requests = [Request(id=str(i), prompt=tiny.CLASSES[i % 2], seed=900 + i) for i in range(n)]
    chunks = {c.id: c.sample for c in open_model(model).generate(requests)}
    return [float(pixels(chunks[str(i)]).mean()) for i in range(n)]  # type: ignore[arg-type]


def paired(samples: list[Sample], worth: Callable[[Sample], float]) -> list[Sample]:
    """Neighbours of one condition as pairs; the one that is worth more is chosen."""
    by: dict[str, list[Sample]] = {}
    for sample in samples:
        by.setdefault(sample.condition or "", []).append(sample)
    couples = [sorted(two, key=worth) for own in by.values() for two in zip(own[::2], own[1::2], strict=False)]
    return [tiny.pair(high, low) for low, high in couples]


@pytest.fixture(scope="module")
def choices(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Pairs of the flow's own draws, the brighter one chosen, with real pictures for validation."""
    requests = [Request(id=str(i), prompt=tiny.CLASSES[i % 2], seed=i) for i in range(160)]
    drawn = {c.id: c.sample for c in open_model(shelf.flow).generate(requests)}
    own = [drawn[str(i)] for i in range(160)]
    held = [s for s in tiny.pictures() if s.split == "validation"]
    pairs = paired(own, lambda s: float(pixels(s).mean()))  # type: ignore[arg-type]
    return tiny.stored(tmp_path_factory.mktemp("choices") / "data", [*held, *pairs])


def test_a_flow_moves_towards_what_was_chosen(shelf: Any, choices: Dataset, tmp_path: Path) -> None:
    run = tiny.content_run(tmp_path, "image")
    made = dpo(run, shelf.flow, choices, **QUICK)
    scores = {s.name: s for s in watched(run).scores}
    assert scores["pair_accuracy"].value > 0.6 and 0 < scores["logratio"].value <= 100
    assert {"validation_loss_change", "sharpness_change", "chosen_logratio"} <= set(scores)
    assert json.loads((made.path / "validation.json").read_text())["metric"] == "sharpness"
    told = made.about.extra
    assert told["dpo"]["pairs"] + told["dpo"]["held_out"] == 80 and told["base"] == shelf.flow.digest[:16]
    assert made.about.extra["controls"] == shelf.flow.about.extra["controls"]
    before, after = bright(shelf.flow), bright(made)
    assert np.mean(after) > np.mean(before) + 3


def test_weights_in_8_bits_are_trained_as_floats(shelf: Any, choices: Dataset, tmp_path: Path) -> None:
    q = tiny.content_run(tmp_path / "q", "image")
    small = quantise(q, shelf.flow, shelf.pictures, metric="sharpness", limit=4, loss=1.0)
    run = tiny.content_run(tmp_path / "run", "image")
    made = dpo(run, small, choices, **{**QUICK, "epochs": 0.2})
    assert any("in 8 bits: they are trained, and written, as float32" in line for line in watched(run).lines)
    assert "quantisation" not in made.about.extra and not list(made.path.rglob("*.int8.safetensors"))


def test_rows_of_a_vae_learn_from_pairs(shelf: Any, tmp_path: Path) -> None:
    from volant.stages.pretrain import fit

    run = tiny.content_run(tmp_path / "vae", "table")
    vae = fit(run, shelf.people, family="vae", steps=40, batch=16, size={"width": 16})
    pairs = paired(tiny.people(120, seed=4), lambda s: json.loads(s.content or "")["pay"])
    data = tiny.stored(tmp_path / "data", [*tiny.people(), *pairs])
    run = tiny.content_run(tmp_path / "run", "table")
    made = dpo(run, vae, data, epochs=4.0, rows=8, lr=1e-3, beta=0.05, bound=1000.0)
    assert {s.name: s for s in watched(run).scores}["pair_accuracy"].value > 0.6
    assert open_model(made).generate([Request(id="1", seed=1)])


def test_what_cannot_be_aligned_is_refused(shelf: Any, choices: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="a tree does not tell how likely.*reward_weighted"):
        dpo(tiny.content_run(tmp_path / "a", "table"), shelf.tree, choices)
    with pytest.raises(DataError, match="no pair to learn from"):
        dpo(tiny.content_run(tmp_path / "b", "image"), shelf.flow, shelf.pictures)
    with pytest.raises(SettingError, match="a reward model reads text"):
        dpo(tiny.content_run(tmp_path / "c", "image"), shelf.flow, choices, reward=shelf.judge)
    about = shelf.vae.about.model_copy(update={"engine": "onnx"})
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "volant.json").write_text(about.model_dump_json())
    with pytest.raises(SettingError, match="not one for 'onnx'. Name the step that made the model before"):
        dpo(tiny.content_run(tmp_path / "e", "image"), Model(tmp_path / "d"), choices)
    texts = [s.model_copy(update={"target": "a word"}) for s in paired(tiny.pictures(), lambda s: 0.0)]
    data = tiny.stored(tmp_path / "g", [*tiny.pictures(), *texts])
    with pytest.raises(DataError, match="does not hold two pictures or rows"):
        dpo(tiny.content_run(tmp_path / "f", "image"), shelf.flow, data)
