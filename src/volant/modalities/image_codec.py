"""Images as grids of numbers, and their captions as ids that a network can be told.

In go samples; out comes a codec that brings every image to one size (scaled to cover it, cut at the
centre) and pixel values 0..255 to -1..1. What an image shows is told as one of its classes where the data
has few (`class`), else as the words of its caption, hashed to a fixed number of ids (`words`). Spare ids
are kept so that a class can be added to a trained model: `with_classes`.

Legend: H height, W width, C channels.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from volant.core.errors import ArtifactError, DataError, SettingError, did_you_mean
from volant.core.sample import Sample, Source
from volant.core.spaces import Example, Grid, space_from, space_json
from volant.modalities.image_pixels import BadImage, Pixels, image_sample, pillow, pixels, size_in
from volant.modalities.words import VERSION, plain_words, words_of

FILE = "codec/image.json"
MAX_SIDE = 1024
MAX_CLASSES = 256
SPARE = 8
WORD_IDS = 1024
WORDS = 16
_KNOWN_WORDS = 4096
Captions = Literal["none", "class", "words"]


@dataclass(frozen=True)
class ImageCodec:
    """A fitted codec.

    Attributes:
        space: the grid [C, H, W] with its condition ids.
        captions: how a condition is told: not at all, as a class, or as words.
        classes: in the order of their ids.
        known: the commonest words of the captions, the commonest first; others can be learnt, and not be asked for.
    """

    space: Grid
    captions: Captions = "none"
    classes: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    def encode(self, sample: Sample) -> Example:
        """A sample as float32 [C, H, W] in [-1, 1], with the ids of its condition.

        Raises:
            DataError: it holds no image, or a class that the codec has not seen.
        """
        image = self.fitted(pixels(sample))
        values = image.transpose(2, 0, 1).astype(np.float32) / np.float32(127.5) - np.float32(1)
        text = (sample.condition or "").strip()
        told = text if self.captions != "none" else ""
        return Example(values, self._ids(told) if told else ())

    def fitted(self, array: Pixels) -> Pixels:
        """An image brought to the grid's size and channels: uint8 [H, W, C]."""
        height, width = self.space.dims
        channels = self.space.channels
        if array.shape != (height, width, channels):
            image = pillow(array).convert("L" if channels == 1 else "RGB")
            if image.size != (width, height):
                image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
            array = np.asarray(image).reshape(height, width, channels)
        return array

    def decode(self, values: Any, condition: str = "") -> Sample:
        """Numbers [C, H, W] as an image, rounded to 8 bits; what lies outside of [-1, 1] is cut.

        Words of the condition that the network was not told stand in `attrs["ignored"]`.

        Raises:
            DataError: another shape, or numbers that are none.
        """
        grid: NDArray[np.float64] = np.asarray(values, np.float64)
        shape = (self.space.channels, *self.space.dims)
        if grid.shape != shape:
            fix = "Open the codec that was saved with the model."
            raise DataError(f"numbers of the shape {list(grid.shape)} are no image of {list(shape)}.", fix=fix)
        if not np.isfinite(grid).all():
            raise DataError("the numbers are not finite.", fix="Train again with a lower rate, or guide less.")
        image = np.rint(np.clip((grid + 1) * 127.5, 0, 255)).astype(np.uint8).transpose(1, 2, 0)
        source = Source(uri="generated:", licence="LicenseRef-generated", origin="generated")
        ignored = self.ignored(condition)
        try:
            return image_sample(image, source, condition, attrs={"ignored": ignored} if ignored else {})
        except BadImage as reason:
            raise DataError(f"what was asked for {reason}.", fix="Ask in fewer plain words.") from reason

    def condition(self, text: str) -> tuple[int, ...]:
        """What is asked for as ids: a class by its name, or the one that is named in a sentence; or words.

        Words that no caption of the training had are left out, as their ids are other words'; `ignored` tells them.

        Raises:
            DataError: nothing like it was in the training data; the message names what was.
        """
        text = text.strip()
        if not text:
            return ()
        if self.captions == "none":
            fix = "Ask without a prompt, or train on images with classes or captions."
            raise DataError(
                f"this model was trained without conditions and cannot be asked for {text[:80]!r}.", fix=fix
            )
        if self.captions == "words":
            told = [word for word in plain_words(text) if word in self._known]
            if not told:
                raise DataError(
                    f"no caption that the model learnt from has a word of {text[:80]!r}.", fix=self._near(text)
                )
            return self._ids(" ".join(told))
        return self._ids(text)

    def ignored(self, text: str) -> list[str]:
        """The words of a condition that the network is not told: unknown ones, those beyond the longest caption, and
        those around the name of a class.
        """
        words = plain_words(text)
        told = [word for word in words if word in self._known][: self.space.condition_length]
        if self.captions == "class" and words:
            try:
                told = plain_words(self.classes[self._ids(text.strip())[0]])
            except DataError:  # a pipeline's class, which has several names
                return []
        return [] if self.captions == "none" else [word for word in dict.fromkeys(words) if word not in told]

    def fresh(self, conditions: Iterable[str]) -> list[str]:
        """What the data says that the codec does not know: classes, or words of captions; for `with_classes`."""
        if self.captions == "words":
            return sorted({word for text in conditions for word in plain_words(text)} - self._known)
        return sorted({text for text in conditions if text} - set(self.classes)) if self.captions == "class" else []

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.known)

    def fits(self, sample: Sample, condition: str) -> bool:
        """Always: what a condition asks, the network was told."""
        return True

    def with_classes(self, names: Sequence[str]) -> ImageCodec:
        """The codec with further classes, or words of captions, in the same space: a trained network can learn them.

        Words have their ids already; from now on they can be asked for.

        Raises:
            DataError: a class is known already, there are more than the spare ids, or the model knows no classes.
        """
        if self.captions == "words":
            return replace(self, known=(*self.known, *(name for name in names if name not in self._known)))
        if self.captions == "none":
            fix = "Train on images with classes."
            raise DataError("a model that was trained without conditions cannot be given a class.", fix=fix)
        fresh = [name.strip() for name in names]
        again = [n for n in fresh if not n or n in self.classes or fresh.count(n) > 1]
        if again:
            raise DataError(f"the class {again[0]!r} is there already or empty.", fix="Give new names only.")
        left = self.space.conditions - len(self.classes)
        if len(fresh) > left:
            what = f"{len(fresh)} classes are more than the {left} that there is room for."
            raise DataError(what, fix="Train anew on all classes.")
        return replace(self, classes=(*self.classes, *fresh))

    def save(self, folder: Path) -> None:
        """Write `codec/image.json`."""
        body = {
            "version": 1, "hash": VERSION, "space": space_json(self.space), "captions": self.captions,
            "classes": self.classes, "known": self.known,
        }  # fmt: skip
        file = folder / FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _ids(self, text: str) -> tuple[int, ...]:
        if self.captions == "words":
            hashes = words_of([text]).hash_W[: self.space.condition_length]
            return tuple(int(h % np.uint64(self.space.conditions)) for h in hashes)
        if text in self.classes:
            return (self.classes.index(text),)
        lowered = [name.lower() for name in self.classes]
        said = f" {' '.join(plain_words(text))} "
        named = [i for i, name in enumerate(lowered) if name == text.lower()] or [
            i for i, name in enumerate(lowered) if f" {' '.join(plain_words(name))} " in said and name.strip()
        ]
        if len(named) != 1:
            what = f"there is no class {text[:80]!r}" if not named else f"{text[:80]!r} names {len(named)} classes"
            raise DataError(f"{what} among the {len(self.classes)} of this model.", fix=self._near(text))
        return (named[0],)

    def _near(self, text: str) -> str:
        known = self.classes or self.known
        close = difflib.get_close_matches(text, known, n=1, cutoff=0.5)
        if close:
            return f"Did you mean {close[0]!r}?"
        more = ", ..." if len(known) > 20 else ""
        return f"Known: {', '.join(known[:20])}{more}."


