"""The base in the box: what it saves, and what it writes about packages that it never saw.

    python bench/base_in_box.py [--seeds 3] [--functions 200] [--only goal|unseen] [--modules N]
                                [--out bench/base_in_box.json]

**goal**: the example from scratch (`volant init --from-scratch`: a base of 600,000 tokens, six epochs of fine-tuning)
sets the target: bits a byte of the validation split's docstrings. From the base in the box the same pairs are tuned on
until that is reached. Process CPU seconds of the steps that train, one thread; gathering is not counted, for either.

**unseen**: functions of packages that are held out as a whole (test by the hash of the name). The base, tuned as the
example's project file says, on its functions or those of `--modules` modules, against nearest neighbour and n-gram on
the same pairs: relevance to what the authors wrote, paired permutation test.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from volant.core.artifact import Dataset, Model
from volant.core.sample import split_of
from volant.project import Project
from volant.scorers.compare import paired
from volant.scorers.measure import answers, bits_per_byte
from volant.scorers.texts import similarity
from volant.stages import collect, finetune, pretrain
from volant.store.dataset import rows

BOX = "volant/docstrings"
SCRATCH_LR = 0.0013  # as the example's project file says
EPOCHS = (0.25, 0.5, 1.0, 2.0)
HELD_OUT = ("babel", "colorlog", "courlan", "coverage", "execnet", "iniconfig", "packaging", "pyparsing")


def example() -> tuple[dict[str, Any], dict[str, Any]]:
    """How the example's project file gathers its functions, and how it tunes on them."""
    from importlib.resources import as_file, files

    from volant.project.spec_file import load_spec

    with as_file(files("volant.cli") / "templates" / "docstrings" / "volant.yaml") as file:
        steps = load_spec(file).steps
    tuned = {name: value for name, value in steps["tuned"].arguments.items() if name not in ("model", "data")}
    return steps["functions"].arguments, tuned


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def timed(project: Project, step: str, seed: int, method: Any, *inputs: Any, **settings: Any) -> tuple[Any, float]:
    """The step's artifact, and what it cost when it ran, which a project that is used again remembers."""
    kept = project.root / f"{step}-{seed}-{settings.get('epochs', 0)}.seconds"
    start = cpu_seconds()
    made = project.step(step, seed=seed).run(method, *inputs, **settings)
    spent = cpu_seconds() - start
    if not kept.exists() or kept.read_text().split()[1] != made.card.digest:
        kept.write_text(f"{spent} {made.card.digest}")
    return made, float(kept.read_text().split()[0])


def bits(model: Model, data: Dataset, limit: int) -> float:
    from volant.engines import open_model

    held = list(rows(data, "validation"))[:limit]
    values = bits_per_byte(open_model(model), held)
    return sum(values) / len(values)


def goal(project: Project, pairs: Dataset, functions: Dataset, seeds: int, limit: int) -> list[dict[str, float]]:
    library = project.step("library").run(collect.python_sources, what="text", modules=150)
    text = project.step("text").run(collect.clean, library, guard=[functions])
    found, goals = [], []
    for seed in range(seeds):
        base, first = timed(project, "scratch", seed, pretrain.transformer, text, tokens=600_000)
        tuned, second = timed(project, "scratch_tuned", seed, finetune.full, base, pairs, epochs=6, lr=SCRATCH_LR)
        goals.append((bits(tuned, pairs, limit), first + second))
        print(
            f"seed {seed} from scratch: {goals[-1][0]:.3f} bits a byte after {goals[-1][1]:.0f} CPU seconds", flush=True
        )
    for seed, (target, scratch) in enumerate(goals):
        box, spent = timed(project, "box", seed, pretrain.base, source=BOX)
        before = reached = bits(box, pairs, limit)
        epochs = 0.0
        for epochs in EPOCHS if reached > target else ():
            model, seconds = timed(project, "box_tuned", seed, finetune.full, box, pairs, epochs=epochs)
            reached = bits(model, pairs, limit)
            if reached <= target:
                spent += seconds
                break
        row = {
            "seed": seed, "target": target, "scratch_seconds": scratch, "box_before": before, "box_reached": reached,
            "box_epochs": epochs, "box_seconds": spent, "share": spent / scratch,
        }  # fmt: skip
        print(
            f"seed {seed}: target {target:.3f} bits a byte after {scratch:.0f} CPU seconds; box {before:.3f} untuned, "
            f"{reached:.3f} after {spent:.1f} ({row['share']:.1%})", flush=True,
        )  # fmt: skip
        found.append(row)
    return found


def unseen(project: Project, pairs: Dataset, seeds: int, limit: int, tune: bool) -> list[dict[str, Any]]:
    from volant.engines import open_model
    from volant.nets import neighbour, ngram

    assert all(split_of(name) == "test" for name in HELD_OUT)
    held = project.step("held").run(collect.python_packages, what="pairs", packages=list(HELD_OUT), max_chars=800)
    asked = sorted(rows(held, "test"), key=lambda s: s.id)[:limit]
    known = list(rows(pairs, "train"))
    rivals = {"nearest neighbour": neighbour.fit(known), "n-gram": ngram.fit(known)}
    values: dict[str, list[float]] = {}
    for name, session in rivals.items():
        values[name] = [similarity(o.text, s.target or "") for o, s in zip(answers(session, asked), asked, strict=True)]
    found = []
    for seed in range(seeds):
        model, _ = timed(project, "box", seed, pretrain.base, source=BOX)
        if tune:
            model, _ = timed(project, "tuned", seed, finetune.full, model, pairs, **example()[1])
        said = answers(open_model(model), asked)
        ours = [similarity(o.text, s.target or "") for o, s in zip(said, asked, strict=True)]
        row: dict[str, Any] = {"seed": seed, "n": len(asked), "relevance": sum(ours) / len(ours)}
        for name, theirs in values.items():
            compared = paired("relevance", theirs, ours)
            row[name] = {"relevance": sum(theirs) / len(theirs), "p": compared.p}
        shown = "; ".join(f"{name} {row[name]['relevance']:.3f}, p = {row[name]['p']:.2g}" for name in values)
        print(f"seed {seed}: {len(asked)} functions: {row['relevance']:.3f} ({shown})", flush=True)
        row["samples"] = [[s.condition, s.target, o.text] for s, o in list(zip(asked, said, strict=True))[:20]]
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--functions", type=int, default=200)
    parser.add_argument("--only", choices=("goal", "unseen"))
    parser.add_argument("--untuned", action="store_true", help="unseen: the base as it is in the box")
    parser.add_argument("--modules", type=int, help="unseen: of the library, to tune on; 0 are all")
    parser.add_argument("--folder", default="")
    parser.add_argument("--out", default="bench/base_in_box.json")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(asked.folder or scratch)
        (folder / "volant.yaml").write_text("volant: 1\nname: bench\ngoal: {problem: Docstrings}\nsteps: {}\n")
        project = Project(folder, threads=1, device="cpu")
        body: dict[str, Any] = {}
        if asked.only != "goal":
            functions_of = example()[0] | ({} if asked.modules is None else {"modules": asked.modules})
            library = project.step("task").run(collect.python_sources, **functions_of)
            taught = project.step("taught").run(collect.clean, library)
            body["unseen"] = unseen(project, taught, asked.seeds, asked.functions, not asked.untuned)
        if asked.only != "unseen":
            functions = project.step("functions").run(collect.python_sources, what="pairs", modules=40)
            pairs = project.step("pairs").run(collect.clean, functions)
            body["goal"] = goal(project, pairs, functions, asked.seeds, asked.functions)
    Path(asked.out).write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
