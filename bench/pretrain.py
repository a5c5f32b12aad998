"""Our training loop against the Hugging Face Trainer: same network, same text, same windows, one thread.

    python bench/pretrain.py [--steps 40] [--runs 3] [--out bench/pretrain.json]

Each way trains in a process of its own, one after the other, run after run. Told are medians over the runs with their
least and greatest: tokens for each second of process CPU time (children counted; the first five steps left out, and
compiling with them), that as a multiple of the Trainer's in the same run, the loss at the end, and how much CPU time
the loss at which the Trainer ends took, as a share of the Trainer's. The Trainer runs with its defaults but for rate,
warm-up and batch; nothing is logged or saved in these few steps. `volant compiled` is what `pretrain.transformer` does
by itself from the budget on that is printed, `volant` what it does below; the bar is on the former, against the
Trainer as users call it. The text is Python's own language reference, which every Python carries.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from volant.core.run import Run
from volant.core.spaces import Tokens
from volant.nets import compiling
from volant.nets.batches import Packed
from volant.nets.loop import Recipe, train
from volant.nets.optim import bf16_here
from volant.nets.transformer import family, size_of

LENGTH, ROWS, DEPTH, VOCAB, SKIP = 128, 16, 3, 1024, 5
BAR = 1.2


def cpu_seconds() -> float:
    """Process CPU time, children counted."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


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


def trainer(batches: Packed, steps: int, *, bf16: bool = False, compiled: bool = False) -> dict[str, Any]:
    """Train with transformers' Trainer (AdamW, linear decay: its defaults but for the rate)."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    net = family.build(Tokens(VOCAB, LENGTH), seed=0, depth=DEPTH)
    rows = [r for s in range(steps) for r in batches.batch(s).ids]
    times, losses = list[float](), list[torch.Tensor]()

    class Watch(TrainerCallback):
        def on_step_begin(self, *args: Any, **more: Any) -> None:
            times.append(cpu_seconds())

    class Kept(Trainer):
        def training_step(self, *args: Any, **more: Any) -> torch.Tensor:
            losses.append(super().training_step(*args, **more))
            return losses[-1]

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=steps, per_device_train_batch_size=ROWS, learning_rate=2e-3, warmup_steps=5,
            save_strategy="no", report_to="none", use_cpu=True, bf16=bf16, disable_tqdm=True, seed=0,
            torch_compile=compiled,
        )  # fmt: skip
        data = [{"input_ids": r, "labels": r} for r in rows]
        Kept(model=net, args=arguments, train_dataset=data, callbacks=[Watch()]).train()  # type: ignore[arg-type]
    return result(times, [float(loss) for loss in losses])


def result(times: list[float], losses: list[float]) -> dict[str, Any]:
    """Speed without the first steps, and the curve."""
    step = (times[-1] - times[SKIP]) / (len(times) - 1 - SKIP)
    return {"step": step, "losses": losses, "end": statistics.mean(losses[-5:])}


WAYS: dict[str, tuple[Any, dict[str, Any]]] = {
    "trainer": (trainer, {}),
    "trainer compiled": (trainer, {"compiled": True}),
    "volant adamw": (ours, {"muon": False, "bf16": False}),
    "volant": (ours, {"muon": True, "bf16": bf16_here()}),
    "volant compiled": (ours, {"muon": True, "bf16": bf16_here(), "compiled": True}),
}
if bf16_here():
    WAYS["trainer bf16"] = (trainer, {"bf16": True})


def one(name: str, steps: int) -> dict[str, Any]:
    """A way, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    way, settings = WAYS[name]
    found: dict[str, Any] = way(windows(), steps, **settings)
    return found


def compared(run: dict[str, dict[str, Any]], steps: int) -> dict[str, dict[str, float]]:
    """The figures of each way of a run, beside the Trainer's."""
    goal, step = run["trainer"]["end"], run["trainer"]["step"]
    figures = {}
    for name, found in run.items():
        losses = found["losses"]
        means = [statistics.mean(losses[max(0, i - 4) : i + 1]) for i in range(len(losses))]
        reached = next((i + 1 for i, loss in enumerate(means) if loss <= goal), None)
        figures[name] = {
            "tokens_per_cpu_second": ROWS * LENGTH / found["step"],
            "speed_ratio": step / found["step"],
            "end_loss": found["end"],
            "cost_ratio_to_goal": float("inf") if reached is None else reached * found["step"] / (steps * step),
        }
    return figures


def main() -> None:
    """Run all in turn and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    chosen = parser.parse_args()
    runs = []
    for _ in range(chosen.runs):
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            run = {name: pool.apply(one, (name, chosen.steps)) for name in WAYS}
        runs.append(compared(run, chosen.steps))
        print(json.dumps({name: round(found["speed_ratio"], 3) for name, found in runs[-1].items()}), flush=True)
    table: dict[str, dict[str, list[float]]] = {}
    for name in WAYS:
        table[name] = {}
        for key in runs[0][name]:
            values = [run[name][key] for run in runs]
            table[name][key] = [round(v, 4) for v in (statistics.median(values), min(values), max(values))]
        told = "  ".join(f"{key} {mid:g} ({low:g} to {high:g})" for key, (mid, low, high) in table[name].items())
        print(f"{name:18} {told}")
    net = family.build(Tokens(VOCAB, LENGTH), seed=0, depth=DEPTH)
    least = compiling.least_tokens(net, threads=1)
    steps = least // (ROWS * LENGTH)
    print(f"pretrain.transformer of this size compiles from {least:,} tokens on, which are {steps:,} steps")
    ratio = table["volant compiled"]["speed_ratio"][0]
    print(f"volant compiled / trainer: {ratio:.2f}, bar {BAR:g}: {'holds' if ratio >= BAR else 'MISSED'}")
    shape = {"depth": DEPTH, "vocab": VOCAB, "length": LENGTH, "rows": ROWS, "threads": 1, "steps": chosen.steps}
    versions = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(), "bf16": bf16_here()}
    body = {"shape": shape, "versions": versions, "runs": chosen.runs, "compiled_from_tokens": least, "ways": table}
    chosen.out.write_text(json.dumps(body | {"holds": ratio >= BAR}, indent=2) + "\n")


if __name__ == "__main__":
    main()
