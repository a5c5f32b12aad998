"""What a family of whole examples (grids, rows of a table) promises beside learning: how it draws them.

A learnt network, its space and the batch that it learnt enter. Draws have to lie in the space, follow their seeds
and nothing else, and take every control that the family offers, up to its bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from volant.core.errors import VolantError
from volant.core.protocols import Family
from volant.core.spaces import Example, Grid, Mixed, Space
from volant.testing.expecting import expect, outcome, same

_SEEDS = (11, 12, 13, 14, 15, 16)
_MOST = 8.0  # of a control in a contract test; a thousand steps would show nothing more
_NEAR = 1e-3  # floats are summed in another order when other examples lie in the batch


def random_batch(space: Space, *, seed: int = 5, count: int = 8) -> Any:
    """Random examples of a grid or of rows, half of them with a condition where the space has some."""
    from volant.nets.arrays import array_batch

    random = np.random.default_rng(seed)
    return array_batch([Example(_values(space, random), _condition(space, row)) for row in range(count)])


def _values(space: Space, random: np.random.Generator) -> npt.NDArray[np.float64]:
    if isinstance(space, Grid):
        return random.uniform(-1, 1, (space.channels, *space.dims))
    assert isinstance(space, Mixed)
    found = []
    for column in space.columns.values():
        value = float(random.uniform(column.low, column.high or column.low + 1))
        if column.kind == "categorical":
            value = float(random.integers(column.categories))
        elif column.kind in ("integer", "date"):
            value = float(round(value))
        found.append(np.nan if column.missing and random.random() < 0.25 else value)
    return np.array(found)


def _condition(space: Space, row: int) -> tuple[int, ...]:
    known = isinstance(space, Grid) and space.conditions and row % 2
    return (row // 2 % space.conditions,) if known and isinstance(space, Grid) else ()


def examples_of(batch: Any) -> list[Example]:
    """The examples that lie in an `ArrayBatch`."""
    values = np.asarray(batch.values, np.float64)
    return [Example(v, tuple(ids)) for v, ids in zip(values, prompts_of(batch), strict=True)]


def prompts_of(batch: Any) -> list[list[int]]:
    """The condition of each example of an `ArrayBatch`."""
    return [[int(i) for i in row if i >= 0] for row in batch.condition_BC]


def check_drawing(family: Family, net: Any, space: Space, batch: Any) -> None:
    """Hold `sample` to its promises; a family that refuses to draw at all (a judge) is let go."""
    prompts = (prompts_of(batch) * len(_SEEDS))[: len(_SEEDS)]
    first = outcome(lambda: family.sample(net, prompts, seed=1), f"{family.name} has to draw, or to say that it cannot")
    if isinstance(first, VolantError):
        return
    training = getattr(net, "training", None)
    drawn = np.asarray(first)
    _check_inside(family, space, drawn, len(prompts))
    again, other = (np.asarray(family.sample(net, prompts, seed=seed)) for seed in (1, 2))
    expect(_equal(again, drawn), f"{family.name} samples differently from the same seed")
    expect(not _equal(other, drawn), f"{family.name} samples the same from every seed")
    none = np.asarray(family.sample(net, [], seed=1))
    same(len(none), 0, f"{family.name} draws for nobody")
    _check_seeds(family, net, prompts)
    for name, bounds in family.controls.items():
        for bound in sorted({min(float(b), _MOST) for b in bounds}):
            told = outcome(
                lambda n=name, b=bound: np.asarray(family.sample(net, prompts, seed=1, **{n: b})),  # type: ignore[misc]
                f"{family.name} offers the control {name} and has to take {bound:g}",
            )
            expect(not isinstance(told, VolantError), f"{family.name} offers {name} and refuses {bound:g}: {told}")
            _check_inside(family, space, told, len(prompts))
    same(getattr(net, "training", None), training, f"{family.name}: sampling leaves the network in another mode")


def _check_inside(family: Family, space: Space, drawn: Any, count: int) -> None:
    """Shape and values are those of the space; pixels may leave -1 to 1 a little, which decoding cuts."""
    if isinstance(space, Grid):
        same(drawn.shape, (count, space.channels, *space.dims), f"{family.name}: the shape of what it draws")
        expect(bool(np.isfinite(drawn).all()), f"{family.name} draws numbers that are none")
        return
    assert isinstance(space, Mixed)
    same(drawn.shape, (count, len(space.columns)), f"{family.name}: the shape of what it draws")
    for value_B, (name, column) in zip(drawn.T, space.columns.items(), strict=True):
        there = value_B[~np.isnan(value_B)]
        expect(column.missing or len(there) == count, f"{family.name} leaves {name} out, which is never missing")
        if column.kind == "categorical":
            inside = (there >= 0) & (there < column.categories) & (there == np.floor(there))
            expect(bool(inside.all()), f"{family.name} draws categories of {name} that there are not: {there}")
        elif len(there):
            expect(bool(np.isfinite(there).all()), f"{family.name} draws numbers of {name} that are none")


def _check_seeds(family: Family, net: Any, prompts: Sequence[Sequence[int]]) -> None:
    """With a seed of its own an example is the same alone, together with others, and in another order."""
    together = np.asarray(family.sample(net, prompts, seed=0, seeds=_SEEDS))
    alone = [np.asarray(family.sample(net, [p], seed=9, seeds=[s]))[0] for p, s in zip(prompts, _SEEDS, strict=True)]
    turned = np.asarray(family.sample(net, prompts[::-1], seed=3, seeds=_SEEDS[::-1]))[::-1]
    sentence = f"with seeds of their own, examples of {family.name} depend on"
    expect(_near(together, np.stack(alone)), f"{sentence} what else is in the batch")
    expect(_near(together, turned), f"{sentence} their place in the batch")
    same_prompt = np.asarray(family.sample(net, [prompts[0]] * 6, seed=0, seeds=_SEEDS))
    expect(not all(_equal(one, same_prompt[0]) for one in same_prompt), f"{sentence} no seed at all")


def _equal(left: Any, right: Any) -> bool:
    return bool(np.array_equal(np.asarray(left, float), np.asarray(right, float), equal_nan=True))


def _near(left: Any, right: Any) -> bool:
    return bool(np.allclose(np.asarray(left, float), np.asarray(right, float), _NEAR, _NEAR, equal_nan=True))
