"""Our training loop against the Hugging Face Trainer: same network, same text, same windows, one thread.

    python bench/pretrain.py [--steps 60] [--out bench/pretrain.json]

Prints and writes, for each way to train: tokens for each second of process CPU time (children counted, first five
steps left out, and compiling with them), the loss that it ends at, and how much CPU time it needed for the loss at
which the Trainer ends.
`volant compiled` is what `pretrain.transformer` does by itself where a budget is long enough to pay for compiling.
The text is Python's own language reference, which every Python carries.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from volant.core.run import Run
from volant.core.spaces import Tokens
from volant.nets.batches import Packed
from volant.nets.loop import Recipe, train
from volant.nets.optim import bf16_here
from volant.nets.transformer import family, size_of

LENGTH, ROWS, DEPTH, VOCAB, SKIP = 128, 16, 3, 1024, 5


def cpu_seconds() -> float:
    """Process CPU time, children counted."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def windows() -> Packed:
    """The language reference, tokenised, as training windows."""
    from pydoc_data.topics import topics

    from volant.core.sample import Sample, Source
    from volant.modalities import open_modality

    source = Source(uri="python:pydoc_data.topics", licence="PSF-2.0")
    samples = [Sample(id=n, shape="text", source=source, content=t) for n, t in sorted(topics.items())]
    codec = open_modality("text").codec(samples, vocab=VOCAB, length=LENGTH)
    return Packed([codec.encode(s) for s in samples], length=LENGTH, rows=ROWS, seed=0)


class Timed:
    """Batches that note the CPU time at which each was asked for."""

    def __init__(self, batches: Packed) -> None:
        self._batches, self.steps, self.times = batches, batches.steps, list[float]()

    def batch(self, step: int) -> Any:
        """The batch of the step."""
        self.times.append(cpu_seconds())
        return self._batches.batch(step)


def ours(batches: Packed, steps: int, *, muon: bool, bf16: bool, compiled: bool = False) -> dict[str, Any]:
    """Train with `nets/loop.py`."""
    size = size_of(DEPTH)
    net = family.build(Tokens(VOCAB, LENGTH), seed=0, depth=DEPTH)
    timed = Timed(batches)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(step="bench", out=Path(folder), work=Path(folder), threads=1)
        recipe = Recipe(
            steps=steps, lr=size.lr if muon else 2e-3, muon_lr=size.muon_lr if muon else 0.0, warmup=5,
            decay=steps // 2, checkpoint_every=0, bf16=bf16, compiled=compiled,
        )  # fmt: skip
        train(run, net, timed, recipe)
        losses = [v for n, v, _ in run.watcher.metrics if n == "loss"]  # type: ignore[attr-defined]
    return result(timed.times, losses)


def trainer(batches: Packed, steps: int, *, bf16: bool, compiled: bool = False) -> dict[str, Any]:
    """Train with transformers' Trainer (AdamW, linear decay: its defaults but for the rate)."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    net = family.build(Tokens(VOCAB, LENGTH), seed=0, depth=DEPTH)
    rows = [r for s in range(steps) for r in batches.batch(s).ids]
    times, losses = list[float](), list[float]()

    class Watch(TrainerCallback):
        def on_step_begin(self, *args: Any, **more: Any) -> None:
            times.append(cpu_seconds())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=steps, per_device_train_batch_size=ROWS, learning_rate=2e-3, warmup_steps=5,
            logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, bf16=bf16, disable_tqdm=True, seed=0,
            logging_strategy="steps", torch_compile=compiled,
        )  # fmt: skip
        data = [{"input_ids": r, "labels": r} for r in rows]
        Trainer(model=net, args=arguments, train_dataset=data, callbacks=[Watch()]).train()  # type: ignore[arg-type]
    return result(times, losses)


def result(times: list[float], losses: list[float]) -> dict[str, Any]:
    """Speed without the first steps, and the curve."""
    spent = times[-1] - times[SKIP]
    done = (len(times) - 1 - SKIP) * ROWS * LENGTH
    return {
        "tokens_per_cpu_second": round(done / spent),
        "cpu_seconds_per_step": spent / (len(times) - 1 - SKIP),
        "losses": losses,
        "end_loss": round(sum(losses[-5:]) / 5, 4),
    }


def main() -> None:
    """Run all and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batches, half = windows(), bf16_here()
    found = {
        "trainer fp32": trainer(batches, chosen.steps, bf16=False),
        "volant fp32 adamw": ours(batches, chosen.steps, muon=False, bf16=False),
        "volant": ours(batches, chosen.steps, muon=True, bf16=half),
        "trainer compiled": trainer(batches, chosen.steps, bf16=False, compiled=True),
        "volant compiled": ours(batches, chosen.steps, muon=True, bf16=half, compiled=True),
    }
    if half:
        found["trainer bf16"] = trainer(batches, chosen.steps, bf16=True)
    goal = found["trainer fp32"]["end_loss"]
    rate = found["trainer fp32"]["tokens_per_cpu_second"]
    whole = found["trainer fp32"]["cpu_seconds_per_step"] * chosen.steps
    for name, one in found.items():
        losses = one.pop("losses")
        means = [sum(losses[max(0, i - 4) : i + 1]) / min(5, i + 1) for i in range(len(losses))]
        reached = next((i + 1 for i, loss in enumerate(means) if loss <= goal), None)
        one["speed_ratio"] = round(one["tokens_per_cpu_second"] / rate, 2)
        one["cpu_seconds_to_goal"] = None if reached is None else round(reached * one["cpu_seconds_per_step"], 2)
        one["cost_ratio_to_goal"] = None if reached is None else round(reached * one["cpu_seconds_per_step"] / whole, 2)
        one["cpu_seconds_per_step"] = round(one["cpu_seconds_per_step"], 4)
        print(f"{name:20} {json.dumps(one)}")
    shape = {"depth": DEPTH, "vocab": VOCAB, "length": LENGTH, "rows": ROWS, "threads": 1, "steps": chosen.steps}
    versions = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(), "bf16": half}
    chosen.out.write_text(json.dumps({"shape": shape, "versions": versions, "ways": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
