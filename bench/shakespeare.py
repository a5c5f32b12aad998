"""Tinyshakespeare by characters: our training against nanoGPT's recipe for a processor, in CPU seconds.

    python bench/shakespeare.py [--seeds 5] [--data ../shared/data] [--only rival|ours] [--out bench/shakespeare.json]

The rival is a plain GPT-2-shaped network with AdamW, as nanoGPT's README trains it on a processor: 4 layers, 4 heads,
width 128, no dropout, 2,000 steps of 12 x 64 characters, rate 1e-3 falling to 1e-4 along a cosine after 100 steps,
betas 0.9 and 0.99, decay 0.1, clipping at 1. It counts only if it reaches 1.898 +- 0.02 and costs at most 1.15 times
a bare `backward(); step()` loop. Ours is the product's network and loop with at most 0.81 million weights, stopped at
the first look at which the whole validation text is at 1.898 or below; and once more by the same recipe with as many
steps as the rival's time allows, for the best loss at equal time. One thread; processor time with children counted;
looks at the validation text are not counted, for either.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from volant.core.run import Run
from volant.core.spaces import Encoded, Tokens
from volant.nets import loop
from volant.nets.batches import Batch, Packed
from volant.nets.loop import Recipe
from volant.nets.optim import bf16_here
from volant.nets.transformer import family

LENGTH, GOAL, MOST = 64, 1.898, 810_000
STEPS, ROWS = 2000, 12


def cpu_seconds() -> float:
    """Process CPU time, children counted."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def text(data: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Ids of the first nine tenths, of the rest, and how many characters there are."""
    raw = (data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    index = {c: i for i, c in enumerate(sorted(set(raw)))}
    ids = np.array([index[c] for c in raw], dtype=np.int64)
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], len(index)


def held_out(ids: np.ndarray) -> list[Batch]:
    """The whole validation text as windows that do not overlap, 64 targets each."""
    rows = (len(ids) - 1) // LENGTH
    windows = torch.from_numpy(np.stack([ids[i * LENGTH : i * LENGTH + LENGTH + 1] for i in range(rows)]))
    return [Batch(w, torch.ones_like(w, dtype=torch.bool)) for w in windows.split(256)]


# --- the rival -----------------------------------------------------------------------------------