def fit_codec(
    samples: Iterable[Sample],
    *,
    space: str = "grid",
    side: int = 0,
    channels: int = 0,
    captions: str = "auto",
    words: int = WORD_IDS,
) -> ImageCodec:
    """Fit a codec; the same samples in any order give the same one.

    Args:
        samples: of the training split.
        space: `grid`.
        side: height and width in pixels; 0 takes the data's most common size.
        channels: 1 (grey) or 3 (colour); 0 takes 1 where all images are grey.
        captions: `class`, `words`, `none`, or `auto`: classes where there are at most 256, each seen twice.
        words: how many ids there are for words; more of them collide less.

    Raises:
        DataError: no image, or none of a size that fits.
        SettingError: a setting is out of its bounds.
    """
    _check(space, side, channels, captions, words)
    sizes, depth = Counter[tuple[int, int]](), 1
    told, seen, longest = Counter[str](), Counter[str](), 1
    for sample in samples:
        height, width, deep = size_in(sample)
        sizes[(height, width)] += 1
        depth = max(depth, deep)
        if text := (sample.condition or "").strip():
            told[text] += 1
            if captions in ("auto", "words"):
                found = plain_words(text)
                seen.update(found)
                longest = max(longest, len(found))
    if not sizes:
        raise DataError("there is no image to fit a codec on.", fix="Check that the train split holds images.")
    dims = (side, side) if side else min(sizes, key=lambda size: (-sizes[size], size))
    if max(dims) > MAX_SIDE:
        what = f"the most common size is {dims[1]} x {dims[0]} pixels; at most {MAX_SIDE} a side are learnt."
        raise DataError(what, fix="Set `side`, as in `side: 64`.")
    how = _how(captions, told)
    grid = Grid(channels or depth, dims)
    if how == "class":
        classes = tuple(sorted(told, key=_natural))
        return ImageCodec(replace(grid, conditions=len(classes) + SPARE), "class", classes)
    if how == "words":
        grid = replace(grid, conditions=words, condition_length=min(WORDS, longest))
        common = sorted(seen, key=lambda word: (-seen[word], word))[:_KNOWN_WORDS]
        return ImageCodec(grid, "words", known=tuple(common))
    return ImageCodec(grid)


