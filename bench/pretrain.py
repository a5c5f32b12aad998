"""Our training loop against the Hugging Face Trainer: same network, same text, same windows, same threads.

    python bench/pretrain.py [--steps 60] [--runs 3] [--threads N] [--out bench/pretrain.json]

Each way trains in a process of its own, and they take turns of five steps: a machine whose speed moves moves all of
them, so each turn is held against the Trainer's turn of the same round. Told are medians over the rounds of all runs,
with the least and greatest median of a run: tokens for each second, that as a multiple of the Trainer's, the loss at
the end, and how much time the loss at which the Trainer ends took, as a share of the Trainer's. Both take all cores
unless told otherwise, and so does the bench; seconds are those of a clock. With `--threads 1` they are those of the
process' CPU time, children counted, which other work on the machine disturbs less. The first two rounds do not count,
and compiling with them, nor does the last. The Trainer runs with its defaults but for rate, warm-up and batch; nothing
is logged or saved in these few steps. `volant compiled` is what `pretrain.transformer` does by itself from the budget
on that is printed, `volant` what it does below; the bar is on the former, against the Trainer as users call it. The
text is Python's own language reference, which every Python carries.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import statistics
import tempfile
import time
from collections.abc import Callable
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

LENGTH, ROWS, DEPTH, VOCAB = 128, 16, 3, 1024
TURN, SKIP = 5, 2  # steps of a turn; rounds that do not count
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


class Turns:
    """A place in the round: one way trains for `TURN` steps while the others wait.

    Args:
        own, next: what this way waits for, and what it gives on.
        clock: seconds.
    """

    def __init__(self, own: Any, next: Any, clock: Callable[[], float]) -> None:
        self._own, self._next, self._clock = own, next, clock
        self._steps, self._since = 0, 0.0
        self.seconds: list[float] = []

    def step(self) -> None:
        """A step begins."""
        if self._steps % TURN == 0:
            self.end()
            self._own.acquire()
            self._since = self._clock()
        self._steps += 1

    def end(self) -> None:
        """The turn is over."""
        if self._steps:
            self.seconds.append(self._clock() - self._since)
            self._next.release()


class Told:
    """Batches that tell when a step begins."""

    def __init__(self, batches: Packed, turns: Turns) -> None:
        self._batches, self.steps, self._turns = batches, batches.steps, turns

    def batch(self, step: int) -> Any:
        """The batch of the step."""
        self._turns.step()
        return self._batches.batch(step)


def ours(batches: Packed, steps: int, turns: Turns, *, muon: bool, bf16: bool, compiled: bool = False) -> list[float]:
    """The losses of training with `nets/loop.py`."""
    size = size_of(DEPTH)
    net = family.build(Tokens(VOCAB, LENGTH), seed=0, depth=DEPTH)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(step="bench", out=Path(folder), work=Path(folder), threads=torch.get_num_threads())
        recipe = Recipe(
            steps=steps, lr=size.lr if muon else 2e-3, muon_lr=size.muon_lr if muon else 0.0, warmup=5,
            decay=steps // 2, checkpoint_every=0, bf16=bf16, compiled=compiled,
        )  # fmt: skip
        train(run, net, Told(batches, turns), recipe)
        return [v for n, v, _ in run.watcher.metrics if n == "loss"]  # type: ignore[attr-defined]


def trainer(batches: Packed, steps: int, turns: Turns, *, bf16: bool = False, compiled: bool = False) -> list[float]:
    """The losses of training with transformers' Trainer (AdamW, linear decay: its defaults but for the rate)."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    net = family.build(Tokens(VOCAB, LENGTH), seed=0, depth=DEPTH)
    rows = [r for s in range(steps) for r in batches.batch(s).ids]
    losses = list[torch.Tensor]()

    class Watch(TrainerCallback):
        def on_step_begin(self, *args: Any, **more: Any) -> None:
            turns.step()

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
        Kept(model=net, args=arguments, train_dataset=data, callbacks=[Watch()]).train()
    return [float(loss) for loss in losses]


WAYS: dict[str, tuple[Any, dict[str, Any]]] = {
    "trainer": (trainer, {}),
    "trainer compiled": (trainer, {"compiled": True}),
    "volant adamw": (ours, {"muon": False, "bf16": False}),
    "volant": (ours, {"muon": True, "bf16": bf16_here()}),
    "volant compiled": (ours, {"muon": True, "bf16": bf16_here(), "compiled": True}),
}
if bf16_here():
    WAYS["trainer bf16"] = (trainer, {"bf16": True})


