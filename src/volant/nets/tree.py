"""Column by column: a tree on the columns before, and a draw from the values in its leaf.

What enters: a space of table columns or of a small grid, and examples. What leaves: a sampler that is fitted in
seconds without a training loop, after the sequential trees of `synthpop` (Nowok, Raab and Dibben 2016, "synthpop:
Bespoke creation of synthetic data in R"). It is the baseline for tables, and hard to beat; what a condition asks
for stands before the first column. A grid is taken pixel by pixel.

The file holds the training values of each column, leaf by leaf, never row by row. `leaf` is its dial of privacy:
more rows in a leaf, fewer rows told. `smooth` puts ordered values between two of a leaf's.

Shape legend: B rows, C columns (those of the condition first), R training rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.sample import Sample
from volant.core.spaces import Example, Grid, Mixed, Space, Tokens, space_from, space_json
from volant.nets.draws import seeds_of, uniforms
from volant.nets.leaf_files import read, write
from volant.nets.leaves import F64, I64, Leaves, grow
from volant.nets.session import DrawSession, codec_of

LARGEST = 1024  # values of a grid; each has a tree of its own
_BEFORE = 96  # how many values of a grid a tree looks back at, beside the condition: some rows of pixels
_NONE = -1.0  # a condition that was not said


@dataclass
class Trees:
    """What is fitted. Columns are the condition's ids, then the space's values in order.

    Attributes:
        space: Mixed or Grid.
        leaf, independent, smooth: as in `build`.
        conditions: how many columns stand before the space's own.
        seen: for each column its values in training, sorted; a missing one (NaN) first.
        trees: one a column; empty until `estimate`.
    """

    space: Mixed | Grid
    leaf: int
    independent: bool
    smooth: float
    conditions: int = 0
    seen: list[F64] = field(default_factory=list)
    trees: list[Leaves] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """Numbers that were fitted: a threshold a node, and the values in the leaves."""
        return sum(len(t.feature_N) + len(t.held) for t in self.trees)

    def is_class(self, column: int) -> bool:
        """Whether a column's values have no order."""
        if column < self.conditions:
            return True
        return isinstance(self.space, Mixed) and self._kinds[column - self.conditions] == "categorical"

    def is_whole(self, column: int) -> bool:
        """Whether a column takes whole numbers alone."""
        seen = self.seen[column]
        return bool((np.isnan(seen) | (seen == np.floor(seen))).all())

    @property
    def _kinds(self) -> list[str]:
        return [c.kind for c in self.space.columns.values()] if isinstance(self.space, Mixed) else []

    def state_dict(self) -> dict[str, Any]:
        """The fitted arrays as tensors, by name."""
        import torch

        return {name: torch.from_numpy(a) for name, a in write(self.seen, self.trees).items()} if self.trees else {}


