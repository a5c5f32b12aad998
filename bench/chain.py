"""The chain of alignment on the docstrings: base, tuned, reward model, DPO, GRPO and PPO, constitution.

    python bench/chain.py [--seeds 0 1 2] [--prompts 400] [--folder DIR [--again STEP ...]]
                          [--out bench/chain.json]

It starts from the base in the box. Each step is measured on functions of the test modules, which no step was trained on
and none chose its weights by: tuning by bits a byte of the authors' first lines; the reward model by pairs of drawn
answers that it orders as the scorers do (against chance); DPO and GRPO by those scorers, which have relevance among
them; PPO, which is paid by the reward model and relevance, by the reward model; the constitution by its principles.
Tuning starts from the base, DPO, GRPO and PPO each from the tuned model, the constitution from DPO's. Beside each stand
relevance, the task metric (`worse` where a paired test says so: a reward that was hacked), characters an answer, and
nats from the start. Answers are greedy. A folder that is gone on with makes only what its settings leave to be made;
where code has changed and no setting, `--again judged` names the steps to make anew. Paired permutation tests;
processor seconds with children counted, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from volant.core.artifact import Dataset, Model
from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.project import Project
from volant.scorers import build
from volant.scorers.compare import Comparison, paired
from volant.scorers.measure import answers, bits_per_byte, request_of
from volant.scorers.texts import similarity
from volant.stages import align, collect, finetune, pretrain
from volant.store.dataset import rows

TOKENS, HEAT = 24, 0.5
WORDS = {"least": 6, "most": 12}
STOP, ONCE = "docstring_rules:full_stop", "docstring_rules:unrepeated"
TASTE: dict[str, dict[str, Any]] = {"relevance": {}, "word_count": WORDS}  # what ranks, and what GRPO is paid for
PRINCIPLES = f"""\
principles:
  - {{name: apt, says: The line says what the author says of the function., scorer: relevance}}
  - {{name: short, says: The line has six to twelve words., scorer: word_count, settings: {{least: 6, most: 12}}}}
  - {{name: closed, says: The line is one sentence and ends with a full stop., scorer: "{STOP}"}}
  - {{name: fresh, says: The line says no word twice., scorer: "{ONCE}"}}
"""
HEAD = "| seed | step | own metric | p | relevance | characters | nats | CPU s |\n" + "|---" * 8 + "|"


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass
class Stand:
    """What a model says to the exam's prompts, and what the authors' lines cost it."""

    outputs: list[Output]
    bits: list[float]


class Chain:
    """One seed's steps in a project, and what is measured of each."""

    def __init__(self, project: Project, exam: list[Sample], seed: int, again: Sequence[str]) -> None:
        self.project, self.exam, self.seed, self.again = project, exam, seed, again
        self.rows: list[dict[str, Any]] = []

    def run(self, step: str, method: Any, *inputs: Any, **settings: Any) -> tuple[Any, float]:
        """The step's artifact, and the processor seconds that it took."""
        start = cpu_seconds()
        made = self.project.step(step, seed=self.seed, refresh=step in self.again).run(method, *inputs, **settings)
        return made, cpu_seconds() - start

    def stand(self, model: Model, bits: bool = False) -> Stand:
        """Measured once a model: a project that is used again remembers."""
        assert model.card is not None
        kept = self.project.root / f"{model.card.digest[:16]}-{self.exam[0].split}-{len(self.exam)}.json"
        if not kept.exists():
            session = opened(model)
            said = [o.text for o in answers(session, self.exam, max_tokens=TOKENS)]
            kept.write_text(json.dumps([said, bits_per_byte(session, self.exam) if bits else []]))
        said, cost = json.loads(kept.read_text())
        return Stand([Output(text) for text in said], cost)

    def state(self, step: str, own: Comparison, seconds: float, made: Any, stands: Sequence[Stand]) -> None:
        """One row of the table: the step's own metric, and what must not suffer."""
        row = {"seed": self.seed, "step": step, "own": own.as_json(), "cpu_seconds": seconds}
        row["scores"] = {f"{s.name}@{s.of}": [s.value, s.low, s.high, s.n] for s in made.card.scores}
        relevance = length = None
        if stands:
            told = [[similarity(o.text, s.target or "") for o, s in zip(x.outputs, self.exam, strict=True)]
                    for x in stands]  # fmt: skip
            relevance = paired("relevance", *told, seed=self.seed)
            sizes = [[float(len(o.text)) for o in x.outputs] for x in stands]
            length = paired("characters", *sizes, direction="lower", seed=self.seed)
            row |= {"relevance": relevance.as_json(), "length": length.as_json()}
            row["samples"] = [o.text for o in stands[1].outputs[:10]]
        self.rows.append(row)
        far = row["scores"].get("logratio@model")
        shown = f"{relevance.before:.3f} -> {relevance.after:.3f}, {relevance.verdict}" if relevance else "-"
        shown += f" (p = {relevance.p:.2g})" if relevance else ""
        longer = f"{length.before:.0f} -> {length.after:.0f}" if length else "-"
        print(
            f"| {self.seed} | {step} | {own.name} {own.before:.3f} -> {own.after:.3f} {own.verdict} | "
            f"{own.p:.2g} (n = {own.n}) | {shown} | {longer} | "
            f"{f'{far[0]:.2f}' if far else '-'} | {seconds:.0f} |", flush=True,
        )  # fmt: skip


