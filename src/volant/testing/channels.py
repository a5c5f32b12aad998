"""The contract of a channel: `check_channel(open_channel, samples, delivered=...)`.

A way to open the channel, samples and a way to look at its far end enter. A sample has to arrive once
however often it is sent, also by a channel opened later; what is refused has to be said and must not
arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from volant.core.protocols import Channel, Receipt
from volant.core.sample import Sample
from volant.testing.expecting import expect, same

REFUSED = "contract: dropped on purpose"


def check_channel(
    open_channel: Callable[[], Channel], samples: Sequence[Sample], *, delivered: Callable[[Sample], int]
) -> list[Receipt]:
    """Hold a channel to its contract.

    Args:
        open_channel: opens it, each time on the same far end, which is empty at first.
        samples: two or more that may go out, with texts of their own.
        delivered: how often a sample has arrived at the far end (`arrived_in` for a folder).

    Returns:
        The receipts of the samples.
    """
    expect(len(samples) > 1, "check_channel needs two samples or more")
    channel = open_channel()
    first = samples[0]
    same(delivered(first), 0, f"the far end of {channel.name} holds the sample before it was sent")
    receipts = [_sent(channel, sample) for sample in samples]
    for receipt, sample in zip(receipts, samples, strict=True):
        same(receipt.id, sample.id, f"{channel.name} gives a receipt for another sample")
        expect(receipt.where and not receipt.refused, f"{channel.name} does not say where {sample.id} is: {receipt}")
        same(delivered(sample), 1, f"{channel.name} has to deliver {sample.id} once")
    same(len({r.where for r in receipts}), len(receipts), f"{channel.name} puts different samples in one place")
    for again in (channel, open_channel()):
        for sample, receipt in zip(samples, receipts, strict=True):
            same(_sent(again, sample), receipt, f"{channel.name} gives another receipt when a sample is sent again")
            same(delivered(sample), 1, f"{channel.name} has to deliver {sample.id} once, however often it is sent")
    _check_refused(channel, first, delivered)
    return receipts


def _check_refused(channel: Channel, sample: Sample, delivered: Callable[[Sample], int]) -> None:
    told = "Content that must not go out 8c1f."
    changed = (
        {"id": "contract-refused", "target": told} if sample.target else {"id": "contract-refused", "content": told}
    )
    held = sample.model_copy(update={**changed, "drop": REFUSED})
    receipt = _sent(channel, held)
    expect(
        receipt.refused and not receipt.where, f"{channel.name} has to refuse a dropped sample and say why: {receipt}"
    )
    same(delivered(held), 0, f"{channel.name} delivered what it refused")
    straying = sample.model_copy(update={**changed, "id": "../contract-strays"})
    receipt = _sent(channel, straying)
    if receipt.refused:
        same(delivered(straying), 0, f"{channel.name} delivered what it refused")
    else:
        expect(".." not in receipt.where.split("/"), f"{channel.name} lets an id choose the place: {receipt.where}")


def _sent(channel: Channel, sample: Sample) -> Receipt:
    before = sample.model_copy(deep=True)
    receipt = channel.send(sample)
    expect(isinstance(receipt, Receipt), f"{channel.name} gives {receipt!r} instead of a Receipt")
    same(sample, before, f"{channel.name} changed the sample")
    return receipt


def arrived_in(folder: Path) -> Callable[[Sample], int]:
    """Counts in how many files of a folder, at any depth, a sample's content stands (twice in one counts 2)."""

    def delivered(sample: Sample) -> int:
        content = (sample.target or sample.content or "").encode()
        # Channels that grow keep their memory beside what they show; the same item in both is one delivery.
        memory = ("items.json", "whole.jsonl")
        files = [f for f in sorted(folder.rglob("*")) if f.is_file() and f.name not in memory]
        return sum(file.read_bytes().count(content) for file in files)

    return delivered
