"""Encoded examples as batches: packed windows for running text, padded rows for pairs.

What enters: token ids with their loss masks. What leaves: `Batch` number `step`, a pure function of
the seed and the step. That is the whole data cursor: a resumed run asks for the same steps again
and gets the same tokens, whatever happened in between.

Shape legend: B rows, L length in tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from volant.core.errors import DataError
from volant.core.spaces import Encoded


@dataclass(frozen=True)
class Batch:
    """Token ids with what the loss counts.

    Attributes:
        ids: int64 [B, L].
        mask: bool [B, L]; True where the id is a target of the loss (position 0 never counts).
        real: bool [B, L]; False on padding; None where there is none.
        document: int32 [B, L]; ids see only those of their own document. None where each row is one.
        place: int64 [B, L]; position of each id in its document. None where it is the one in the row.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    real: torch.Tensor | None = None
    document: torch.Tensor | None = None
    place: torch.Tensor | None = None
    unit = "tokens"

    @property
    def size(self) -> int:
        """Rows."""
        return self.ids.size(0)

    @property
    def width(self) -> int:
        """Tokens in a row, padding counted."""
        return self.ids.size(1)

    @property
    def counted(self) -> int:
        """Targets of the loss."""
        return int(self.mask[:, 1:].sum())

    @property
    def tokens(self) -> int:
        """Ids that are not padding."""
        return int(self.ids.numel() if self.real is None else self.real.sum())

    def to(self, device: str) -> Batch:
        """The same batch on another device."""
        if device == "cpu":
            return self
        real = None if self.real is None else self.real.to(device)
        document = None if self.document is None else self.document.to(device)
        place = None if self.place is None else self.place.to(device)
        return Batch(self.ids.to(device), self.mask.to(device), real, document, place)

    def rows(self, start: int, stop: int) -> Batch:
        """Some of the rows; for gradient accumulation."""
        real = None if self.real is None else self.real[start:stop]
        document = None if self.document is None else self.document[start:stop]
        place = None if self.place is None else self.place[start:stop]
        return Batch(self.ids[start:stop], self.mask[start:stop], real, document, place)


def seen_by(batch: Batch, *, both_ways: bool = False) -> torch.Tensor | None:
    """The attention mask that transformers takes: padding [B, L], or what sees what [B, 1, L, L] across documents.

    Args:
        batch: whose ids read each other.
        both_ways: they see what comes behind them as well.
    """
    if batch.document is None:
        return None if batch.real is None else batch.real.long()
    same_BLL = batch.document[:, :, None] == batch.document[:, None, :]
    if batch.real is not None:
        itself_LL = torch.eye(batch.width, dtype=torch.bool, device=same_BLL.device)
        same_BLL = same_BLL & (batch.real[:, None, :] | itself_LL)
    return (same_BLL if both_ways else same_BLL.tril())[:, None]


