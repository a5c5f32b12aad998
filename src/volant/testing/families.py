"""The contract of a family: `check_family(family, space, folder=...)`.

A family and a space that it accepts enter. It has to learn one batch by heart (or to fit it, where it is estimated
at once), sample by seed, tell log-probabilities that belong to its loss, and come back from disk bit by bit. How
grids and rows are drawn is in `testing.drawing`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volant.core.artifact import payload_digest
from volant.core.errors import DataError
from volant.core.protocols import Family
from volant.core.spaces import Column, Grid, Mixed, Space, Tokens
from volant.testing.drawing import check_drawing, examples_of, random_batch
from volant.testing.expecting import expect, refusal, same

if TYPE_CHECKING:
    import torch

_OTHERS: tuple[Space, ...] = (Tokens(16, 8), Grid(1, (4, 4)), Mixed({"x": Column("numeric")}))


def check_family(
    family: Family,
    space: Space,
    *,
    folder: Path,
    size: dict[str, Any] | None = None,
    batch: Any = None,
    learn: Callable[[Any, Any], list[float]] | None = None,
    rest: float = 0.2,
    tolerance: float = 1e-4,
) -> list[float]:
    """Hold a family to its contract.

    Args:
        family: the family.
        space: one that it accepts; small.
        folder: an empty directory.
        size: of the network, for `build`; small.
        batch: what it has to learn; by default 4 rows of 12 random tokens, or 8 random examples (`random_batch`).
        learn: trains a network on the batch and returns the losses; 80 steps of Adam by default.
        rest: how much of the first loss may be left after learning; a loss below nought has to have fallen.
        tolerance: between the loss and the mean of `-logp`, in nats.

    Returns:
        The losses; of a family that is estimated at once, that of other examples and that of its own.
    """
    import torch

    torch.set_num_threads(1)
    size = size or {}
    expect(space.type in family.accepts, f"{family.name} accepts {family.accepts}, not {space.type}")
    _check_refusals(family, size)
    if batch is None:
        batch = _tokens(space) if isinstance(space, Tokens) else random_batch(space)
    if "examples" in inspect.signature(family.build).parameters:
        size = {**size, "examples": examples_of(batch)}
    first, again, other = (family.build(space, seed=s, **size) for s in (1, 1, 2))
    if hasattr(family, "estimate"):
        losses = _estimated(family, first, again, space, batch)
    else:
        _check_built(family, first, again, other, batch)
        # Before it learns: a hinge that is met has no loss left to weigh.
        _check_step_loss(family, other, batch)
        losses = (learn or adam(family))(first, batch)
    told = f"from {losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} steps"
    expect(losses[-1] < losses[0], f"the loss of {family.name} does not fall: {told}")
    expect(losses[-1] <= rest * losses[0] or losses[0] <= 0, f"{family.name} does not learn one batch by heart: {told}")
    if hasattr(family, "finish"):
        family.finish(first, examples_of(batch), seed=1)
    _check_logp(family, first, batch, tolerance)
    if isinstance(space, Tokens):
        _check_sampling(family, first, batch)
    else:
        check_drawing(family, first, space, batch)
    _check_saved(family, first, batch, folder)
    return losses


def _estimated(family: Any, net: Any, again: Any, space: Space, batch: Any) -> list[float]:
    """Fit both nets to the batch; they have to be equal, and to tell other examples from their own."""
    examples = examples_of(batch)
    sentence = f"{family.name} has to refuse to be fitted to nothing"
    refusal(lambda: family.estimate(net, [], seed=1), sentence, kind=DataError)
    for one in (net, again):
        family.estimate(one, examples, seed=1)
    expect(_equal(_weights(net), _weights(again)), f"{family.name} fits other numbers from the same seed")
    other = random_batch(space, seed=6, count=batch.size)
    return [_loss(family, net, replace(other, condition_BC=batch.condition_BC)), _loss(family, net, batch)]


def _check_step_loss(family: Any, net: Any, batch: Any) -> None:
    """What the loop minimises is a sum with its count, and weights of examples count in it."""
    import torch

    if not _is_array(batch):
        return

    def stepped(weights_B: Any) -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            total, count = family.step_loss(net, replace(batch, weights_B=weights_B))
        same(count, batch.size, f"{family.name}: what the summed loss is divided by")
        return float(total)

    even = torch.ones(batch.size)
    first = torch.zeros(batch.size)
    first[0] = batch.size
    plain, weighted = stepped(None), stepped(even)
    near = abs(plain - weighted) <= 1e-4 * max(1.0, abs(plain))
    expect(near, f"{family.name} has another loss where all examples weigh the same: {weighted:.6f}, not {plain:.6f}")
    expect(abs(stepped(first) - plain) > 1e-6 * abs(plain), f"{family.name} does not weigh examples")


def adam(family: Family, *, steps: int = 80, lr: float = 0.01) -> Callable[[Any, Any], list[float]]:
    """The plainest way to learn a batch: so many steps of Adam; returns the loss before each and at the end."""

    def learn(net: Any, batch: Any) -> list[float]:
        import torch

        optimiser = torch.optim.Adam(net.parameters(), lr=lr)
        losses = []
        for _ in range(steps):
            loss = family.loss(net, batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        with torch.no_grad():
            return [*losses, float(family.loss(net, batch))]

    return learn


def _tokens(space: Space) -> torch.Tensor:
    import torch

    assert isinstance(space, Tokens)
    return torch.randint(0, space.vocab, (4, min(12, space.length)), generator=torch.Generator().manual_seed(5))


def _check_refusals(family: Family, size: dict[str, Any]) -> None:
    for other in _OTHERS:
        if other.type not in family.accepts:
            sentence = f"{family.name} has to refuse the space {other.type}"
            refusal(lambda o=other: family.build(o, seed=0, **size), sentence)  # type: ignore[misc]


def _check_built(family: Family, first: Any, again: Any, other: Any, batch: Any) -> None:
    mine, same_seed, other_seed = (_weights(net) for net in (first, again, other))
    expect(_equal(mine, same_seed), f"{family.name} builds other weights from the same seed")
    expect(not _equal(mine, other_seed), f"{family.name} builds the same weights from every seed")
    losses = [_loss(family, net, batch) for net in (first, again)]
    same(losses[0], losses[1], f"{family.name} has another loss for the same weights")


def _check_logp(family: Family, net: Any, batch: Any, tolerance: float) -> None:
    logp = family.logp(net, batch)
    if logp is None:
        return
    mean, loss = -float(logp.detach().mean()), _loss(family, net, batch)
    if not _is_array(batch):  # a density of numbers may be above 1
        expect(bool((logp <= 1e-6).all()), f"{family.name} tells log-probabilities above 0")
    sentence = (
        f"the loss of {family.name} is {loss:.6f}, its mean -logp {mean:.6f}; they differ by more than {tolerance}"
    )
    expect(abs(mean - loss) <= tolerance, sentence)


def _check_sampling(family: Family, net: Any, batch: Any) -> None:
    """Sampling follows its seed, and greedy continuations of a batch known by heart are the batch."""
    import torch

    if not (isinstance(batch, torch.Tensor) and batch.ndim == 2):
        return
    rows = batch.tolist()
    prompts, room = [row[:4] for row in rows], len(rows[0]) - 4
    hot = [family.sample(net, prompts, seed=s, max_tokens=room, temperature=3.0) for s in (1, 1, 2)]
    same(hot[0], hot[1], f"{family.name} samples differently from the same seed")
    expect(hot[0] != hot[2], f"{family.name} samples the same from every seed")
    cold = [family.sample(net, prompts, seed=s, max_tokens=room, temperature=0) for s in (1, 2)]
    same(cold[0], cold[1], f"{family.name} lets the seed decide at temperature 0")
    right = sum(a == b for row, out in zip(rows, cold[0], strict=True) for a, b in zip(row[4:], out, strict=False))
    total = room * len(rows)
    expect(
        right >= 0.8 * total,
        f"{family.name} continues a batch that it knows by heart right in {right} of {total} places",
    )


def _check_saved(family: Family, net: Any, batch: Any, folder: Path) -> None:
    loss, weights = _loss(family, net, batch), _weights(net)
    for place in ("one", "two"):
        family.save(net, folder / place)
    one, two = (payload_digest(folder / place)[0] for place in ("one", "two"))
    same(two, one, f"{family.name} saves other bytes each time")
    pickles = [f.name for f in (folder / "one").rglob("*") if f.suffix in (".pkl", ".pt", ".pth", ".bin", ".joblib")]
    expect(not pickles, f"{family.name} saves what may be a pickle: {pickles}")
    back = family.load(folder / "one")
    expect(_equal(weights, _weights(back)), f"{family.name} does not load what it saved bit by bit")
    if hasattr(net, "training"):
        back.train(net.training)  # what trains may be computed in another way, which rounds differently
    same(_loss(family, back, batch), loss, f"{family.name} has another loss after saving and loading")


def _loss(family: Family, net: Any, batch: Any) -> float:
    return float(family.loss(net, batch).detach())


def _weights(net: Any) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def _equal(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Whether all tensors are the same; a number that is none equals another one."""
    if left.keys() != right.keys() or any(left[n].shape != right[n].shape for n in left):
        return False
    return all(bool(((a == right[n]) | ((a != a) & (right[n] != right[n]))).all()) for n, a in left.items())


def _is_array(batch: Any) -> bool:
    from volant.nets.arrays import ArrayBatch

    return isinstance(batch, ArrayBatch)
