"""Pictures of 8 by 8 with one half lit, and small models of them, made in a few seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tiny_models import run_in
from volant.core.artifact import Model, ModelAbout
from volant.core.sample import Sample, Source, Split, sample_id
from volant.core.spaces import space_json
from volant.modalities import open_modality
from volant.modalities.image import png
from volant.nets import content, open_family

SOURCE = Source(uri="test:bars", licence="CC0-1.0")
SIDES = ("left", "right")


def pictures(count: int = 64, caption: str = "{}") -> list[Sample]:
    """Grey pictures, every fourth for validation; `caption` says how the side is named."""
    rng = np.random.default_rng(0)
    found = []
    for n in range(count):
        pixels = rng.integers(0, 40, (8, 8, 1)).astype(np.uint8)
        side = n // 4 % 2
        pixels[:, 4 * side : 4 * side + 4] += 200
        split: Split = "validation" if n % 4 == 0 else "train"
        media = png(pixels)
        found.append(
            Sample(
                id=sample_id(media, SIDES[side]),
                shape="media",
                media=media,
                condition=caption.format(SIDES[side]),
                source=SOURCE,
                split=split,
                attrs={"width": 8, "height": 8, "channels": 1},
            )  # fmt: skip
        )
    return found


def content_model(
    folder: Path,
    family: str,
    *,
    steps: int = 60,
    controls: dict[str, float] | None = None,
    captions: str = "auto",
    samples: Sequence[Sample] = (),
    **size: Any,
) -> Model:
    """A model directory like `pretrain.fit` leaves it; `captions: words` tells conditions word by word."""
    torch.set_num_threads(1)
    chosen: Any = open_family(family)
    train = [s for s in samples or pictures() if s.split == "train"]
    codec = open_modality("image").codec(train, captions=captions)
    examples = content.encoded(codec, train)
    net = content.build(chosen, codec, examples, seed=0, size=size)
    content.fit(run_in(folder / "training"), chosen, net, codec, examples, [], content.Budget(steps, 16))
    place = folder / "model"
    chosen.save(net, place)
    codec.save(place)
    about = ModelAbout(
        family=family, modality="image", engine="sampler", space=space_json(codec.space),
        extra={"controls": controls or {}},
    )  # fmt: skip
    (place / "volant.json").write_text(json.dumps(about.model_dump(mode="json"), indent=2) + "\n")
    return Model(place)
