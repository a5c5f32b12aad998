"""Exact resume: every way to train, killed with SIGKILL at random steps and inside saves, ends with the same bytes.

    python bench/resume.py [--kills 20] [--only grpo,ppo] [--seed 0] [--device cuda] [--threads 2 --depth 4]
                           [--out bench/resume.json]

Each method first runs undisturbed, in a process of its own. Then runs of the same call are killed at up to ten places
drawn at random, each next process carries on in the same project, and the digest of the Model that comes of it is held
against the undisturbed one's. Of seven kills about two lie inside a save (before or after one of its syncs, or with
half of the tensors written) and one in the measuring after the training; the rest lie between the gradient and the
update of a step. Small networks of one layer, one thread; threads share work only where there is enough of it, so
`--depth 4` goes with `--threads 2`, and takes larger steps. `carried on` counts processes that began later than at the
first step: what had not saved yet begins anew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from volant.core.run import Run
from volant.core.sample import Label, Sample
from volant.nets import loop, state
from volant.project import Project

TINY = {"depth": 1, "tokens": 12_000, "vocab": 320, "context": 64, "batch_tokens": 256, "checkpoint_tokens": 2000}
LEARNT = {"epochs": 12.0, "limit": 4}
DRAWN = {"scorers": ["token_f1"], "steps": 24, "prompts": 4, "group_size": 4, "tokens": 8, "lr": 1e-3}
CALLS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "pretrain": ("pretrain.transformer", ("data",), {**TINY, "looks": 2}),
    "masked": ("pretrain.masked", ("data",), {**TINY, "looks": 2}),
    "full": ("finetune.full", ("model", "data"), {"steps": 40, "batch": 8}),
    "lora": ("finetune.lora", ("model", "data"), {"steps": 40, "batch": 8, "rank": 2}),
    "reward": ("align.reward", ("model", "pairs"), {"epochs": 16.0}),
    "dpo": ("align.dpo", ("model", "pairs"), LEARNT),
    "kto": ("align.kto", ("model", "pairs"), LEARNT),
    "orpo": ("align.orpo", ("model", "pairs"), LEARNT),
    "simpo": ("align.simpo", ("model", "pairs"), LEARNT),
    "grpo": ("align.grpo", ("model", "data"), DRAWN),
    "rloo": ("align.rloo", ("model", "data"), DRAWN),
    "ppo": (
        "align.ppo", ("model", "data"),
        {"scorers": ["token_f1"], "draws": 8, "prompts": 8, "updates": 3, "tokens": 8, "lr": 1e-3},
    ),
}  # fmt: skip
"""What is run, by the name in the table: the method, its inputs, its settings."""

IN_A_RUN = 10
PLACES = ("step",) * 4 + ("sync", "half", "measuring")


@dataclass(frozen=True)
class Size:
    """Of the networks and of the machine's share: layers, threads, device."""

    depth: int
    threads: int
    device: str

    def settings(self, given: dict[str, Any]) -> dict[str, Any]:
        """A call's settings for networks of this depth, with as much more to do in a step."""
        if "depth" not in given:
            return {**given, **{name: given[name] * self.depth for name in ("batch", "prompts") if name in given}}
        many = {name: given[name] * self.depth**2 for name in ("tokens", "batch_tokens", "checkpoint_tokens")}
        return {**given, **many, "depth": self.depth}


