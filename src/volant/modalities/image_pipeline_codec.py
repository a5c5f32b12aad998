"""Images for a pipeline that was taken as it is: its own size, its own tokenizer's ids or its own classes.

In go samples; out come grids of the pipeline's size and condition ids that the pipeline understands: the ids of its
tokenizer without the marks of start and end (`words`), the number of a class (`class`), or nothing (`none`). What an
id means was settled when the pipeline was trained, so nothing is fitted here and no class can be added.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from volant.core.errors import ArtifactError, DataError
from volant.core.sample import Sample
from volant.core.spaces import Example, Grid, space_from, space_json
from volant.modalities.image_codec import ImageCodec

FILE = "codec/pipeline.json"
TOKENIZER = "codec/tokenizer.json"
Told = Literal["none", "class", "words"]


@dataclass(frozen=True)
class PipelineCodec:
    """The codec of a pipeline.

    Attributes:
        space: the grid [C, H, W] of the pipeline's images, with its condition ids.
        told: how a condition is told: not at all, as a class, or as words.
        names: of the classes, in the order of their ids; one may hold several names with commas between them.
        tokenizer: of words, as the JSON of `tokenizers`.
    """

    space: Grid
    told: Told = "none"
    names: tuple[str, ...] = ()
    tokenizer: str = ""

    def encode(self, sample: Sample) -> Example:
        """A sample as float32 [C, H, W] in [-1, 1], with the ids of its condition.

        Raises:
            DataError: it holds no image, or a class that the pipeline does not know.
        """
        values = self._pixels.encode(sample).values
        return Example(values, self.condition(sample.condition or "") if self.told != "none" else ())

    def decode(self, values: Any, condition: str = "") -> Sample:
        """Numbers [C, H, W] as an image.

        Raises:
            DataError: another shape, or numbers that are none.
        """
        return self._pixels.decode(values, condition)

    def condition(self, text: str) -> tuple[int, ...]:
        """What is asked for as ids: a class by one of its names or its number, or words; words beyond are cut.

        Raises:
            DataError: the pipeline has no such class, or cannot be asked for anything.
        """
        text = text.strip()
        if not text:
            return ()
        if self.told == "words":
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
            return tuple(ids[: self.space.condition_length])
        if self.told == "none":
            return self._pixels.condition(text)
        found = {place for place, name in enumerate(self.names) if text.lower() in _names(name)}
        if text.isdecimal() and len(text) < 9 and int(text) < len(self.names):
            found.add(int(text))
        if len(found) > 1:
            fix = f"Ask by number: {', '.join(str(i) for i in sorted(found)[:10])}."
            raise DataError(f"{len(found)} classes of the pipeline are called {text[:80]!r}.", fix=fix)
        return tuple(found) or self._pixels.condition(text)

    def fits(self, sample: Sample, condition: str) -> bool:
        """Always: what a condition asks, the pipeline was told."""
        return True

    def save(self, folder: Path) -> None:
        """Write `codec/pipeline.json`, and `codec/tokenizer.json` where there are words."""
        body = {"version": 1, "space": space_json(self.space), "told": self.told, "names": self.names}
        file = folder / FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if self.told == "words":
            (folder / TOKENIZER).write_text(self.tokenizer, encoding="utf-8")

    @cached_property
    def _pixels(self) -> ImageCodec:
        grid = replace(self.space, conditions=len(self.names), condition_length=1)
        return ImageCodec(grid, "class", self.names) if self.told == "class" else ImageCodec(grid)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        # A tokenizer may come with padding switched on; here ids are wanted, and nothing else.
        made = Tokenizer.from_str(self.tokenizer)
        made.no_padding()
        made.no_truncation()
        return made


def has_pipeline(folder: Path) -> bool:
    """Whether a model directory holds a pipeline with its codec."""
    return (folder / FILE).is_file() and (folder / "model_index.json").is_file()


def open_codec(folder: Path) -> PipelineCodec:
    """The codec in a model directory.

    Raises:
        ArtifactError: it is not there or damaged.
    """
    file = folder / FILE
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        space = space_from(body["space"])
        told = body["told"]
        if body["version"] != 1 or not isinstance(space, Grid) or told not in ("none", "class", "words"):
            raise ValueError("it is of another version of Volant")
        text = (folder / TOKENIZER).read_text(encoding="utf-8") if told == "words" else ""
        codec = PipelineCodec(space, told, tuple(body["names"]), text)
        if text:
            codec.condition("a")
        return codec
    except Exception as error:  # tokenizers raises plain `Exception` on a damaged file
        first = str(error).strip().split("\n")[0]
        fix = "Run `volant verify`; `pretrain.base` writes this file beside a pipeline."
        raise ArtifactError(f"the pipeline's codec cannot be read: {first}.", where=str(file), fix=fix) from error


def _names(name: str) -> Sequence[str]:
    """All names of a class, in lower case: `tench, Tinca tinca` is called by either, or by both."""
    return [name.lower().strip(), *(part.strip() for part in name.lower().split(","))]
