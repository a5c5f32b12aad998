"""A small task and a model of about 60,000 weights that has half learnt it, made in two seconds."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch

from volant.core.artifact import Dataset, Model, ModelAbout
from volant.core.outside import Snapshot
from volant.core.run import Run, Silent
from volant.core.sample import Label, Sample, Source, Split
from volant.core.spaces import space_json
from volant.modalities import open_modality
from volant.nets.batches import Padded
from volant.nets.loop import Recipe, train
from volant.nets.transformer import family
from volant.store.dataset import writer

VERBS = {"add": "Add", "read": "Read", "find": "Find", "sort": "Sort", "load": "Load", "drop": "Drop"}
NOUNS = ("file", "list", "name", "row", "word", "page", "key", "tree")
SOURCE = Source(uri="test:tiny", licence="CC0-1.0")


def samples() -> list[Sample]:
    """48 pairs of a function's first line and what it does; two nouns are for validation."""
    found = []
    for number, noun in enumerate(NOUNS):
        split: Split = "validation" if number < 2 else "train"
        for verb, said in VERBS.items():
            prompt, answer = f"def {verb}_{noun}(x):", f"{said} the {noun}."
            name = f"{verb}_{noun}"
            found.append(
                Sample(id=name, shape="completion", source=SOURCE, condition=prompt, target=answer, split=split)
            )
    return found


def pairs(wrong: str = "Do something else with it now.") -> list[Sample]:
    """The same prompts with the right answer chosen and one of another form rejected."""
    label = [Label(name="preference", value="chosen", by="person:test")]
    return [
        s.model_copy(update={"shape": "preference", "rejected": wrong, "labels": label, "id": f"{s.id}-pair"})
        for s in samples()
    ]


def dataset(folder: Path, kept: list[Sample]) -> Dataset:
    """Samples as a Dataset."""
    with writer(folder) as out:
        out.write_all(kept)
    return Dataset(folder)


def run_in(folder: Path, *, seed: int = 0, outside: dict[str, Snapshot] | None = None, records: Any = None) -> Run:
    """A run with fresh folders and a silent watcher."""
    out, work = folder / "out", folder / "work"
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(exist_ok=True)
    return Run("step", out, work, seed=seed, outside=outside or {}, records=records, stop=threading.Event())


def watched(run: Run) -> Silent:
    """What the run said and scored."""
    assert isinstance(run.watcher, Silent)
    return run.watcher


def model(folder: Path, *, steps: int = 60) -> Model:
    """A model directory like `finetune.full` leaves it, trained for `steps` steps on the train split."""
    torch.set_num_threads(1)
    modality = open_modality("text")
    codec: Any = modality.codec(samples(), vocab=320, length=128)
    net = family.build(codec.space, seed=0, depth=2, width=64, heads=2, mlp=96, eos=codec.eos_id)
    net.config.eos_token_id = net.generation_config.eos_token_id = list(codec.stop_ids)
    learnt = [codec.encode(s) for s in samples() if s.split == "train"]
    batches = Padded(learnt, length=128, rows=12, seed=0, pad=codec.pad_id)
    if steps:
        recipe = Recipe(steps, 0.005, muon_lr=0.02, decay=steps // 2, checkpoint_every=0)
        train(run_in(folder / "training"), net, batches, recipe)
    place = folder / "model"
    family.save(net, place)
    codec.save(place)
    about = ModelAbout(
        family="transformer", modality="text", space=space_json(codec.space),
        chat_template_sha256=codec.template_sha256, parameters=sum(p.numel() for p in net.parameters()),
    )  # fmt: skip
    (place / "volant.json").write_text(about.model_dump_json(indent=1) + "\n")
    return Model(place)
