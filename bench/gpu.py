"""Training on a GPU: the curves of the CPU, a large shape killed and carried on, speed, and the share of the peak.

    python bench/gpu.py [--device cuda] [--depth 44] [--steps 100] [--context 1024] [--out bench/gpu.json]

* **Curves**: `pretrain.transformer`, `pretrain.masked`, `finetune.full`, `finetune.lora` and `align.dpo` on small
  networks, on the CPU and on the device from the same seed; told are the losses at the start and at the end, and how
  far the two curves are apart at most. A picture of them lies beside the JSON. The bar: apart by at most a tenth of
  what was learnt.
* **The large shape** (depth 44 has 1.06 billion parameters): so many steps, once undisturbed and once killed with
  SIGKILL in the middle and carried on; told are tokens a second, the share of the peak that large products have on
  the device, memory, and whether both end with the same bytes (the bar).
* **Exact resume** of all ways to train is `python bench/resume.py --device cuda`.

The text is Python's own language reference, which every Python carries. Without a GPU `--device cpu --depth 2 --steps
12 --context 64` tries the bench itself; its figures then say nothing of a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from resume import child, pairs_of

from volant.core.run import Silent
from volant.nets import loop
from volant.project import Project

APART = 0.1
SMALL = {"depth": 2, "tokens": 120_000, "vocab": 512, "context": 64, "batch_tokens": 1024, "checkpoint_tokens": 0}
CURVES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "pretrain.transformer": (("text",), SMALL),
    "pretrain.masked": (("text",), SMALL),
    "finetune.full": (("model", "tasks"), {"steps": 60, "batch": 16}),
    "finetune.lora": (("model", "tasks"), {"steps": 60, "batch": 16}),
    "align.dpo": (("model", "pairs"), {"epochs": 8.0, "limit": 4}),
}  # fmt: skip
"""The small networks' calls: their inputs and settings."""


def opened(root: Path, device: str) -> Project:
    """The project on a device; one thread, so that the CPU's curve is the same on every machine."""
    return Project(root, device=device, threads=1 if device == "cpu" else os.cpu_count() or 1, watcher=Silent())


def method_of(name: str) -> Any:
    from importlib import import_module

    stage, _, function = name.partition(".")
    return getattr(import_module(f"volant.stages.{stage}"), function)


def make(root: Path, told: Path) -> None:
    """Text, tasks, pairs and a small base."""
    from pydoc_data.topics import topics

    from volant.core.sample import Sample, Source, sample_id
    from volant.testing import worlds

    project = opened(root, "cpu")
    source = Source(uri="python:pydoc_data.topics", licence="PSF-2.0")
    text = [
        Sample(
            id=sample_id(content), shape="text", source=source, content=content,
            split="validation" if number % 20 == 7 else "train",
        )
        for number, (_, content) in enumerate(sorted(topics.items()))
    ]  # fmt: skip
    tasks = worlds.tasks(200)
    found = {"text": text, "tasks": tasks, "pairs": [*pairs_of(tasks), *tasks]}
    made = {name: worlds.dataset(project, samples) for name, samples in found.items()}
    made["model"] = project.step("base").run(method_of("pretrain.transformer"), made["tasks"], **SMALL)
    told.write_text(json.dumps({name: one.card.digest for name, one in made.items() if one.card}))


def work(root: Path, device: str, step: str, name: str, inputs: Sequence[str], settings: Any, die: int) -> None:
    """One process: the call, whole or until it dies in that step."""
    if die:
        gradients = loop._Training._gradients

        def dying(training: Any, batch: Any) -> float:
            value = gradients(training, batch)
            if training.step >= die:
                os.kill(os.getpid(), signal.SIGKILL)
            return value

        loop._Training._gradients = dying  # type: ignore[method-assign]
    project = opened(root, device)
    given = json.loads((root / "given.json").read_text())
    project.step(step).run(method_of(name), *(project.store.get(given[one]) for one in inputs), **settings)


def ran(root: Path, device: str, step: str, name: str, inputs: Sequence[str], settings: Any, die: int = 0) -> int:
    """The exit status of `work` in a process of its own."""
    return child(get_context("spawn"), work, root, device, step, name, inputs, settings, die)


def curve(root: Path, step: str, name: str = "loss") -> dict[int, float]:
    """A curve of all runs of a step: the last value at each place."""
    records = opened(root, "cpu").records
    return {at: value for run in reversed(records.runs(step=step)) for _, value, at in records.metrics(run.id, name)}


def curves(root: Path, device: str) -> dict[str, Any]:
    """The small networks on the CPU and on the device."""
    print(f"\n| method | steps | CPU | {device} | apart at most |\n" + "|---" * 5 + "|")
    told = {}
    for name, (inputs, settings) in CURVES.items():
        both = []
        for number, where in enumerate(("cpu", device)):
            # A project of its own each: one that has made the model on the CPU would not make it again.
            here = shutil.copytree(root, root.with_name(f"{name}-{number}"))
            assert ran(here, where, "made", name, inputs, settings) == 0, f"{name} on {where} failed"
            both.append([value for _, value in sorted(curve(here, "made").items())])
            shutil.rmtree(here)
        cpu, there = both
        apart = max(abs(a - b) for a, b in zip(cpu, there, strict=True))
        told[name] = {"cpu": cpu, "device": there, "apart": apart, "learnt": cpu[0] - min(cpu)}
        shown = [f"{one[0]:.4f} to {one[-1]:.4f}" for one in both]
        print(f"| {name} | {len(cpu)} | {' | '.join(shown)} | {apart:.4f} |", flush=True)
    return told