def opened(model: Model) -> Any:
    """A session with room for many short answers at once."""
    from volant.engines.torch import TorchSession
    from volant.modalities import open_modality
    from volant.nets.transformer import family

    return TorchSession(family.load(model.path), open_modality("text").open_codec(model.path), slots=64)


def values(outputs: Sequence[Output], samples: Sequence[Sample], scorers: dict[str, Any]) -> list[float]:
    """The mean of the scorers, an output each."""
    told = [scorer.values(outputs, samples) for scorer in build(scorers).values()]
    return [sum(column) / len(column) for column in zip(*told, strict=True)]


def drawn_pairs(model: Model, exam: Sequence[Sample], seed: int, draws: int, margin: float) -> list[Sample]:
    """Pairs as `align.preferences` makes them, of prompts that it never sees."""
    asked = {
        f"{n}/{turn}": (sample, replace(
            request_of(sample, max_tokens=TOKENS, id=f"{n}/{turn}"), temperature=HEAT if turn else 0.0,
            seed=(seed * 1009 + n) * 64 + turn,
        )) for n, sample in enumerate(exam) for turn in range(draws)
    }  # fmt: skip
    texts = dict.fromkeys(asked, "")
    for chunk in opened(model).generate([request for _, request in asked.values()]):
        texts[chunk.id] += chunk.text
    outputs = [Output(texts[id]) for id in asked]
    ranked = values(outputs, [sample for sample, _ in asked.values()], TASTE)
    found = []
    for n, sample in enumerate(exam):
        own = sorted(range(n * draws, (n + 1) * draws), key=ranked.__getitem__)
        worst, best = outputs[own[0]].text, outputs[own[-1]].text
        if ranked[own[-1]] - ranked[own[0]] >= margin and best.strip() and worst.strip():
            found.append(sample.model_copy(update={"shape": "preference", "target": best, "rejected": worst}))
    return found


def rewards(judge: Model, samples: Sequence[Sample], texts: Sequence[str]) -> list[float]:
    """The reward model's number for each answer."""
    import torch

    from volant.modalities import open_modality
    from volant.nets import judge as judges
    from volant.nets.answers import answer_rewards
    from volant.nets.batches import Padded, fit

    net, codec = judges.load(judge.path), open_modality("text").open_codec(judge.path)
    found: list[float] = []
    for start in range(0, len(texts), 32):
        part = [
            fit(codec.encode(s.model_copy(update={"shape": "completion", "target": t or " ", "rejected": None})), 512)
            for s, t in zip(samples[start : start + 32], texts[start : start + 32], strict=True)
        ]
        batch = Padded(part, length=512, rows=len(part), seed=0, pad=codec.pad_id).collate(part)
        with torch.inference_mode():
            found += answer_rewards(net, batch).tolist()
    return found


