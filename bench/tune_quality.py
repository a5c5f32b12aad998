"""What LoRA and QLoRA lose against full fine-tuning on the example: bits per byte of the validation docstrings.

    python bench/tune_quality.py [--seeds 3] [--modules N] [--epochs 1] [--context 192] [--full-lr 0.0001]
                                 [--out bench/tune_quality.json]

The example's own way: the base in the box, and the pairs of the standard library that its project file gathers
(`--modules 0` takes all). Three seeds of tuning, one thread; LoRA and QLoRA with their defaults, full at the rate that
the example's project file gives it (`--full-lr 0` takes its default). Training looks at 48 validation answers to stop
early, so these do not count; beside the ratio stands the share of full's gain over the base, since doing nothing may be
within 2 % as well. The bars: the mean over the seeds at most 2 % above full's, and the optimiser's moments at most 1/20
of full's. The default rate was chosen by one seed's figures on all answers.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from base_in_box import BOX, example

from volant.core.artifact import Dataset, Model
from volant.core.sample import spread
from volant.engines import open_model
from volant.nets import loop
from volant.nets.optim import Optimisers
from volant.project import Project
from volant.scorers.compare import paired
from volant.scorers.measure import bits_per_byte
from volant.stages import collect, finetune, pretrain
from volant.stages.finetune import tuning
from volant.store.dataset import rows

WAYS = {"full": finetune.full, "lora": finetune.lora, "qlora": finetune.qlora}
BAR, OPTIMISER = 1.02, 1 / 20


def cpu_seconds() -> float:
    """Process CPU time, children counted."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def gathered(project: Project, modules: int | None) -> tuple[Model, Dataset]:
    """The base and the pairs, as the example's project file gets them."""
    wanted = example()[0] | ({} if modules is None else {"modules": modules})
    functions = project.step("functions").run(collect.python_sources, **wanted)
    seen = project.step("seen").run(collect.clean, functions)
    return project.step("base").run(pretrain.base, source=BOX), project.step("pairs").run(collect.clean, seen)


class Watched(Optimisers):
    """The optimiser as it is, telling the bytes of its moments after each step."""

    held = 0

    def step(self, factor: float) -> None:
        super().step(factor)
        Watched.held = sum(t.nbytes for t in self.tensors().values() if t.ndim)


def against(base: list[float], full: list[float], ours: list[float]) -> dict[str, Any]:
    """The same answers by the base, by full and by this way: the ratio, and how much of full's gain there is."""
    compared = paired("bits_per_byte", full, ours, direction="lower")
    gain = mean(base) - mean(full)
    share = (mean(base) - mean(ours)) / gain if gain > 0 else None
    return {"ratio": mean(ours) / mean(full), "of_gain": share, "p": compared.p, "verdict": compared.verdict}


def means(values: list[list[float]]) -> list[float]:
    """Each answer's mean over the seeds."""
    return [mean(one) for one in zip(*values, strict=True)]


def main() -> None:
    """All ways, seed after seed, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--modules", type=int)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--context", type=int, default=int(example()[1]["context"]))
    parser.add_argument("--full-lr", type=float, default=float(example()[1]["lr"]))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    shared = {"epochs": asked.epochs, "context": asked.context}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "volant.yaml").write_text("volant: 1\nname: bench\nsteps: {}\n")
        project = Project(Path(folder), threads=1, device="cpu")
        base, pairs = gathered(project, asked.modules)
        answers = list(rows(pairs, "validation"))
        looked = {s.id for s in spread(answers, tuning._LOOKED_AT)}
        held = [s for s in answers if s.id not in looked]
        before = bits_per_byte(open_model(base), held)
        print(f"base: {mean(before):.4f} bits a byte of {len(held)} answers that no look sees", flush=True)
        found: list[dict[str, Any]] = []
        values: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        full_moments = 0
        loop.Optimisers = Watched
        for seed in range(asked.seeds):
            for way, method in WAYS.items():
                more = {"lr": asked.full_lr} if way == "full" else {}
                start = cpu_seconds()
                tuned = project.step(way, seed=seed).run(method, base, pairs, **shared, **more)
                spent = cpu_seconds() - start
                values[way].append(bits_per_byte(open_model(tuned), held))
                row: dict[str, Any] = {"seed": seed, "way": way, "bits": mean(values[way][-1])}
                row |= {"cpu_seconds": spent, "moments": Watched.held}
                if way == "full":
                    full_moments = row["moments"]
                else:
                    row |= against(before, values["full"][-1], values[way][-1])
                    row |= {"optimiser": row["moments"] / full_moments}
                found.append(row)
                print(json.dumps(row), flush=True)
    whole = {way: means(of) for way, of in values.items()}
    body: dict[str, Any] = {"base": mean(before), "n": len(held), "runs": found}
    for way in ("lora", "qlora"):
        body[way] = against(before, whole["full"], whole[way])
        body[way]["optimiser"] = max(r["optimiser"] for r in found if r["way"] == way)
        print(way, json.dumps(body[way]))
    good = all(body[way]["ratio"] <= BAR for way in ("lora", "qlora"))
    small = all(body[way]["optimiser"] <= OPTIMISER for way in ("lora", "qlora"))
    body["holds"] = good and small
    for bar, kept in (("quality within 2 %", good), ("optimiser at most 1/20", small)):
        print(f"{bar}: {'holds' if kept else 'DOES NOT HOLD'}")
    asked.out.write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
    main()