class Block(nn.Module):
    """A GPT-2 block: attention and a GELU layer, each behind a layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.attend, self.joined = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, length, width = x.shape
        parts = self.attend(self.before(x)).split(width, dim=2)
        q, k, v = (p.view(rows, length, self.heads, -1).transpose(1, 2) for p in parts)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.joined(seen.transpose(1, 2).reshape(rows, length, width))
        return x + self.down(F.gelu(self.up(self.between(x))))


class Plain(nn.Module):
    """A GPT-2-shaped network with learned positions and a tied head."""

    def __init__(self, vocab: int, *, layers: int = 4, width: int = 128, heads: int = 4) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(vocab, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.last = nn.LayerNorm(width, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                scale = 0.02 / math.sqrt(2 * layers) if name.endswith(("joined.weight", "down.weight")) else 0.02
                nn.init.normal_(weight, std=scale)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.token(ids) + self.place(torch.arange(ids.size(1)))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.last(x), self.token.weight)


def rival(train: np.ndarray, looks: list[Batch], vocab: int, seed: int, *, steps: int = STEPS) -> dict[str, Any]:
    """nanoGPT's recipe; its loss on the whole validation text at the end, and what it cost."""
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    net = Plain(vocab)
    maps = [p for p in net.parameters() if p.ndim >= 2]
    rest = [p for p in net.parameters() if p.ndim < 2]
    groups = [{"params": maps, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    start = cpu_seconds()
    for step in range(steps):
        done = max(0.0, (step - 100) / (STEPS - 100))
        rate = 1e-3 * (step + 1) / 101 if step < 100 else 1e-4 + 0.5 * (1 + math.cos(math.pi * done)) * 9e-4
        for group in optimiser.param_groups:
            group["lr"] = rate
        at = draw.integers(0, len(train) - LENGTH, ROWS)
        windows = torch.from_numpy(np.stack([train[i : i + LENGTH + 1] for i in at]))
        loss = F.cross_entropy(net(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    spent = cpu_seconds() - start
    net.eval()
    total = count = 0.0
    with torch.no_grad():
        for batch in looks:
            part = F.cross_entropy(net(batch.ids[:, :-1]).flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="sum")
            total, count = total + float(part), count + batch.counted
    return {"loss": total / count, "cpu_seconds": spent, "parameters": sum(p.numel() for p in net.parameters())}


def bare(train: np.ndarray, vocab: int, steps: int) -> float:
    """CPU seconds a step of nothing but forward, `backward()` and `step()` on the rival's network."""
    torch.manual_seed(0)
    net = Plain(vocab)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    windows = torch.from_numpy(np.stack([train[i * LENGTH : i * LENGTH + LENGTH + 1] for i in range(ROWS)]))
    start = cpu_seconds()
    for _ in range(steps):
        F.cross_entropy(net(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten()).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return (cpu_seconds() - start) / steps


# --- ours ----------------------------------------------------------------------------------------


class Reached(Exception):
    """The goal is reached; ends the training of the bench."""


def ours(train: np.ndarray, looks: list[Batch], vocab: int, seed: int, shape: dict[str, Any]) -> dict[str, Any]:
    """The product's network and loop; the first look at or below the goal ends it."""
    started, paused = cpu_seconds(), 0.0
    curve: list[tuple[int, float, float]] = []
    net = family.build(Tokens(vocab, LENGTH), seed=seed, **shape["size"])
    batches = Packed([Encoded(train.tolist(), [True] * len(train))], length=LENGTH + 1, rows=shape["rows"], seed=seed)
    recipe = Recipe(**shape["recipe"])
    measure = loop.evaluate

    def look(net: Any, batches: Any, **more: Any) -> float:
        nonlocal paused
        before = cpu_seconds()
        value = measure(net, looks)
        spent = before - started - paused
        curve.append((len(curve) + 1, round(spent, 2), round(value, 4)))
        paused += cpu_seconds() - before
        if shape.get("stop", True) and value <= GOAL:
            raise Reached
        return value

    loop.evaluate = look
    try:
        with tempfile.TemporaryDirectory() as folder:
            run = Run(step="bench", out=Path(folder), work=Path(folder), threads=1, seed=seed)
            loop.train(run, net, batches, recipe, validation=looks[:1])
    except Reached:
        pass
    finally:
        loop.evaluate = measure
    parameters = sum(p.numel() for p in net.parameters())
    assert parameters <= MOST, parameters
    return {"curve": curve, "loss": curve[-1][2], "cpu_seconds": curve[-1][1], "parameters": parameters}


OURS: dict[str, Any] = {
    "size": {"depth": 4, "width": 128, "heads": 4, "mlp": 336},
    "rows": 16,
    "recipe": {
        "steps": 230, "lr": 0.01, "muon_lr": 0.025, "warmup": 5, "decay": 172, "evaluate_every": 23,
        "checkpoint_every": 0,
    },
}  # fmt: skip


def at_equal_time(first: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Our recipe stretched to what the rival took, by what a step of ours took in `first`."""
    every = OURS["recipe"]["evaluate_every"]
    step = first["cpu_seconds"] / (every * len(first["curve"]))
    looks = max(1, int(other["cpu_seconds"] / step / every))
    steps = looks * every
    return {**OURS, "stop": False, "recipe": {**OURS["recipe"], "steps": steps, "decay": steps * 3 // 4}}


def main() -> None:
    """Both, seed after seed in turn, and the ratio with its interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve()
    parser.add_argument("--data", type=Path, default=here.parents[2] / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=["rival", "ours"], default=None)
    parser.add_argument("--out", type=Path, default=here.with_suffix(".json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    train, rest, vocab = text(chosen.data)
    looks = held_out(rest)
    found: list[dict[str, Any]] = []
    for seed in range(chosen.seeds):
        row: dict[str, Any] = {"seed": seed}
        if chosen.only != "ours":
            row["rival"] = rival(train, looks, vocab, seed)
            row["bare_step"] = bare(train, vocab, 200)
        if chosen.only != "rival":
            row["ours"] = ours(train, looks, vocab, seed, OURS)
        if chosen.only is None:
            row["equal_time"] = ours(train, looks, vocab, seed, at_equal_time(row["ours"], row["rival"]))
        print(json.dumps(row), flush=True)
        found.append(row)
    body: dict[str, Any] = {"goal": GOAL, "bf16": bf16_here(), "torch": torch.__version__, "seeds": found}
    if chosen.only is None:
        shares = [r["ours"]["cpu_seconds"] / r["rival"]["cpu_seconds"] for r in found]
        counts = [r["rival"]["cpu_seconds"] / STEPS / r["bare_step"] for r in found]
        wide = 2.776 * statistics.stdev(shares) / len(shares) ** 0.5 if len(shares) == 5 else float("nan")
        equal = [(r["equal_time"], r["rival"]) for r in found]
        print("loss at equal time, ours and the rival's, and our share of its CPU seconds:")
        for one, other in equal:
            share = one["cpu_seconds"] / other["cpu_seconds"]
            print(f"  {one['loss']:.3f}  {other['loss']:.3f}  {share:.2f}")
        body["equal_time"] = statistics.mean(one["loss"] for one, _ in equal)
        body |= {"share": statistics.mean(shares), "half_interval_95": wide, "rival_to_bare": statistics.median(counts)}
        print(f"ours / rival in CPU seconds: {body['share']:.3f} +- {wide:.3f} (bar 0.25)")
        print(f"rival / bare loop: {body['rival_to_bare']:.2f} (at most 1.15)")
    chosen.out.write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
    main()