def one(project: Project, pairs: Dataset, exam: list[Sample], asked: argparse.Namespace, seed: int) -> list[Any]:
    """All steps of a seed."""
    chain = Chain(project, exam, seed, asked.again)
    base, _ = chain.run("base", pretrain.base, source="volant/docstrings")
    tuned, seconds = chain.run("tuned", finetune.full, base, pairs, steps=asked.tuning, lr=0.0004, context=256)
    first, second = chain.stand(base, bits=True), chain.stand(tuned, bits=True)
    own = paired("bits_per_byte", first.bits, second.bits, direction="lower", seed=seed)
    chain.state("tuned", own, seconds, tuned, (first, second))

    choices, drawing = chain.run(
        "choices", align.preferences, tuned, pairs, scorers=TASTE, prompts=asked.prompts, max_tokens=TOKENS,
        margin=asked.margin, likeliest=True, temperature=HEAT,
    )  # fmt: skip
    judge, seconds = chain.run("taste", align.reward, tuned, choices, epochs=asked.reward_epochs, rows=16)
    held = drawn_pairs(tuned, exam, seed, 4, asked.margin)
    sides = [rewards(judge, held, [str(getattr(s, side)) for s in held]) for side in ("target", "rejected")]
    right = [float(a > b) for a, b in zip(*sides, strict=True)]
    chain.state("reward", paired("accuracy", [0.5] * len(right), right, seed=seed), seconds + drawing, judge, ())
    chain.rows[-1]["longer"] = sum(len(s.target or "") > len(s.rejected or "") for s in held) / len(held)

    def follow(
        step: str, method: Any, before: Stand, figure: Any, *inputs: Any, extra: float = 0.0, **settings: Any
    ) -> tuple[Any, Stand]:
        made, seconds = chain.run(step, method, *inputs, **settings)
        stand = chain.stand(made)
        own = paired(figure[0], *(figure[1](x.outputs) for x in (before, stand)), seed=seed)
        chain.state(step, own, seconds + extra, made, (before, stand))
        return made, stand

    taste = ("taste", lambda outputs: values(outputs, exam, TASTE))
    kept = ("principles", lambda outputs: values(outputs, exam, {**TASTE, ONCE: {}, STOP: {}}))
    earned = ("reward", lambda outputs: rewards(judge, exam, [o.text for o in outputs]))
    by_pairs = {"epochs": asked.dpo_epochs, "rows": 16, "lr": asked.rate}
    draws = {"tokens": TOKENS, "temperature": HEAT}
    dpo, third = follow("dpo", align.dpo, second, taste, tuned, choices, **by_pairs)
    follow(
        "grpo", align.grpo, second, taste, tuned, pairs, scorers=TASTE, steps=asked.steps, lr=asked.grpo_rate, **draws
    )
    follow(
        "ppo", align.ppo, second, earned, tuned, pairs, reward=judge, scorers=["relevance"], draws=asked.draws,
        lr=asked.ppo_rate, **draws,
    )  # fmt: skip
    (project.root / "principles.yaml").write_text(PRINCIPLES)
    judged, drawing = chain.run(
        "judged", align.constitution, dpo, pairs, principles="principles.yaml", prompts=asked.judged,
        max_tokens=TOKENS, temperature=HEAT,
    )  # fmt: skip
    follow("constitution", align.dpo, third, kept, dpo, judged, extra=drawing, **by_pairs | {"lr": asked.judged_rate})
    return chain.rows


def empty_project(folder: Path, name: str, problem: str) -> Project:
    """A project without steps; one that is there is gone on with."""
    folder.mkdir(exist_ok=True)
    goal = f"goal: {{problem: {problem}, metric: relevance}}"
    (folder / "volant.yaml").write_text(f"volant: 1\nname: {name}\n{goal}\nsteps: {{}}\n")
    return Project(folder, threads=1, device="cpu")


def each_seed(asked: argparse.Namespace, steps_of: Callable[[int], list[Any]]) -> None:
    """Make the steps of each seed; what was found is in `asked.out` after each."""
    body: list[Any] = []
    for seed in asked.seeds:
        start, spent = time.monotonic(), cpu_seconds()
        found = steps_of(seed)
        took = {"wall_seconds": time.monotonic() - start, "cpu_seconds": cpu_seconds() - spent}
        print(f"seed {seed}: {took['wall_seconds']:.0f} s, {took['cpu_seconds']:.0f} processor seconds", flush=True)
        body.append({"seed": seed, **took, "steps": found})
        Path(asked.out).write_text(json.dumps(body, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tuning", type=int, default=120, help="steps of tuning")
    parser.add_argument(
        "--prompts", type=int, default=400, help="asked for pairs, a quarter of them to choose weights by"
    )
    parser.add_argument("--judged", type=int, default=1000, help="prompts that the constitution judges answers to")
    parser.add_argument("--margin", type=float, default=0.05, help="between the two answers of a pair")
    parser.add_argument("--reward-epochs", type=float, default=2.0)
    parser.add_argument("--dpo-epochs", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=16, help="of GRPO")
    parser.add_argument("--draws", type=int, default=5, help="of PPO")
    parser.add_argument("--every", type=int, default=1, help="only each n-th function of the exam")
    parser.add_argument("--rate", type=float, default=7e-5, help="of DPO")
    parser.add_argument("--judged-rate", type=float, default=5e-5, help="of DPO on the constitution's pairs")
    parser.add_argument("--grpo-rate", type=float, default=1.2e-4)
    parser.add_argument("--ppo-rate", type=float, default=1e-5)
    parser.add_argument("--on", default="test", help="split of the exam; settings are chosen on `validation`")
    parser.add_argument("--folder", default="")
    parser.add_argument("--again", nargs="+", default=[], help="steps that are made anew in a folder that holds them")
    parser.add_argument("--out", default="bench/chain.json")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        project = empty_project(Path(asked.folder or scratch), "chain", "Docstrings")
        functions = project.step("functions").run(collect.python_sources, what="pairs", modules=260, max_chars=700)
        pairs = project.step("pairs").run(collect.clean, functions)
        exam = list(rows(pairs, asked.on))[:: asked.every]
        print(HEAD)
        each_seed(asked, lambda seed: one(project, pairs, exam, asked, seed))


if __name__ == "__main__":
    main()
