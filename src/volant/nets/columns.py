"""What a row of a table looks like to a network: categories and scores.

What enters: a `Mixed` space and the training rows as float64 [N, columns] (NaN is missing). What leaves: a
`Layout`, which turns rows into symbols (one integer a column) and scores (one number a column), or into one
dense vector, and back. A column's symbols are

    its categories, or the values of a number that many rows share (a spike: the zeros of `capital-gain`);
    then, for a number, the ranges into which its other values are cut, each with about as many rows;
    then, where a value may be missing, one for that.

A score is the rank of a value among the other values of its column, seen through the normal distribution, so that
no tail is long (the quantile transform of Kotelnikov and others 2023, TabDDPM; ranges in place of the mixture's
modes of Xu and others 2019, CTGAN). Ranks come back through the interpolated quantiles of the training rows: what is
drawn lies between values that were seen.

Shape legend: N rows, C columns, W dense width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from volant.core.errors import ArtifactError, DataError
from volant.core.spaces import Column, Mixed

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

FILE = "layout.json"
WIDEST = 4096  # symbols of one column; a table of more weights than rows learns nothing
_FEW = 24  # a number with no more different values than this is all spikes
_SPIKE = 0.03  # the share of rows from which a value is one
_KNOTS = 2048  # different values that a column's ranks are kept for
_FURTHEST = 4.0  # scores beyond are one in thirty thousand


@dataclass(frozen=True)
class Slot:
    """One column as symbols and a score.

    Attributes:
        symbols: values that are symbols of their own, ascending.
        knots: other values, ascending; empty where there are none.
        lows, highs: rank of each knot's first and last row, in (0, 1).
        cuts: values at which a new range starts; one less than there are ranges.
        edges: ranks between which each range lies; one more than there are ranges.
        missing: whether the last symbol means that there is no value.
        whole: whether the training values were all whole numbers.
    """

    name: str
    symbols: tuple[float, ...]
    knots: tuple[float, ...] = ()
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    cuts: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    missing: bool = False
    whole: bool = False

    @property
    def ranges(self) -> int:
        """Into how many ranges the other values are cut."""
        return max(0, len(self.edges) - 1)

    @property
    def count(self) -> int:
        """Symbols of all three kinds."""
        return len(self.symbols) + self.ranges + self.missing

    def encode(self, value_N: F64) -> tuple[I64, F32]:
        """Symbols [N] and scores [N] of values; symbol -1 where a value is missing that never was in training."""
        gone_N = np.isnan(value_N)
        filled_N = np.where(gone_N, 0.0, value_N)
        # Batches hold float32, so that spikes are compared at that precision.
        own = np.asarray(self.symbols, np.float64).astype(np.float32)
        near_N = _nearest(own, filled_N)
        rank_N = np.full(len(value_N), 0.5)
        if self.ranges:
            knots = np.asarray(self.knots)
            low_N, high_N = np.interp(filled_N, knots, self.lows), np.interp(filled_N, knots, self.highs)
            rank_N = (low_N + high_N) / 2
            inside_N = np.searchsorted(np.asarray(self.cuts), filled_N * (1 + 1e-7 * np.sign(filled_N)), side="right")
            spike_N = own[near_N] == filled_N.astype(np.float32) if len(own) else np.zeros(len(value_N), bool)
            near_N = np.where(spike_N, near_N, len(own) + inside_N)
            rank_N = np.where(spike_N, 0.5, rank_N)
        symbol_N = np.where(gone_N, self.count - 1 if self.missing else -1, near_N)
        rank_N = np.where(gone_N, 0.5, rank_N)
        return symbol_N.astype(np.int64), np.clip(ndtri(rank_N), -_FURTHEST, _FURTHEST).astype(np.float32)

    def decode(self, symbol_N: I64, rank_N: F64) -> F64:
        """Values of symbols; `rank_N` in [0, 1] says which value of a range."""
        own = len(self.symbols)
        table = np.concatenate([np.asarray(self.symbols, np.float64), np.full(self.ranges + self.missing, np.nan)])
        value_N = table[symbol_N]
        inside_N = (symbol_N >= own) & (symbol_N < own + self.ranges)
        if inside_N.any():
            ranks = np.stack([self.lows, self.highs], 1).ravel()
            drawn_N = np.interp(rank_N[inside_N], ranks, np.repeat(self.knots, 2))
            value_N[inside_N] = np.round(drawn_N) if self.whole else drawn_N
        return value_N


@dataclass(frozen=True)
class Layout:
    """All columns of a table; made by `fit`, or read by `open_layout`."""

    slots: tuple[Slot, ...]
    _first: tuple[int, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        ends = np.cumsum([0, *(slot.count + (slot.ranges > 0) for slot in self.slots)])
        object.__setattr__(self, "_first", tuple(int(e) for e in ends))

    @property
    def width(self) -> int:
        """W, numbers in the dense vector."""
        return self._first[-1]

    @property
    def counts(self) -> tuple[int, ...]:
        """Symbols of each column."""
        return tuple(slot.count for slot in self.slots)

    def places(self) -> list[tuple[slice, int | None]]:
        """For each column where its symbols stand in the dense vector, and where its score does, if it has one."""
        found: list[tuple[slice, int | None]] = []
        for first, slot in zip(self._first, self.slots, strict=False):
            stop = first + slot.count
            found.append((slice(first, stop), stop if slot.ranges else None))
        return found

    def split(self, matrix_NC: F64) -> tuple[I64, F32]:
        """Symbols int64 [N, C] (-1: unknown) and scores float32 [N, C] (0 where a symbol says it all)."""
        pairs = [slot.encode(np.asarray(matrix_NC[:, c], np.float64)) for c, slot in enumerate(self.slots)]
        return np.stack([p[0] for p in pairs], 1), np.stack([p[1] for p in pairs], 1)

    def dense(self, symbol_NC: I64, score_NC: F32) -> F32:
        """Symbols and scores as one vector [N, W]: 1 for the symbol that holds, 0 for the others, then the score."""
        rows = np.arange(len(symbol_NC))
        dense_NW = np.zeros((len(symbol_NC), self.width), np.float32)
        for c, (place, score) in enumerate(self.places()):
            known = symbol_NC[:, c] >= 0
            dense_NW[rows[known], place.start + symbol_NC[known, c]] = 1.0
            if score is not None:
                dense_NW[:, score] = score_NC[:, c]
        return dense_NW

    def encode(self, matrix_NC: F64) -> F32:
        """Rows as dense vectors, float32 [N, W]."""
        return self.dense(*self.split(matrix_NC))

    def rows(self, symbol_NC: I64, place_NC: F64) -> F64:
        """Rows [N, C] from symbols; `place_NC` in [0, 1) says where in a range a value lies."""
        found = np.empty(symbol_NC.shape, np.float64)
        for c, slot in enumerate(self.slots):
            rank_N = place_NC[:, c].astype(np.float64)
            if slot.ranges:
                edges = np.asarray(slot.edges)
                inside_N = np.clip(symbol_NC[:, c] - len(slot.symbols), 0, slot.ranges - 1)
                rank_N = edges[inside_N] + rank_N * (edges[inside_N + 1] - edges[inside_N])
            found[:, c] = slot.decode(symbol_NC[:, c], rank_N)
        return found

    def decode(self, dense_NW: F32, choice_NC: F64 | None = None) -> F64:
        """Dense vectors as rows [N, C].

        Args:
            dense_NW: for each column the logits of its symbols, then its score.
            choice_NC: uniform numbers in [0, 1) that draw the symbols; None for the likeliest ones.
        """
        found = np.empty((len(dense_NW), len(self.slots)), np.float64)
        for c, (slot, (place, score)) in enumerate(zip(self.slots, self.places(), strict=True)):
            logits = np.asarray(dense_NW[:, place], np.float64)
            symbol_N = logits.argmax(1) if choice_NC is None else draw(logits, choice_NC[:, c])
            rank_N = np.full(len(logits), 0.5)
            if score is not None:
                inside_N = np.clip(symbol_N - len(slot.symbols), 0, slot.ranges - 1)
                edges = np.asarray(slot.edges)
                rank_N = np.clip(ndtr(np.asarray(dense_NW[:, score], np.float64)), edges[inside_N], edges[inside_N + 1])
            found[:, c] = slot.decode(symbol_N, rank_N)
        return found

    def save(self, folder: Path) -> None:
        """Write `layout.json`; JSON keeps every digit of a float."""
        folder.mkdir(parents=True, exist_ok=True)
        body = [asdict(slot) for slot in self.slots]
        (folder / FILE).write_text(json.dumps(body, sort_keys=True) + "\n", encoding="utf-8")


def open_layout(folder: Path) -> Layout:
    """The layout that lies beside a model.

    Raises:
        ArtifactError: it is not there, or no layout.
    """
    try:
        body = json.loads((folder / FILE).read_text(encoding="utf-8"))
        whole: list[dict[str, Any]] = [
            {k: tuple(v) if isinstance(v, list) else v for k, v in one.items()} for one in body
        ]
        slots = [Slot(**one) for one in whole]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(f"there is no layout of columns: {error}", where=str(folder), fix="Train again.") from error
    return Layout(tuple(slots))


def fit(space: Mixed, matrix_NC: F64, *, ranges: int = 1) -> Layout:
    """The layout of a table.

    Args:
        space: its columns.
        matrix_NC: training rows, NaN where a value is missing.
        ranges: into how many a number's values that are no spikes are cut; 1 leaves all to the score.

    Raises:
        DataError: there is no row, rows of another width, or a column with more categories than a network learns.
    """
    if matrix_NC.ndim != 2 or matrix_NC.shape[1] != len(space.columns) or not len(matrix_NC):
        what = f"{len(space.columns)} columns are to be fitted on an array of shape {matrix_NC.shape}"
        raise DataError(what, fix="Give training rows with one number a column.")
    named = zip(space.columns.items(), matrix_NC.T, strict=True)
    return Layout(tuple(_slot(name, column, values, ranges) for (name, column), values in named))


def _slot(name: str, column: Column, value_N: F64, ranges: int) -> Slot:
    present = np.asarray(value_N[~np.isnan(value_N)], np.float64)
    missing = column.missing or len(present) < len(value_N)
    if column.kind == "categorical":
        if column.categories > WIDEST:
            what = f"column {name!r} has {column.categories:,} categories; a network takes up to {WIDEST:,}"
            raise DataError(what, fix="Leave the column out, or join its rare values.")
        return Slot(name, tuple(float(i) for i in range(column.categories)), missing=missing or not column.categories)
    whole = bool((present == np.round(present)).all())
    different, counts = np.unique(present, return_counts=True)
    spikes = (counts >= max(2, _SPIKE * len(value_N))) if len(different) > _FEW else np.ones(len(different), bool)
    symbols, rest = tuple(map(float, different[spikes])), ~spikes
    if not rest.any():
        return Slot(name, symbols, missing=missing or not symbols, whole=whole)
    return Slot(name, symbols, **_ranks(different[rest], counts[rest], ranges), missing=missing, whole=whole)


def _ranks(different: F64, counts: I64, ranges: int) -> dict[str, Any]:
    """Knots with their ranks, and where to cut."""
    total, after = int(counts.sum()), np.cumsum(counts)
    lows, highs = (after - counts + 0.5) / total, (after - 0.5) / total
    middle = (after - counts / 2) / total
    group = np.minimum((middle * ranges).astype(np.int64), ranges - 1)
    starts = np.flatnonzero(np.diff(group)) + 1
    edges = [0.0, *(float(after[s - 1] / total) for s in starts), 1.0]
    kept = np.arange(len(different))
    if len(kept) > _KNOTS:
        kept = np.unique(np.linspace(0, len(different) - 1, _KNOTS).round().astype(np.int64))
    return {
        "knots": tuple(map(float, different[kept])),
        "lows": tuple(map(float, lows[kept])),
        "highs": tuple(map(float, highs[kept])),
        "cuts": tuple(map(float, different[starts])),
        "edges": tuple(edges),
    }


def draw(logits_NS: F64, choice_N: F64) -> I64:
    """Symbols [N] drawn from softmax(logits) by uniform numbers in [0, 1): the inverse of the running sum."""
    chances_NS = np.exp(logits_NS - logits_NS.max(1, keepdims=True))
    sums_NS = np.cumsum(chances_NS, 1)
    found: I64 = (sums_NS <= (choice_N * sums_NS[:, -1])[:, None]).sum(1)
    last = logits_NS.shape[1] - 1
    return found.clip(max=last)


def matrix_of(examples: Sequence[Any]) -> F64:
    """Encoded examples as float64 [N, C].

    Raises:
        DataError: there is none.
    """
    if not examples:
        raise DataError("there is no row to fit the columns on", fix="Add samples to the train split.")
    return np.stack([np.asarray(e.values, np.float64) for e in examples])


def _nearest(own: F32, value_N: F64) -> I64:
    """The index of the nearest of some ascending values; 0 where there are none."""
    if not len(own):
        return np.zeros(len(value_N), np.int64)
    middle = (own[1:].astype(np.float64) + own[:-1]) / 2
    found: I64 = np.searchsorted(middle, value_N).astype(np.int64)
    return found