def open_codec(folder: Path) -> ImageCodec:
    """The codec in a model directory.

    Raises:
        ArtifactError: it is not there or damaged.
    """
    file = folder / FILE
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        space = space_from(body["space"])
        if body["hash"] != VERSION or body["version"] != 1 or not isinstance(space, Grid):
            raise ValueError("it is of another version of Volant")
        return ImageCodec(space, body["captions"], tuple(body["classes"]), tuple(body["known"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "Run `volant verify`; a model of images brings this file."
        raise ArtifactError(f"the image codec cannot be read: {error}.", where=str(file), fix=fix) from error


def _check(space: str, side: int, channels: int, captions: str, ids: int) -> None:
    if space != "grid":
        raise SettingError(f"images have no space {space!r}.", where="space", fix=did_you_mean(space, ["grid"]))
    if not 0 <= side <= MAX_SIDE:
        raise SettingError(f"side cannot be {side}.", where="side", fix=f"Take 1 to {MAX_SIDE}, or 0 for the data's.")
    if channels not in (0, 1, 3):
        raise SettingError(f"channels cannot be {channels}.", where="channels", fix="Take 1 or 3, or 0 for the data's.")
    if captions not in ("auto", "class", "words", "none"):
        fix = did_you_mean(captions, ["auto", "class", "words", "none"])
        raise SettingError(f"captions cannot be {captions!r}.", where="captions", fix=fix)
    if not 16 <= ids <= 1 << 20:
        raise SettingError(f"words cannot be {ids}.", where="words", fix="Take 16 to 1,048,576.")


def _how(captions: str, told: Counter[str]) -> str:
    if not told or captions == "none":
        return "none"
    if captions == "class" and len(told) > 16 * MAX_CLASSES:
        fix = "Take `captions: words`."
        raise DataError(f"the data has {len(told):,} classes; at most {16 * MAX_CLASSES:,} are learnt.", fix=fix)
    if captions != "auto":
        return captions
    return "class" if len(told) <= MAX_CLASSES and min(told.values()) > 1 else "words"


def _natural(name: str) -> tuple[bool, int, str]:
    """Numbers by their value before words."""
    number = name.isdecimal() and len(name) < 18
    return (not number, int(name) if number else 0, name)
