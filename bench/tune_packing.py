"""Fine-tuning with several examples in one row against rows of their own: examples for each CPU second.

    python bench/tune_packing.py [--depth 4] [--steps 8] [--rounds 3] [--out bench/tune_packing.json]

Lengths are those of chats: many short ones and a few long (log-normal, 16 to 512 ids, median about 90). Three layouts
of the same examples, 16 a step: like lengths together and padded (the default), any lengths and padded, any lengths
packed. A few steps of each in turn, one thread, process CPU seconds of the steps alone; the middle of the rounds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from volant.core.spaces import Encoded, Tokens
from volant.nets.batches import Batch, Padded
from volant.nets.packing import Together
from volant.nets.transformer import family, token_loss

VOCAB, LENGTH, ROWS = 2048, 512, 16


def examples(count: int) -> list[Encoded]:
    """Random ids of lengths as in chats; the second half of each is its answer."""
    draw = np.random.default_rng(0)
    lengths = np.clip(np.exp(draw.normal(4.5, 0.7, count)), 16, LENGTH).astype(int)
    return [Encoded(draw.integers(0, VOCAB, n).tolist(), [i >= n // 2 for i in range(n)]) for n in lengths]


def steps_of(net: Any, batches: list[Batch]) -> float:
    """CPU seconds of forward and backward over the batches."""
    start = time.process_time()
    for batch in batches:
        total, count = token_loss(net, batch)
        (total / count).backward()
        net.zero_grad(set_to_none=True)
    return time.process_time() - start


def main() -> None:
    """Every layout in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = examples(ROWS * asked.steps)
    packed = Together(rows, length=LENGTH, rows=ROWS, seed=0, pad=0)
    like = Padded(rows, length=LENGTH, rows=ROWS, seed=0, pad=0)
    layouts = {
        "like lengths, padded": [like.batch(s) for s in range(asked.steps)],
        "any lengths, padded": [
            Padded.collate(packed, [rows[i] for i in packed._epoch(0)[s]]) for s in range(asked.steps)
        ],
        "any lengths, packed": [packed.batch(s) for s in range(asked.steps)],
    }
    net = family.build(Tokens(VOCAB, LENGTH), seed=0, depth=asked.depth).train()
    spent: dict[str, list[float]] = {name: [] for name in layouts}
    steps_of(net, layouts["any lengths, packed"][:1])
    for _ in range(asked.rounds):
        for name, batches in layouts.items():
            spent[name].append(steps_of(net, batches))
    body: dict[str, Any] = {}
    for name, batches in layouts.items():
        real, held = sum(b.tokens for b in batches), sum(b.ids.numel() for b in batches)
        rate = len(rows) / median(spent[name])
        body[name] = {"padding": 1 - real / held, "examples_per_cpu_second": rate, "seconds": spent[name]}
        print(f"{name:22} {1 - real / held:6.1%} padding, {rate:6.1f} examples a CPU second")
    asked.out.write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
    main()