def one(name: str, steps: int, threads: int, own: Any, next: Any, found: Any) -> None:
    """A way, in this process: its turns' seconds and its losses."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    way, settings = WAYS[name]
    turns = Turns(own, next, cpu_seconds if threads == 1 else time.perf_counter)
    losses = way(windows(), steps, turns, **settings)
    turns.end()
    found.put((name, {"turns": turns.seconds[SKIP:-1], "losses": losses}))


def in_turns(steps: int, threads: int) -> dict[str, dict[str, Any]]:
    """All ways, a process each, one of them at work at a time."""
    spawn = multiprocessing.get_context("spawn")
    gates, found = [spawn.Semaphore(0) for _ in WAYS], spawn.Queue()
    names = list(WAYS)
    work = [
        spawn.Process(
            target=one, args=(name, steps, threads, gates[at], gates[(at + 1) % len(gates)], found), daemon=True
        )
        for at, name in enumerate(names)
    ]
    for process in work:
        process.start()
    gates[0].release()
    results: dict[str, dict[str, Any]] = {}
    while len(results) < len(names):
        try:
            name, told = found.get(timeout=5)
            results[name] = told
        except queue.Empty:
            if any(process.exitcode for process in work):
                raise SystemExit("a way ended with an error, see above") from None
    for process in work:
        process.join()
    return {name: results[name] for name in names}


def compared(run: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The figures of each way of a run, beside the Trainer's of the same rounds."""
    base = run["trainer"]
    goal = statistics.mean(base["losses"][-5:])
    figures = {}
    for name, found in run.items():
        losses = found["losses"]
        means = [statistics.mean(losses[max(0, i - 4) : i + 1]) for i in range(len(losses))]
        reached = next((i + 1 for i, loss in enumerate(means) if loss <= goal), None)
        ratios = [theirs / own for theirs, own in zip(base["turns"], found["turns"], strict=True)]
        ratio = statistics.median(ratios)
        figures[name] = {
            "tokens_per_second": ROWS * LENGTH * TURN / statistics.median(found["turns"]),
            "speed_ratio": ratio,
            "rounds": ratios,
            "end_loss": statistics.mean(losses[-5:]),
            "cost_ratio_to_goal": None if reached is None else reached / len(losses) / ratio,
        }
    return figures


def main() -> None:
    """Run all in turn and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    chosen = parser.parse_args()
    if chosen.steps < (SKIP + 2) * TURN:
        parser.error(f"--steps: at least {(SKIP + 2) * TURN}, so that a round counts")
    runs = []
    for _ in range(chosen.runs):
        runs.append(compared(in_turns(chosen.steps, chosen.threads)))
        print(json.dumps({name: round(found["speed_ratio"], 3) for name, found in runs[-1].items()}), flush=True)
    table = {name: told_of([run[name] for run in runs]) for name in WAYS}
    for name, row in table.items():
        told = "  ".join(f"{key} {mid:g} ({low:g} to {high:g})" for key, (mid, low, high) in row.items())
        print(f"{name:18} {told}")
    net = family.build(Tokens(VOCAB, LENGTH), seed=0, depth=DEPTH)
    least = compiling.least_tokens(net, threads=chosen.threads)
    steps = least // (ROWS * LENGTH)
    print(f"pretrain.transformer of this size compiles from {least:,} tokens on, which are {steps:,} steps")
    ratio = table["volant compiled"]["speed_ratio"][0]
    print(f"volant compiled / trainer: {ratio:.2f}, bar {BAR:g}: {'holds' if ratio >= BAR else 'MISSED'}")
    shape = {
        "depth": DEPTH, "vocab": VOCAB, "length": LENGTH, "rows": ROWS, "threads": chosen.threads,
        "steps": chosen.steps, "turn": TURN,
    }  # fmt: skip
    versions = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(), "bf16": bf16_here()}
    body = {"shape": shape, "versions": versions, "runs": chosen.runs, "compiled_from_tokens": least, "ways": table}
    chosen.out.write_text(json.dumps(body | {"holds": ratio >= BAR}, indent=2) + "\n")


def told_of(runs: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Median, least and greatest of each figure; the ratio's median is that of all rounds."""
    found = {}
    for key in runs[0]:
        values = [run[key] for run in runs if run[key] is not None]
        if key == "rounds" or not values:  # a loss that was never reached has no cost
            continue
        each = [ratio for run in runs for ratio in run["rounds"]] if key == "speed_ratio" else values
        found[key] = [round(v, 4) for v in (statistics.median(each), min(values), max(values))]
    return found


if __name__ == "__main__":
    main()