@dataclass
class Kill:
    """One kill to come: at which step at the earliest, and where."""

    step: int
    place: str  # one of PLACES

    def arm(self, after: int) -> None:
        """Change this process so that it dies there; `after` syncs of a save, or lines and scores, are let through."""
        gradients, syncs, written = loop._Training._gradients, state._sync, state.save_file
        finish, say, score = loop._Training._finish, Run.say, Run.score
        reached = {"step": -1, "syncs": 0, "told": -1}

        def through(training: Any, batch: Any) -> float:
            value = gradients(training, batch)
            reached["step"] = training.step
            if self.place == "step" and training.step >= self.step:
                die()
            return value

        def synced(path: Path) -> None:
            due = self.place == "sync" and reached["step"] >= self.step
            if due and reached["syncs"] == after:
                die()
            syncs(path)
            reached["syncs"] += due

        def half(tensors: Any, place: Path) -> None:
            written(tensors, place)
            if self.place == "half" and reached["step"] >= self.step:
                os.truncate(place, place.stat().st_size // 2)
                die()

        def finished(training: Any) -> Any:
            outcome = finish(training)
            reached["told"] = 0
            return outcome

        def told(tell: Any) -> Any:
            def heard(run: Run, what: Any) -> None:
                if self.place == "measuring" and reached["told"] >= 0:
                    if reached["told"] == after:
                        die()
                    reached["told"] += 1
                tell(run, what)

            return heard

        loop._Training._gradients = through  # type: ignore[method-assign]
        loop._Training._finish = finished  # type: ignore[method-assign]
        state._sync, state.save_file = synced, half
        Run.say, Run.score = told(say), told(score)  # type: ignore[method-assign]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def pairs_of(tasks: Sequence[Sample]) -> list[Sample]:
    """Each task's answer, chosen over one that says nothing."""
    label = [Label(name="preference", value="chosen", by="person:bench")]
    return [
        s.model_copy(update={"shape": "preference", "rejected": "Something else.", "labels": label, "id": f"{s.id}-p"})
        for s in tasks
    ]


def make(root: Path, size: Size, told: Path) -> None:
    """A project with tasks, pairs and a small base; their digests go to a file."""
    from volant.stages import align, finetune, pretrain  # noqa: F401  (all are loaded for the children)
    from volant.testing import worlds

    project = Project(root, device="cpu", threads=size.threads)
    tasks = worlds.tasks(60)
    data = worlds.dataset(project, tasks)
    model = project.step("base").run(pretrain.transformer, data, **size.settings(TINY))
    paired = worlds.dataset(project, [*pairs_of(tasks), *tasks])
    # The fork server loads what a call of each kind needs, so that its children need not.
    project.step("warm").run(align.dpo, model, paired, epochs=0.1, limit=4)
    found = {"data": data, "pairs": paired, "model": model}
    given: dict[str, Any] = {name: artifact.card.digest for name, artifact in found.items() if artifact.card}
    loaded = [m for m in sys.modules if m.split(".")[0] in ("volant", "transformers", "torch", "pyarrow", "sqlalchemy")]
    told.write_text(json.dumps({**given, "loaded": loaded}))


def work(root: Path, name: str, given: dict[str, Any], kill: Kill | None, after: int, size: Size, told: Path) -> None:
    """One process: the call, whole or until its kill. It leaves where it carried on, its steps and its digest."""
    from importlib import import_module

    from volant.core.method import method_of

    if kill:
        kill.arm(after)
    project = Project(root, device=size.device, threads=size.threads)
    method, inputs, settings = CALLS[name]
    stage, _, function = method.partition(".")
    resume, steps = loop._Training.resume, [0, 0]

    def watched(training: Any) -> None:
        resume(training)
        steps[:] = training.step, training.recipe.steps
        told.write_text(json.dumps({"from": steps[0], "steps": steps[1]}))

    loop._Training.resume = watched  # type: ignore[method-assign]
    arguments = {"data" if key == "pairs" else key: project.store.get(given[key]) for key in inputs}
    arguments |= size.settings(settings)
    done = project.call(name, method_of(getattr(import_module(f"volant.stages.{stage}"), function)), arguments)
    told.write_text(json.dumps({"from": steps[0], "steps": steps[1], "digest": done.artifact.digest}))


def child(children: Any, target: Any, *arguments: Any) -> int:
    """A process of its own; its exit status, negative for a signal."""
    process = children.Process(target=target, args=arguments)
    process.start()
    process.join()
    return int(process.exitcode)


def killed(children: Any, world: Path, folder: Path, name: str, kills: int, seed: int, size: Size) -> dict[str, Any]:
    """One method: what became of it undisturbed and killed."""
    told, rng = folder / "told.json", random.Random(f"{seed} {name}")
    given = json.loads((world / "given.json").read_text())
    row: dict[str, Any] = {"kills": 0, "in_saves": 0, "measuring": 0, "carried_on": 0, "runs": 0, "same": 0}

    def start(root: Path, kill: Kill | None) -> tuple[int, dict[str, Any]]:
        told.unlink(missing_ok=True)
        status = child(children, work, root, name, given, kill, rng.randrange(4), size, told)
        assert status in (0, -signal.SIGKILL), f"{name}: the process ended with {status}"
        said = json.loads(told.read_text()) if told.exists() and told.stat().st_size else {}
        row["carried_on"] += said.get("from", 0) > 0
        return status, said

    whole = shutil.copytree(world, folder / f"{name}-whole")
    _, undisturbed = start(whole, None)
    steps = undisturbed["steps"]
    while row["kills"] < kills:
        root = shutil.copytree(world, folder / f"{name}-{row['runs']}")
        wanted = min(IN_A_RUN, kills - row["kills"])
        drawn = [Kill(rng.randrange(steps), rng.choice(PLACES)) for _ in range(wanted)]
        for kill in sorted(drawn, key=lambda k: (k.place == "measuring", k.step)):
            status, _ = start(root, kill)
            row["kills"] += status != 0
            row["in_saves"] += status != 0 and kill.place in ("sync", "half")
            row["measuring"] += status != 0 and kill.place == "measuring"
            if not status:
                break  # the kill lay behind the last save: nothing is left to kill
        _, said = start(root, None)
        row["runs"] += 1
        row["same"] += said["digest"] == undisturbed["digest"]
        shutil.rmtree(root)
    shutil.rmtree(whole)
    return {"steps": steps, **row, "digest": undisturbed["digest"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20, help="of each method")
    parser.add_argument("--only", default="", help=f"some of {','.join(CALLS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--out", default="bench/resume.json")
    asked = parser.parse_args()
    size = Size(asked.depth, asked.threads, asked.device)
    names = asked.only.split(",") if asked.only else list(CALLS)
    children = get_context("forkserver")
    body: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        world = Path(scratch) / "world"
        world.mkdir()
        assert child(get_context("spawn"), make, world, size, world / "given.json") == 0
        children.set_forkserver_preload([*json.loads((world / "given.json").read_text())["loaded"], "peft"])
        print("| method | steps | kills | in saves | measuring | carried on | runs | same bytes |\n" + "|---" * 8 + "|")
        for name in names:
            row = body[name] = killed(children, world, Path(scratch), name, asked.kills, asked.seed, size)
            shown = ("steps", "kills", "in_saves", "measuring", "carried_on", "runs", "same")
            print(f"| {name} | {' | '.join(str(row[key]) for key in shown)} |", flush=True)
            Path(asked.out).write_text(json.dumps(body, indent=1) + "\n")
    wrong = [name for name, row in body.items() if row["same"] != row["runs"]]
    if wrong:
        raise SystemExit(f"not the same bytes: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
