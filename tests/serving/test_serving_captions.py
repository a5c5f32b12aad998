"""Captions in free words, the whole way: from files through training, prompting and delivery to OpenAI's client."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

import small_content as tiny
from tiny_models import watched
from volant.core.artifact import Dataset, Model
from volant.core.errors import RemoteError
from volant.core.outside import OutsideFile, Snapshot
from volant.core.protocols import Request
from volant.core.sample import Sample
from volant.engines import open_model
from volant.modalities.image import modality, pixels, png
from volant.modalities.image_pixels import decoded
from volant.serving.run import running
from volant.serving.service import Fixed
from volant.stages.collect import files
from volant.stages.deliver import content
from volant.stages.finetune import full
from volant.stages.pretrain import fit
from volant.stages.prompt import controls
from volant.store.dataset import rows

SIDES, SIZES = ("left", "right"), {"thin": 2, "thick": 5}


def bar(side: str, size: str, rng: np.random.Generator) -> Any:
    """A grainy bar at a side, thin or thick."""
    array = np.zeros((8, 8, 1))
    array[:, : SIZES[size]] = 200
    array = array if side == "left" else array[:, ::-1]
    return np.clip(array + rng.normal(20, 10, array.shape), 0, 255).astype(np.uint8)


def look(sample: Sample) -> tuple[str, float]:
    """On which side a bar is, and how many columns are lit."""
    lit = pixels(sample)[..., 0].mean(0) > 110
    return ("left" if lit[:4].sum() >= lit[4:].sum() else "right", float(lit.sum()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 pictures, with captions in files beside them, and in a JSONL and a CSV list."""
    place, rng = tmp_path_factory.mktemp("captions"), np.random.default_rng(0)
    lines, table = [], ["file_name,text"]
    for number in range(96):
        side, size = SIDES[number % 2], tuple(SIZES)[number // 2 % 2]
        said = (f"a bar on the {side}, {size}", f"{size}: {side} bar")[number // 4 % 2]
        (place / f"{number:03d}.png").write_bytes(png(bar(side, size, rng)))
        (place / f"{number:03d}.txt").write_text(said)
        lines.append(json.dumps({"file_name": f"{number:03d}.png", "text": said}))
        table.append(f'{number:03d}.png,"{said}"')
    (place / "list.jsonl").write_text("\n".join(lines))
    (place / "list.csv").write_text("\n".join(table))
    return place


def collected(run_folder: Path, found: list[Path], **reading: Any) -> Dataset:
    """What `collect.files` makes of files."""
    about = tuple(OutsideFile(f, f.name, f.stat().st_size, "0" * 64) for f in found)
    run = tiny.content_run(run_folder, "image", outside={"glob": Snapshot("files", "*", about)})
    return files(run, glob="*", licence="CC0-1.0", reading=reading)


@pytest.fixture(scope="module")
def data(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return collected(tmp_path_factory.mktemp("data"), sorted(folder.glob("*.png")), captions="sidecar")


@pytest.fixture(scope="module")
def model(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Model:
    run = tiny.content_run(tmp_path_factory.mktemp("model"), "image")
    size = {"width": 8, "depth": 1, "average": 0.5}
    return fit(run, data, steps=140, batch=16, size=size, codec={"captions": "words"}, controls={"steps": 4.0})


def drawn(model: Model, words: str, n: int = 12, **controls: float) -> list[Sample]:
    asked = [Request(id=str(i), prompt=words, seed=i, controls=controls) for i in range(n)]
    return [c.sample for c in open_model(model).generate(asked) if c.sample]


def test_captions_are_read_from_wherever_they_stand(folder: Path, data: Dataset, tmp_path: Path) -> None:
    told = {s.id: s.condition for s in rows(data)}
    assert len(told) == 96 and "a bar on the left, thin" in told.values()
    for number, name in enumerate(("list.jsonl", "list.csv")):
        other = collected(tmp_path / str(number), [folder / name])
        assert {s.id: s.condition for s in rows(other)} == told


def test_the_words_decide_what_is_drawn(model: Model) -> None:
    assert model.about.space["condition_length"] == 6 and model.about.space["conditions"] == 1024
    for side in SIDES:
        thin, thick = (
            [look(s) for s in drawn(model, said, guidance=2.0)] for said in (f"{side} thin", f"a {side} bar, thick")
        )
        assert sum(where == side for where, _ in [*thin, *thick]) >= 22
        assert np.mean([columns for _, columns in thick]) > np.mean([columns for _, columns in thin]) + 1.5


def test_unknown_words_are_said_and_a_caption_of_none_is_refused(model: Model, tmp_path: Path) -> None:
    run = tiny.content_run(tmp_path / "a", "image")
    asked = ["a purple bar on the left, thick", "thick left"]
    made = list(rows(content(run, model, ask=asked, count=2)))
    assert [s.attrs.get("ignored") for s in made] == [["purple"]] * 2 + [None] * 2
    said = [line for line in watched(run).lines if "not told" in line]
    assert said == ["of 'a purple bar on the left, thick' the model was not told: purple"]
    marks = modality.deliver(made[:1], "png")
    assert b'"ignored": ["purple"]' in marks
    with pytest.raises(RemoteError, match="no caption that the model learnt from has a word of 'xylophonic'.*Known: "):
        content(tiny.content_run(tmp_path / "b", "image"), model, ask=["xylophonic"], count=1)


def test_guidance_is_chosen_for_captions(
    model: Model, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny.content_run(tmp_path, "image", metric="sharpness")
    judge_free = {"candidates": {"guidance": [1.0, 2.0]}, "metric": "sharpness", "limit": 8}
    monkeypatch.setattr(type(modality), "gates", lambda self: ())  # they need a judge of classes
    made = controls(run, model, data, **judge_free)
    body = json.loads((made.path / "prompt.json").read_text())
    assert [row["controls"] for row in body["measured"]["tried"]] == [{}, {"guidance": 1.0}, {"guidance": 2.0}]


def test_openais_client_is_told_which_words_counted(model: Model, serving: Any) -> None:
    service = serving(open_model(model), source=Fixed(model, name="champion"), routes=modality.api())
    with running(service) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        made = client.images.generate(model="champion", prompt="A purple bar on the right, thick!", n=2).data or []
        assert [image.revised_prompt for image in made] == ["a bar on the right thick"] * 2
        shown = decoded(base64.b64decode(made[0].b64_json or ""))
        assert shown.shape == (8, 8, 1)
        (plain,) = client.images.generate(model="champion", prompt="thick, right").data or []
        assert plain.revised_prompt is None
        with pytest.raises(openai.BadRequestError, match="has a word of 'quite xylophonic'.*Known: "):
            client.images.generate(model="champion", prompt="quite xylophonic")


def test_a_new_word_is_learnt_by_fine_tuning(model: Model, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    fresh = []
    for number in range(48):
        array = bar("left", "thin", rng)
        array[:4] = 0
        (tmp_path / f"{number}.png").write_bytes(png(array))
        (tmp_path / f"{number}.txt").write_text("half a bar, left")
        fresh.append(tmp_path / f"{number}.png")
    data = collected(tmp_path / "data", fresh, captions="sidecar")
    run = tiny.content_run(tmp_path / "run", "image")
    made = full(run, model, data, steps=20, batch=16, lr=3e-3)
    assert any(line.startswith("new words: half; 0 samples") for line in watched(run).lines)
    (sample, *_) = drawn(made, "half a bar, left", 2)
    assert "ignored" not in sample.attrs and drawn(model, "half a bar, left", 1)[0].attrs["ignored"] == ["half"]
