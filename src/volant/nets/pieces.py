"""The loss of a batch, worked off in pieces that memory holds and that several processes share.

In go a network, a loss and a batch; out come the summed losses of its pieces and how many each counts, which add up to
the batch's whatever the pieces are. Where a loss needs a figure of the whole batch (KTO's distance from the reference),
that is found first, without gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch

from volant.core.errors import DataError
from volant.nets import compiling
from volant.nets.batches import Step
from volant.nets.repeatable import aside
from volant.nets.team import ALONE, Alone
from volant.nets.transformer import token_loss

Loss: TypeAlias = Callable[..., tuple[torch.Tensor, int]]
"""(network, batch) to (summed loss, count), so that pieces of a batch add up to the whole.

One with an attribute `of_whole`, of the same kind, gets the mean of that over the whole batch as a third argument.
"""


def in_pieces(
    net: torch.nn.Module, loss: Loss, batch: Step, size: int, *, device: str, bf16: bool, together: Alone = ALONE
) -> Iterator[tuple[torch.Tensor, float, int]]:
    """The pieces' summed losses, the factor that each counts with, and how many it counts.

    Args:
        size: rows of a piece.
        together: who shares the batch; each process has to ask for all of its pieces.
    """

    def each(figure: Loss, *more: float) -> Iterator[tuple[torch.Tensor, float, int]]:
        for piece, factor in together.pieces(batch, size):
            with torch.autocast(device, torch.bfloat16, enabled=bf16):
                part, many = figure(net, piece.to(device), *more)
            yield part, factor, many

    of_whole = getattr(loss, "of_whole", None)
    if of_whole is None:
        yield from each(loss)
        return
    with torch.no_grad():
        total, count = summed(each(of_whole), together)
    yield from each(loss, total / max(1.0, count))


def summed(parts: Iterator[tuple[torch.Tensor, float, int]], together: Alone) -> tuple[float, float]:
    """The sum of the losses of all pieces of all processes, and of what they count."""
    total = count = 0.0
    for part, factor, many in parts:
        total, count = total + factor * float(part), count + factor * many
    total, count = together.sums(total, count)
    return total, count


def evaluate(
    net: torch.nn.Module,
    batches: Sequence[Step],
    *,
    loss: Loss = token_loss,
    bf16: bool = False,
    together: Alone = ALONE,
) -> float:
    """The mean loss over all counted targets of the batches, in nats, without training.

    Raises:
        DataError: nothing is counted.
    """
    was, total, count = net.training, 0.0, 0.0
    net.eval()
    device = next(net.parameters()).device.type
    with (
        aside(device),  # a loss that draws noise draws the same at each look
        torch.no_grad(),
        compiling.uncompiled(),
    ):
        torch.manual_seed(0)
        for batch in batches:
            parts = in_pieces(net, loss, batch, batch.size, device=device, bf16=bf16, together=together)
            part, many = summed(parts, together)
            total, count = total + part, count + many
    net.train(was)
    if not count:
        raise DataError("the validation data hold no token that the loss counts", fix="Add a validation split.")
    return total / count