class Tree:
    """The family of sequential trees."""

    name = "tree"
    version = 1
    accepts = ("mixed", "grid")
    controls = {"smooth": (0.0, 1.0)}

    def build(
        self, space: Space, *, seed: int = 0, leaf: int = 20, independent: bool = False, smooth: float = 0.0
    ) -> Trees:
        """An estimator that nothing was fitted to yet.

        Args:
            space: columns of a table, or a grid of at most 1,024 values.
            seed: has no bearing; `estimate` takes the one that does.
            leaf: the fewest training rows in a leaf. Fewer follow the data closer and tell more of single rows.
            independent: each column alone, as often as its values occur; the crudest baseline.
            smooth: how far, from 0 to 1, an ordered value is moved towards the next one in its leaf. At 0 all values
                are ones of the training data.

        Raises:
            ArtifactError: another space, or a grid that is too large.
            SettingError: a size out of its bounds.
        """
        if isinstance(space, Tokens):
            raise ArtifactError(f"trees take columns or a grid, not {space.type}.", fix="Choose another family.")
        if isinstance(space, Grid) and space.channels * int(np.prod(space.dims)) > LARGEST:
            values = space.channels * int(np.prod(space.dims))
            what = f"a grid of {values:,} values needs as many trees; {LARGEST:,} are the most."
            raise ArtifactError(what, fix="Choose a smaller `side`, or another family (`gaussian`, `vae`, `flow`).")
        if leaf < 1 or not 0 <= smooth <= 1:
            what = f"a leaf of {leaf} rows with smooth {smooth:g} is out of bounds."
            raise SettingError(what, where="tree", fix="Take a leaf of 1 or more, and smooth from 0 to 1.")
        return Trees(space, int(leaf), bool(independent), float(smooth))

    def estimate(self, net: Trees, examples: Sequence[Example], *, seed: int) -> Trees:
        """Fit the trees to examples, in place.

        Args:
            net: from `build`.
            examples: values [columns] (NaN is missing) or [channels, *dims], with their conditions.
            seed: of ties between equally good splits.

        Returns:
            The same net.

        Raises:
            DataError: there is no example.
        """
        if not examples:
            raise DataError("there is no example to fit trees to (n=0).", fix="Add samples to the train split.")
        asked = net.space.condition_length if isinstance(net.space, Grid) and net.space.conditions else 0
        net.conditions = max(asked, max(len(e.condition) for e in examples))
        values_RC = np.stack([np.asarray(e.values, dtype=np.float64) for e in examples])
        said_RC = _said([e.condition for e in examples], net.conditions)
        coded = [_coded(column) for column in np.concatenate([said_RC, _flat(values_RC, net.space)], axis=1).T]
        net.seen = [seen for seen, _ in coded]
        codes = [code for _, code in coded]
        unordered = {c for c in range(len(codes)) if net.is_class(c)}
        net.trees = [
            grow(
                {p: codes[p] for p in _before(net, column)},
                code,
                unordered=unordered,
                classes=column in unordered,
                missing=bool(np.isnan(net.seen[column][0])),
                leaf=net.leaf,
                seed=seed + column,
            )
            for column, code in enumerate(codes)
        ]
        return net

    def sample(self, net: Trees, prompts: Sequence[Sequence[int]], *, seed: int, **controls: Any) -> F64:
        """One example for each prompt.

        Args:
            net: fitted.
            prompts: condition ids; one that is empty has its condition drawn as often as it occurred.
            seed: of all draws.
            **controls: `smooth`, in place of the one at `build`; `seeds`, one a prompt.

        Returns:
            float64 [B, columns] or [B, channels, *dims].

        Raises:
            DataError: a condition that no training example had.
        """
        _check_fitted(net)
        smooth = float(controls.get("smooth", net.smooth))
        rows = len(prompts)
        draws_BC = uniforms(seeds_of(seed, rows, controls.get("seeds")), len(net.trees))
        codes: list[I64] = []
        values_BC = np.empty((rows, len(net.trees)))
        for column, (tree, seen) in enumerate(zip(net.trees, net.seen, strict=True)):
            code_B, next_B, between_B = tree.draw(tree.leaf(codes, rows), draws_BC[:, column])
            if column < net.conditions:
                asked_B = _asked(net, prompts, column)
                code_B = np.where(asked_B < 0, code_B, asked_B)
            codes.append(code_B)
            values_BC[:, column] = seen[code_B]
            if smooth and not net.is_class(column):
                values_BC[:, column] += smooth * between_B * np.nan_to_num(seen[next_B] - seen[code_B])
                if net.is_whole(column):
                    values_BC[:, column] = np.round(values_BC[:, column])
        return _shaped(values_BC[:, net.conditions :], net.space)

    def loss(self, net: Trees, batch: Any) -> Any:
        """The mean over examples and columns of minus the log of a value's share in its leaf, in nats.

        An ordered value counts as the nearest one of the training data, so the figure says how well the trees fit,
        and is no density. One value's weight is spread over all that a column takes, so that it is finite.

        Args:
            net: fitted.
            batch: an `ArrayBatch`.
        """
        import torch

        _check_fitted(net)
        values_BC = _flat(np.asarray(batch.values, dtype=np.float64), net.space)
        said_BC = _said([[int(i) for i in row if i >= 0] for row in batch.condition_BC], net.conditions)
        codes: list[I64] = []
        total = 0.0
        for column, (tree, seen) in enumerate(zip(net.trees, net.seen, strict=True)):
            given = said_BC[:, column] if column < net.conditions else values_BC[:, column - net.conditions]
            code_B = _nearest(given, seen, exact=net.is_class(column))
            if column >= net.conditions:
                share_B = tree.share(tree.leaf(codes, len(code_B)), code_B, len(seen))
                total -= float(np.log(share_B).mean())
            codes.append(np.maximum(code_B, 0))
        return torch.tensor(total / values_BC.shape[1], dtype=torch.float64)

    def logp(self, net: Trees, batch: Any) -> None:
        """None: shares of training values are no probabilities of new ones."""

    def export(self) -> tuple[str, ...]:
        """It is converted to nothing."""
        return ()

    def save(self, net: Trees, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`."""
        from safetensors.numpy import save_file

        _check_fitted(net)
        folder.mkdir(parents=True, exist_ok=True)
        body = {
            "space": space_json(net.space),
            "leaf": net.leaf,
            "independent": net.independent,
            "smooth": net.smooth,
            "conditions": net.conditions,
        }
        # Not sorted: the order of the columns is the order of the trees.
        (folder / "config.json").write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
        save_file(write(net.seen, net.trees), folder / "model.safetensors")

    def load(self, folder: Path) -> Trees:
        """Read them back; every number in the file is checked before it is followed.

        Raises:
            ArtifactError: files are missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            body = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            space = space_from(body.pop("space"))
            assert not isinstance(space, Tokens)
            net = Trees(space, **body)
            net.seen, net.trees = read(load_file(folder / "model.safetensors"))
            if len(net.trees) != net.conditions + _width(space):
                raise ValueError(f"{len(net.trees)} trees do not belong to {_width(space)} columns")
        except (OSError, ValueError, KeyError, TypeError, AssertionError, SafetensorError) as error:
            what = f"the trees cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            raise ArtifactError(what, where=str(folder), fix="Run `volant verify`, or make the model again.") from error
        return net


def fit(
    samples: Iterable[Sample], *, leaf: int = 20, independent: bool = False, smooth: float = 0.0, seed: int = 0
) -> DrawSession:
    """The baseline: trees fitted to samples of a table or of small images, open for requests.

    Args:
        samples: of the training split, shape `row` or `media`.
        leaf, independent, smooth: see `Tree.build`.
        seed: of ties between splits.

    Raises:
        DataError: there is no sample, or it is of another shape.
        ArtifactError: the images are too large.
    """
    kept = list(samples)
    codec = codec_of(kept, {"row": "mixed", "media": "grid"})
    net = family.build(codec.space, seed=seed, leaf=leaf, independent=independent, smooth=smooth)
    family.estimate(net, [codec.encode(s) for s in kept], seed=seed)
    return DrawSession(family, net, codec)


def _check_fitted(net: Trees) -> None:
    if not net.trees:
        raise ArtifactError("the trees were not fitted to anything.", fix="Call `estimate` with examples first.")


def _width(space: Mixed | Grid) -> int:
    return len(space.columns) if isinstance(space, Mixed) else space.channels * int(np.prod(space.dims))


def _flat(values: F64, space: Mixed | Grid) -> F64:
    """Examples as rows; a grid place by place with its channels side by side."""
    placed = np.moveaxis(values, 1, -1) if isinstance(space, Grid) else values
    return placed.reshape(len(values), -1)


def _shaped(rows_BC: F64, space: Mixed | Grid) -> F64:
    """The way back from `_flat`."""
    if isinstance(space, Mixed):
        return rows_BC
    placed: F64 = np.moveaxis(rows_BC.reshape(-1, *space.dims, space.channels), -1, 1)
    return np.ascontiguousarray(placed)


def _said(conditions: Sequence[Sequence[int]], length: int) -> F64:
    """Conditions as columns, `_NONE` where nothing was said."""
    found = np.full((len(conditions), length), _NONE)
    for row, ids in enumerate(conditions):
        found[row, : len(ids)] = ids
    return found


def _coded(column_R: F64) -> tuple[F64, I64]:
    """A column's values in order, NaN first, and each row's place among them."""
    seen, code_R = np.unique(column_R, return_inverse=True)
    if not np.isnan(seen[-1]):
        return seen, code_R.astype(np.int64)
    return np.roll(seen, 1), ((code_R + 1) % len(seen)).astype(np.int64)


def _before(net: Trees, column: int) -> list[int]:
    """The columns that a column's tree looks at."""
    if net.independent:
        return list(range(min(column, net.conditions)))
    if isinstance(net.space, Mixed):
        return list(range(column))
    return [p for p in range(column) if p < net.conditions or p >= column - _BEFORE]


def _asked(net: Trees, prompts: Sequence[Sequence[int]], column: int) -> I64:
    """The code of what each prompt says in a column of the condition; -1 where it is to be drawn."""
    seen = {int(value): code for code, value in enumerate(net.seen[column])}
    found = np.full(len(prompts), -1, dtype=np.int64)
    for row, prompt in enumerate(prompts):
        if not prompt:
            continue
        id = int(prompt[column]) if column < len(prompt) else int(_NONE)
        # Of a caption, a word that never stood at this place is passed over; a class has to be known.
        if id not in seen and net.conditions == 1:
            raise DataError(f"no training example had the condition {id}.", fix="Ask for one that the data has.")
        found[row] = seen.get(id, -1)
    return found


def _nearest(given_B: F64, seen: F64, *, exact: bool) -> I64:
    """The code of the nearest value that was seen; -1 for a class or a gap that was not."""
    first = int(np.isnan(seen[0]))
    known = seen[first:]
    if not len(known):
        return np.where(np.isnan(given_B), 0, -1)
    filled_B = np.nan_to_num(given_B, nan=known[0])
    right_B = np.clip(np.searchsorted(known, filled_B), 0, len(known) - 1)
    left_B = np.maximum(right_B - 1, 0)
    place_B = np.where(np.abs(known[left_B] - filled_B) <= np.abs(known[right_B] - filled_B), left_B, right_B)
    code_B = place_B + first
    if exact:
        code_B = np.where(known[place_B] == filled_B, code_B, -1)
    return np.where(np.isnan(given_B), 0 if first else -1, code_B).astype(np.int64)


family = Tree()