def drawn(told: dict[str, Any], device: str) -> str:
    """The pairs of curves, one below the other: the CPU's broad and pale, the device's narrow on it."""
    parts, height = [], 150

    def line(values: Sequence[float], top: int, low: float, high: float, how: str) -> str:
        across, down = 860 / max(1, len(values) - 1), 110 / max(1e-9, high - low)
        points = (f"{50 + i * across:.1f},{top + 30 + (high - v) * down:.1f}" for i, v in enumerate(values))
        return f'<polyline points="{" ".join(points)}" fill="none" {how}/>'

    for row, (name, one) in enumerate(told.items()):
        top, both = row * height, [*one["cpu"], *one["device"]]
        low, high = min(both), max(both)
        what = f"{name}: loss {high:.2f} to {low:.2f}; CPU (broad) and {device}"
        parts.append(f'<text x="50" y="{top + 18}">{what}</text>')
        parts.append(line(one["cpu"], top, low, high, 'stroke="#f0a35e" stroke-width="5"'))
        parts.append(line(one["device"], top, low, high, 'stroke="#1f4e79" stroke-width="1.4"'))
    box = f'viewBox="0 0 960 {height * len(told)}" font-family="sans-serif" font-size="13"'
    paper = '<rect width="960" height="100%" fill="#fff"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{paper}', *parts, "</svg>\n"])


def made(root: Path) -> Any:
    """The model of the large shape."""
    project = opened(root, "cpu")
    return next(project.store.get(run.artifact) for run in project.records.runs(step="large") if run.artifact)


def large(root: Path, device: str, depth: int, steps: int, context: int) -> dict[str, Any]:
    """The large shape, undisturbed, and killed in the middle and carried on."""
    from volant.nets.transformer import size_of

    batch = max(size_of(depth).batch_tokens if device == "cuda" else 512, 2 * context)
    settings = {
        "depth": depth, "tokens": steps * batch, "batch_tokens": batch, "vocab": 2048, "context": context,
        "looks": 1, "patience": 0, "checkpoint_tokens": steps * batch // 4,
    }  # fmt: skip
    call = ("pretrain.transformer", ("text",), settings)
    began = time.monotonic()
    here = shutil.copytree(root, root.with_name("whole"))
    assert ran(here, device, "large", *call) == 0, "the large shape failed"
    seconds, whole = time.monotonic() - began, curve(here, "large")
    figures = {name: list(curve(here, "large", name).values()) for name in ("tokens_per_second", "peak_share")}
    memory = max(curve(here, "large", "memory_bytes").values(), default=0.0)
    model, parameters = made(here), made(here).about.parameters
    shutil.rmtree(here)  # a large model and its checkpoints take many GB
    here = shutil.copytree(root, root.with_name("killed"))
    assert ran(here, device, "large", *call, die=steps // 2 + 1) == -signal.SIGKILL, "it was not killed"
    assert ran(here, device, "large", *call) == 0, "the large shape was not carried on"
    first, same = min(curve(here, "large")), made(here).digest == model.digest
    shutil.rmtree(here)
    told = {
        "depth": depth, "parameters": parameters, "steps": len(whole), "step_tokens": batch,
        "seconds": seconds, "losses": [value for _, value in sorted(whole.items())], "memory_bytes": memory,
        "carried_on_at": first, "same_bytes": same,
        **{name: statistics.median(found[1:] or found or [0.0]) for name, found in figures.items()},
    }  # fmt: skip
    print(
        f"\n{told['parameters']:,} parameters, {len(whole)} steps of {batch:,} tokens in {seconds:.0f} s, start and "
        f"end with it:\n{told['tokens_per_second']:,.0f} tokens a second, {told['peak_share']:.0%} of the peak, "
        f"{memory / 2**30:.1f} GiB; loss {told['losses'][0]:.3f} to {told['losses'][-1]:.3f}\nkilled at step "
        f"{steps // 2 + 1}, carried on before step {first}, the same bytes at the end: {'yes' if same else 'NO'}"
    )
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--depth", type=int, default=44)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "world"
        root.mkdir()
        assert child(get_context("spawn"), make, root, root / "given.json") == 0, "the project could not be made"
        body: dict[str, Any] = {"device": asked.device, "curves": curves(root, asked.device)}
        asked.out.with_suffix(".svg").write_text(drawn(body["curves"], asked.device), encoding="utf-8")
        body["large"] = large(root, asked.device, asked.depth, asked.steps, asked.context)
    asked.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    missed = [name for name, one in body["curves"].items() if one["apart"] > APART * one["learnt"]]
    if not body["large"]["same_bytes"]:
        missed.append("the same bits after a kill")
    print("every bar holds" if not missed else f"MISSED: {', '.join(missed)}")
    raise SystemExit(bool(missed))


if __name__ == "__main__":
    main()