class Step(Protocol):
    """What the loop needs of a batch of any space."""

    unit: str

    @property
    def size(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """What a row counts in `Recipe.piece_tokens`."""

    @property
    def counted(self) -> int:
        """What the summed loss is divided by."""

    @property
    def tokens(self) -> int:
        """What it adds to the tokens seen; examples where there are no tokens."""

    def to(self, device: str) -> Step:
        """The same batch on another device."""

    def rows(self, start: int, stop: int) -> Step:
        """Some of the rows."""


class Batches(Protocol):
    """Training data as a pure function of the step."""

    steps: int

    def batch(self, step: int) -> Any:
        """The batch of that step; `steps` of them make one pass over the data."""


class Packed:
    """Running text: documents end to end in one row of tokens, cut into windows of `length`.

    Documents do not see each other. Each one begins with the last id of the one before, its end mark, which is what
    the first id of a text is predicted from when a text is scored or written alone; with `both_ways`, where nothing is
    predicted from what is before it alone, each has its own end mark instead.
    Each pass shuffles the windows and shifts where they are cut, so that no token is always first
    in its window. Nothing is padded and nothing is dropped but a last piece shorter than a window.

    Attributes:
        rows: windows in a step, as many as were asked for or there are.
    """

    def __init__(
        self, documents: Sequence[Encoded], *, length: int, rows: int, seed: int, both_ways: bool = False
    ) -> None:
        flat = np.fromiter((i for d in documents for i in d.ids), dtype=np.int32)
        if flat.size < length + 1:
            what = f"the text has {flat.size} tokens; one window needs {length + 1}"
            raise DataError(what, fix="Add more text or choose a shorter `context`.")
        owner = np.repeat(np.arange(len(documents), dtype=np.int32), [len(d.ids) for d in documents])
        if not both_ways:
            owner[:-1] = owner[1:]
        self._ids, self._owner, self._length, self._seed = flat, owner, length, seed
        windows = (flat.size - 1) // length
        self.rows = min(rows, windows)
        self.steps = windows // self.rows
        self._windows = windows
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    @property
    def tokens(self) -> int:
        """Tokens in one pass."""
        return int(self._ids.size)

    def batch(self, step: int) -> Batch:
        """The windows of that step."""
        epoch, place = divmod(step, self.steps)
        starts = self._starts(epoch)[place * self.rows : (place + 1) * self.rows]
        ids = np.stack([self._ids[s : s + self._length] for s in starts]).astype(np.int64)
        ids_BL = torch.from_numpy(ids)
        owners_BL = torch.from_numpy(np.stack([self._owner[s : s + self._length] for s in starts]))
        one = bool((owners_BL == owners_BL[:, :1]).all())
        return Batch(ids_BL, torch.ones_like(ids_BL, dtype=torch.bool), None, None if one else owners_BL)

    def _starts(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            rng = np.random.default_rng([self._seed, epoch])
            room = self._ids.size - self._windows * self._length
            shift = int(rng.integers(0, room + 1)) if epoch else 0
            starts = np.sort(rng.permutation(self._windows)) * self._length + shift
            self._order = (epoch, rng.permutation(starts))
        return self._order[1]


class Padded:
    """Examples as rows, padded on the right; rows of like length share a batch to waste little.

    Attributes:
        rows: examples in a step, as many as were asked for or there are.
    """

    def __init__(self, examples: Sequence[Encoded], *, length: int, rows: int, seed: int, pad: int) -> None:
        fitted = [fit(e, length) for e in examples]
        self._examples = [e for e in fitted if any(e.mask[1:])]
        if not examples:
            raise DataError("there is no example to train on", fix="Add samples to the train split.")
        if not self._examples:
            what = f"the loss mask of all {len(examples)} examples is empty: no answer token is left to learn from"
            fix = "Check that the samples have answers (`target`, or an assistant turn), and that `context` has room."
            raise DataError(what, fix=fix)
        self.masked_out = len(examples) - len(self._examples)
        self.rows, self._seed, self._pad = min(rows, len(self._examples)), seed, pad
        self.steps = -(-len(self._examples) // self.rows)
        self._order: tuple[int, list[list[int]]] = (-1, [])
        lengths = {len(e.ids) for e in self._examples}
        self._alike = lengths.pop() if len(lengths) == 1 else 0  # rows of a table: nothing to pad

    @property
    def tokens(self) -> int:
        """Tokens in one pass, padding not counted."""
        return sum(len(e.ids) for e in self._examples)

    def batch(self, step: int) -> Batch:
        """The rows of that step."""
        epoch, place = divmod(step, self.steps)
        if self._order[0] != epoch:
            self._order = (epoch, self._epoch(epoch))
        return self.collate([self._examples[i] for i in self._order[1][place]])

    def in_order(self) -> list[Batch]:
        """All examples once, in the order given; for validation."""
        starts = range(0, len(self._examples), self.rows)
        return [self.collate(self._examples[s : s + self.rows]) for s in starts]

    def collate(self, examples: Sequence[Encoded]) -> Batch:
        """Examples as one right-padded batch."""
        width = self._width(examples)
        ids_BL = torch.full((len(examples), width), self._pad, dtype=torch.int64)
        mask_BL, real_BL = torch.zeros(2, len(examples), width, dtype=torch.bool)
        for row, example in enumerate(examples):
            n = len(example.ids)
            ids_BL[row, :n] = torch.tensor(example.ids)
            mask_BL[row, :n] = torch.tensor(example.mask)
            real_BL[row, :n] = True
        return Batch(ids_BL, mask_BL, None if bool(real_BL.all()) else real_BL)

    @property
    def longest(self) -> int:
        """Ids of the longest row of all, padding counted."""
        return self._width(self._examples)

    def _width(self, examples: Sequence[Encoded]) -> int:
        # A multiple of 32: a few shapes, whose kernels and buffers are used again, in place of hundreds.
        longest = max(len(e.ids) for e in examples)
        return longest if longest == self._alike else -(-longest // 32) * 32

    def _epoch(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng([self._seed, epoch])
        order = [int(i) for i in rng.permutation(len(self._examples))]
        chunk, batches = 16 * self.rows, []
        for start in range(0, len(order), chunk):
            part = sorted(order[start : start + chunk], key=lambda i: len(self._examples[i].ids))
            batches += [part[s : s + self.rows] for s in range(0, len(part), self.rows)]
        return [batches[int(i)] for i in rng.permutation(len(batches))]


class Mixed:
    """Several sources row by row: each step takes a batch of every one, so their shares hold at each step."""

    def __init__(self, sources: Sequence[Batches]) -> None:
        self._sources = list(sources)
        self.steps = max(source.steps for source in self._sources)

    def batch(self, step: int) -> Batch:
        """The rows of that step, one source after the other; all have to have one length and no padding."""
        parts = [source.batch(step) for source in self._sources]
        apart = [torch.zeros(p.ids.shape, dtype=torch.int32) if p.document is None else p.document for p in parts]
        document = torch.cat(apart) if any(p.document is not None for p in parts) else None
        return Batch(torch.cat([p.ids for p in parts]), torch.cat([p.mask for p in parts]), None, document)


def fit(example: Encoded, length: int) -> Encoded:
    """The example in at most `length` tokens, all of them used: the prompt is shortened, then the end cut off.

    What follows the prompt (the answer; in a chat all turns from the first answer on) keeps half of the room at
    least, and all that the prompt leaves. Without a prompt (running text) the end is cut off.
    """
    if len(example.ids) <= length:
        return example
    first = next((i for i, counts in enumerate(example.mask) if counts), 0)
    if first == 0:
        return Encoded(example.ids[:length], example.mask[:length])
    answer = min(len(example.ids) - first, max(length // 2, length - first))
    prompt = shorten(example.ids[:first], length - answer)
    mask = [False] * len(prompt) + list(example.mask[first : first + answer])
    return Encoded(prompt + list(example.ids[first : first + answer]), mask)


def shorten(ids: Sequence[int], length: int) -> list[int]:
    """A prompt in at most `length` ids: the first three quarters of the room from its head, the rest from its tail.

    The head holds what is asked and, for code, the signature; the tail the turn marks that start
    the answer. Training and generation shorten alike.
    """
    if len(ids) <= length:
        return list(ids)
    tail = max(1, length // 4)
    return [*ids[: length - tail], *ids[len(ids) - tail :]]
