"""The ladders of scorers of pictures: small drawings of shapes, made by numpy alone.

The name of a ladder and a seed enter; three sets of outputs with their references leave, best first. Four
classes, two words each (`small disc`, `large cross`): the shape's place, size, brightness and grain differ from
picture to picture, so that two of a class are near and never equal. All references and all real pictures are
fresh draws; `training` are always the same ones, whatever the seed.

    fidelity      fresh draws > Gaussian pixels by class, every second of two classes at once > noise
    memorisation  fresh draws > half of them training pictures > all of them
    diversity     fresh draws > one shape gone, one picture in its place > one picture

Shape legend: N pictures, S side in pixels.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from volant.core.errors import SettingError, did_you_mean
from volant.core.protocols import Output
from volant.core.sample import Sample, Source, sample_id
from volant.modalities.image import pixels
from volant.scorers.ladders import Rung

SIDE = 12  # pixels
SHAPES = ("disc", "cross")
SIZES = {"small": 2.6, "large": 4.4}  # half the extent, in pixels
CLASSES = tuple(f"{size} {shape}" for size in SIZES for shape in SHAPES)
TRAINING = 240  # pictures
_TRAINING_SEED = 1_000_003

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


def training() -> list[Sample]:
    """What a model of these pictures would have been trained on."""
    return list(_training())


@lru_cache(maxsize=1)
def _training() -> tuple[Sample, ...]:
    random = np.random.default_rng(_TRAINING_SEED)
    names = [CLASSES[i % len(CLASSES)] for i in range(TRAINING)]
    return tuple(_sample(_drawn(name, random), name) for name in names)


def references(n: int, seed: int = 0) -> list[Sample]:
    """`n` pictures of classes that the seed chose."""
    random = np.random.default_rng([seed, 0])
    asked = [CLASSES[i] for i in random.permutation(np.arange(n) % len(CLASSES))]
    return [_sample(_drawn(name, random), name) for name in asked]


def rungs(ladder: str, *, n: int = 60, seed: int = 0) -> tuple[Rung, Rung, Rung]:
    """The three rungs of a ladder, best first.

    Raises:
        SettingError: there is no such ladder.
    """
    if ladder not in _LADDERS:
        raise SettingError(f"there is no ladder {ladder!r} of pictures.", fix=did_you_mean(ladder, _LADDERS))
    samples = references(n, seed)
    made = _LADDERS[ladder]([str(s.condition) for s in samples], np.random.default_rng([seed, 1]))
    best, middle, worst = (([Output("", sample=sample) for sample in rung], samples) for rung in made)
    return best, middle, worst


def _fidelity(asked: list[str], random: np.random.Generator) -> tuple[list[Sample], ...]:
    known = {name: _known(name) for name in CLASSES}
    baseline, noise = [], []
    for number, name in enumerate(asked):
        gaussian_SS = random.normal(*known[name])
        if number % 2:
            other = CLASSES[(CLASSES.index(name) + 1 + number % 3) % len(CLASSES)]
            gaussian_SS = (gaussian_SS + random.normal(*known[other])) / 2
        baseline.append(_made(gaussian_SS, name))
        noise.append(_made(random.uniform(0, 255, (SIDE, SIDE)), name))
    return [_made(_drawn(name, random), name) for name in asked], baseline, noise


@lru_cache(maxsize=len(CLASSES))
def _known(name: str) -> tuple[Floats, Floats]:
    """Mean and deviation of each pixel over the training pictures of a class."""
    known_NSS = np.stack([pixels(s)[..., 0] for s in training() if s.condition == name]).astype(np.float64)
    return known_NSS.mean(0), known_NSS.std(0)


def _memorisation(asked: list[str], random: np.random.Generator) -> tuple[list[Sample], ...]:
    fresh = [_made(_drawn(name, random), name) for name in asked]
    known = training()
    copied = []
    for name in asked:
        own = [s for s in known if s.condition == name]
        copied.append(_made(pixels(own[int(random.integers(len(own)))])[..., 0], name))
    half = [copied[i] if i % 2 else fresh[i] for i in range(len(asked))]
    return fresh, half, copied


def _diversity(asked: list[str], random: np.random.Generator) -> tuple[list[Sample], ...]:
    fresh = [_made(_drawn(name, random), name) for name in asked]
    gone = set(CLASSES[:: len(SHAPES)])
    half = [fresh[0] if name in gone else own for name, own in zip(asked, fresh, strict=True)]
    return fresh, half, [fresh[0]] * len(fresh)


def _drawn(name: str, random: np.random.Generator) -> Floats:
    """One picture of a class, brightness 0 to 255 [S, S]."""
    size, _, shape = name.partition(" ")
    extent = SIZES[size] * random.uniform(0.92, 1.08)
    middle = (SIDE - 1) / 2 + random.uniform(-0.8, 0.8, 2)
    down_S1, right_1S = (np.arange(SIDE)[:, None] - middle[0]), (np.arange(SIDE)[None] - middle[1])
    if shape == "disc":
        edge_SS = extent - np.hypot(down_S1, right_1S)
    else:
        across_SS = np.minimum(1.1 - np.abs(down_S1), extent - np.abs(right_1S))
        edge_SS = np.maximum(across_SS, np.minimum(extent - np.abs(down_S1), 1.1 - np.abs(right_1S)))
    # One pixel of slope at the edge: a picture taken by a lens, not a stencil.
    ink_SS = np.clip(edge_SS + 0.5, 0, 1) * random.uniform(190, 235)
    found: Floats = np.clip(12 + ink_SS + random.normal(0, 6, (SIDE, SIDE)), 0, 255)
    return found


def _made(bright_SS: Floats | Bytes, name: str) -> Sample:
    """A picture as an output's sample."""
    return _sample(bright_SS, name, made=True)


def _sample(bright_SS: Floats | Bytes, name: str, *, made: bool = False) -> Sample:
    media = _png(np.rint(np.clip(bright_SS, 0, 255)).astype(np.uint8))
    source = Source(uri="ladder:image", licence="CC0-1.0", origin="generated" if made else "human")
    attrs = {"width": SIDE, "height": SIDE, "channels": 1}
    return Sample(id=sample_id(media, name), shape="media", source=source, media=media, condition=name, attrs=attrs)


def _png(array_SS: Bytes) -> bytes:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(array_SS).save(written, "PNG")
    return written.getvalue()


_LADDERS = {"fidelity": _fidelity, "memorisation": _memorisation, "diversity": _diversity}
