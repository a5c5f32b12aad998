"""A tiny world in which every built-in method can be called: data, a small model, pairs, a judge, a report."""

from __future__ import annotations

import atexit
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import small_sources
import stand_in_service
import tiny_models
from small_content import Shelf
from volant.core.artifact import Dataset, Model, Prompt, Report
from volant.core.sample import Sample, sample_id
from volant.core.score import Score
from volant.project import Project
from volant.testing import put

LINES = [
    f'{{"prompt": "def f{i}(x):", "completion": "Return the number {i} and what it stands for."}}' for i in range(40)
]
FIGURES = {"relevance": 0.6, "bias_gap": 0.01, "safety": 1.0, "memorisation": 0.0}


@dataclass(frozen=True)
class World:
    """What is expensive, made once."""

    data: Dataset
    pairs: Dataset
    model: Model
    judge: Model
    prompt: Prompt
    report: Report
    content: Dataset
    shelf: Shelf


def samples() -> list[Sample]:
    """The tiny task with a test split, and a few plain texts."""
    splits = {"_file": "test", "_list": "validation"}
    pairs = [
        s.model_copy(update={"split": splits.get(s.id[-5:], "train"), "group": s.id[-5:]})
        for s in tiny_models.samples()
    ]
    texts = []
    for number in range(12):
        said = " ".join(s.target for s in pairs[number : number + 30 : 3])
        text = f"Note {number}: what the functions do. {said}"
        split = ("train", "validation")[number % 4 == 3]
        source = tiny_models.SOURCE
        known = {"group": text, "split": split, "source": source, "attrs": {"length": len(text)}}
        texts.append(Sample(id=sample_id(text), shape="text", content=text, **known))
    return [*pairs, *texts]


def make(folder: Path, shelf: Shelf) -> World:
    """Make the world in a project of its own."""
    from volant.engines.prompting import PromptFile
    from volant.stages import align, deliver

    project = Project(folder / "maker", device="cpu", threads=1)
    data = put(project, tiny_models.dataset(folder / "data", samples()))
    pairs = put(project, tiny_models.dataset(folder / "pairs", [*tiny_models.pairs(), *samples()]))
    model = put(project, tiny_models.model(folder, steps=30))
    (folder / "prompt").mkdir()
    examples = [{"prompt": s.condition, "completion": s.target} for s in samples()[-20:-18]]
    PromptFile.model_validate({"examples": examples, "k": 1, "budget_characters": 60}).save(folder / "prompt")
    (folder / "report").mkdir()
    scores = [Score(name=n, value=v, low=v, high=v, n=40).model_dump() for n, v in FIGURES.items()]
    body = {"kind": "suite", "scores": scores, "gates": [], "verdict": "ship"}
    (folder / "report" / "report.json").write_text(json.dumps(body))
    return World(
        data=data,
        pairs=pairs,
        model=model,
        judge=project.run(align.reward, model, pairs, epochs=1.0),
        prompt=put(project, Prompt(folder / "prompt")),
        report=put(project, Report(folder / "report")),
        shelf=shelf,
        content=project.run(deliver.generate, model, ask=["def sort_key(x):", "def load_row(x):"], max_tokens=12),
    )


def _lines(project: Project, name: str = "in.jsonl") -> str:
    (project.root / name).write_text("\n".join(LINES) + "\n")
    return name


def _words(project: Project) -> str:
    (project.root / "asked.txt").write_text("left\nright\n")
    return "asked.txt"


def _principles(project: Project) -> str:
    lines = ["principles:", "  - {name: like, says: It says what is asked., scorer: token_f1}"]
    (project.root / "rules.yaml").write_text("\n".join([*lines, "  - {name: kind, says: It is kind.}\n"]))
    return "rules.yaml"


def _voters(project: Project) -> dict[str, Any]:
    """Rules, a function and two people, of which one line each is enough."""
    from volant.store.labels import Judgement, append

    (project.root / "rules.yaml").write_text(
        "- {label: getter, words: [def, get, read]}\n- {label: other, words: [set]}\n"
    )
    (project.root / "votes.py").write_text("def short(sample): return 'other' if len(sample.text) < 30 else None\n")
    for who, value in (("ana", "getter"), ("ben", "other")):
        append(project.root / "labels.jsonl", Judgement(id="read_list", value=value, by=who, at="2026-11-24"))
    return {"rules": "rules.yaml", "functions": "votes.py", "people": "labels.jsonl"}


def _groups(project: Project) -> str:
    (project.root / "groups.txt").write_text("verb | getters | get, gets\nverb | setters | set, sets\n")
    return "groups.txt"


def _folder(project: Project, made: Any, name: str) -> str:
    import shutil

    ignored = shutil.ignore_patterns("artifact.json")
    shutil.copytree(made.path, project.root / name, ignore=ignored)
    return name


def _hub(project: Project) -> str:
    (project.root / "local").mkdir()
    _lines(project, "local/train.jsonl")
    return "local"


def _share(project: Project) -> str:
    (project.root / "share" / "deep").mkdir(parents=True)
    for number in range(4):
        (project.root / "share" / "deep" / f"{number}.jsonl").write_text("\n".join(LINES[number::4]))
    return "share"


def _repository(project: Project) -> dict[str, Any]:
    """A repository of a few documents, whose commit has the same name each time."""
    return {"repository": "repo", "commit": small_sources.repository(project.root / "repo")}


def _used(project: Project, *, ratings: bool = False) -> str:
    """Records of 24 requests with feedback, and of ratings."""
    for number, sample in enumerate(tiny_models.samples()[:24]):
        asked = {"messages": [{"role": "user", "content": sample.condition}]}
        reply = {"choices": [{"message": {"role": "assistant", "content": f"No {number}."}}]}
        request = project.records.add_request(
            "contract", f"client{number % 5}", asked, reply, model="m" * 64, status=200, milliseconds=1.0,
            consent="training", id=f"req{number}",
        )  # fmt: skip
        project.records.add_feedback(
            request, client=f"client{number % 5}", rating=-1, correction=sample.target, consent="training"
        )
        if ratings:
            project.records.add_rating(sample.condition, sample.target, "No.", "a", "ana")
    return "contract"


def _quoting(messages: list[dict[str, str]], seed: int) -> str:
    """Asks what a note's first words say, and answers with them."""
    first = messages[-1]["content"].split("passage:")[1].split(".")[0].split()
    question = f"What is told of {max(first, key=len)}, number {seed}?"
    return json.dumps({"question": question, "answer": " ".join(first[:3])})


_SERVICES: list[stand_in_service.StandIn] = []


def _reader(project: Project) -> Model:
    """A hosted model: a stand-in, one for all worlds, so that its address is the same."""
    if not _SERVICES:
        opened = stand_in_service.serving(_quoting)
        _SERVICES.append(opened.__enter__())
        atexit.register(opened.__exit__, None, None, None)
    return stand_in_service.hosted(project.root / "hosted", _SERVICES[0].url)


def _goal(project: Project, modality: str) -> Project:
    """A project of another modality than text, whose metric needs no judge."""
    metric, baseline = {"image": ("sharpness", "gaussian"), "table": ("marginals", "cart")}[modality]
    goal = f"goal: {{problem: A test, modality: {modality}, metric: {metric}, baseline: {baseline}}}"
    (project.root / "volant.yaml").write_text(f"volant: 1\nname: contract\n{goal}\nsteps: {{}}\n")
    return project


def _images(project: Project) -> Project:
    return _goal(project, "image")


def _tables(project: Project) -> Project:
    return _goal(project, "table")


Builder = Callable[[Project, World], dict[str, Any]]

TABLE: dict[str, Builder] = {
    "plan.brief": lambda p, w: {"problem": "Write docstrings", "accept": {"relevance": ">= 0.5"}},
    "plan.sizing": lambda p, w: {"past": _used(p)},
    "plan.survey": lambda p, w: {"models": _folder(p, w.model, "models/tiny").split("/")[0]},
    "collect.files": lambda p, w: {"glob": _lines(p), "licence": "MIT"},
    "collect.bucket": lambda p, w: {"address": _share(p), "licence": "MIT"},
    "collect.candidates": lambda p, w: {
        "folder": _share(p), "data": put(p, w.data), "query": "docstrings of functions", "sample": 20,
    },
    "collect.git": lambda p, w: _repository(p),
    "collect.hub": lambda p, w: {"dataset": _hub(p), "licence": "MIT"},
    "collect.python_packages": lambda p, w: {"what": "pairs", "packages": ["packaging", "uvicorn", "httpx", "click"]},
    "collect.python_sources": lambda p, w: {"what": "pairs", "modules": 12},
    "collect.clean": lambda p, w: {"data": put(p, w.data), "more": [put(p, w.content)]},
    "collect.alike": lambda p, w: {"data": put(p, w.data), "embedder": put(p, w.model), "threshold": 0.9},
    "collect.balance": lambda p, w: {
        "data": put(_tables(p), w.shelf.people), "label": "rich", "protected": ["sex", "age"],
    },
    "collect.distinct": lambda p, w: {
        "data": put(_tables(p), w.shelf.people), "differ": 1, "tolerance": 0.02, "ignore": [],
    },
    "collect.mix": lambda p, w: {
        "data": [put(p, w.data), put(p, w.pairs)], "by": "shape", "temperature": 2.0, "quality": "attrs.length",
    },
    "collect.screen": lambda p, w: {"data": put(p, w.data), "lists": _words(p), "languages": ["en"], "sure": 0.0},
    "collect.sql": lambda p, w: {
        "query": "SELECT id, question AS prompt, answer AS completion FROM asked", "key": ["id"], "licence": "MIT",
        "file": small_sources.database(p.root / "asked.db"),
    },
    "collect.label": lambda p, w: {
        "data": put(p, w.data), **_voters(p), "labeller": put(p, w.model), "classes": ["getter", "other"],
    },
    "collect.questions": lambda p, w: {
        "model": put(p, _reader(p)), "data": put(p, w.data), "count": 8, "words": 30, "licence": "LicenseRef-stand-in",
    },
    "collect.synthesize": lambda p, w: {
        "model": put(p, w.model), "data": put(p, w.data), "how": "answers", "count": 12, "draws": 2, "agree": 0.5,
        "max_tokens": 8, "temperature": 1.3, "filters": {"word_count": ">= 0"},
    },
    "collect.suspects": lambda p, w: {"data": put(_images(p), w.shelf.pictures), "name": "class", "folds": 2},
    "collect.unseen": lambda p, w: {"data": put(p, w.pairs), "earlier": put(p, w.data)},
    "collect.split": lambda p, w: {"data": put(p, w.data), "earlier": put(p, w.data)},
    "pretrain.base": lambda p, w: {"source": _folder(p, w.model, "tiny")},
    "pretrain.masked": lambda p, w: {
        "data": put(p, w.data), "depth": 1, "tokens": 4000, "vocab": 320, "context": 64, "batch_tokens": 256,
        "checkpoint_tokens": 1000, "looks": 2,
    },
    "pretrain.transformer": lambda p, w: {
        "data": put(p, w.data), "depth": 1, "tokens": 4000, "vocab": 320, "context": 64, "batch_tokens": 256,
        "checkpoint_tokens": 1000, "looks": 2,
    },
    "pretrain.fit": lambda p, w: {
        "data": put(_images(p), w.shelf.pictures), "family": "vae", "size": {"z": 3, "width": 8}, "steps": 6,
        "batch": 8,
    },
    "pretrain.judge": lambda p, w: {"data": put(_images(p), w.shelf.pictures), "steps": 6, "batch": 8},
    "prompt.controls": lambda p, w: {
        "model": put(_tables(p), w.shelf.tree), "data": put(p, w.shelf.people), "candidates": {"smooth": [0.0, 1.0]},
        "limit": 10, "metric": "marginals",
    },
    "prompt.few_shot": lambda p, w: {
        "model": put(p, w.model), "data": put(p, w.data), "examples": 1, "limit": 4, "pool": 8,
    },
    "finetune.full": lambda p, w: {"model": put(p, w.model), "data": put(p, w.data), "steps": 6, "batch": 8},
    "finetune.qlora": lambda p, w: {
        "model": put(p, w.model), "data": put(p, w.data), "steps": 6, "batch": 8, "rank": 2,
    },
    "finetune.lora": lambda p, w: {
        "model": put(p, w.model), "data": put(p, w.data), "steps": 6, "batch": 8, "rank": 2,
    },
    "align.preferences": lambda p, w: {
        "model": put(p, w.model), "data": put(p, w.data), "ratings": _used(p, ratings=True) and "*",
        "prompts": 6, "answers": 2, "max_tokens": 8, "margin": 0.0,
    },
    "align.constitution": lambda p, w: {
        "model": put(p, w.model), "data": put(p, w.data), "principles": _principles(p), "critic": put(p, w.model),
        "ratings": _used(p, ratings=True) and "*", "prompts": 12, "answers": 3, "max_tokens": 8, "margin": 0.0,
    },
    "align.reward": lambda p, w: {"model": put(p, w.model), "data": put(p, w.pairs), "epochs": 1.0},
    "align.reward_weighted": lambda p, w: {
        "model": put(_images(p), w.shelf.vae), "data": put(p, w.shelf.pictures), "scorers": ["nearest_ratio"],
        "samples": 24, "steps": 4, "batch": 8,
    },
    "align.grpo": lambda p, w: {
        "model": put(p, w.model), "data": put(p, w.data), "scorers": ["token_f1"], "steps": 3, "prompts": 2,
        "group_size": 2, "tokens": 4,
    },
    "align.rloo": lambda p, w: {
        "model": put(p, w.model), "data": put(p, w.data), "scorers": ["token_f1"], "steps": 3, "prompts": 2,
        "group_size": 2, "tokens": 4,
    },
    "align.ppo": lambda p, w: {
        "model": put(p, w.model), "data": put(p, w.data), "scorers": ["token_f1"], "draws": 2, "prompts": 3,
        "updates": 2, "tokens": 4,
    },
    "align.dpo": lambda p, w: {"model": put(p, w.model), "data": put(p, w.pairs), "epochs": 0.5, "limit": 4},
    "align.simpo": lambda p, w: {"model": put(p, w.model), "data": put(p, w.pairs), "epochs": 0.5, "limit": 4},
    "align.orpo": lambda p, w: {"model": put(p, w.model), "data": put(p, w.pairs), "epochs": 0.5, "limit": 4},
    "align.kto": lambda p, w: {"model": put(p, w.model), "data": put(p, w.pairs), "epochs": 0.5, "limit": 4},
    "evaluate.suite": lambda p, w: {
        "model": put(p, w.model), "data": put(p, w.data), "limit": 4, "max_tokens": 8, "bias_pairs": 2,
    },
    "evaluate.compare": lambda p, w: {
        "model": put(p, w.model), "data": put(p, w.data), "champion": put(p, w.model), "limit": 4, "max_tokens": 8,
        "bias_pairs": 2,
    },
    "compress.quantise": lambda p, w: {"model": put(p, w.model), "data": put(p, w.data), "loss": 0.5, "limit": 4},
    "compress.distil": lambda p, w: {
        "model": put(_images(p), w.shelf.flow), "data": put(p, w.shelf.pictures), "steps": 2, "teacher_steps": 4,
        "samples": 20, "train_steps": 4, "batch": 8, "metric": "sharpness", "limit": 8, "loss": 10.0,
    },
    "compress.onnx": lambda p, w: {
        "model": put(_images(p), w.shelf.vae), "data": put(p, w.shelf.pictures), "limit": 4,
    },
    "deploy.serve": lambda p, w: {
        "model": put(p, w.model), "report": put(p, w.report), "prompt": put(p, w.prompt), "data": put(p, w.data),
        "requests": 2, "tokens": 4,
    },
    "deploy.container": lambda p, w: {"model": put(p, w.model), "report": put(p, w.report)},
    "deliver.generate": lambda p, w: {
        "model": put(p, w.model), "prompt": put(p, w.prompt), "prompts": _lines(p, "ask.jsonl"), "ask": ["def x(y):"],
        "temperature": 0.7, "max_tokens": 6, "safety": False,
    },
    "deliver.content": lambda p, w: {
        "model": put(_images(p), w.shelf.vae), "prompts": _words(p), "ask": ["right"], "count": 2,
    },
    "deliver.publish": lambda p, w: {"data": put(p, w.content)},
    "improve.harvest": lambda p, w: {"feedback": _used(p)},
    "improve.drift": lambda p, w: {"data": put(p, w.data), "workload": _used(p), "permutations": 99},
    "improve.review": lambda p, w: {
        "model": put(p, w.model), "report": put(p, w.report), "data": [put(p, w.data)], "reviewer": "Ada",
    },
}  # fmt: skip
"""A method's name to what makes its arguments in a fresh project."""

OF_CONTENT: dict[str, Builder] = {
    "collect.balance": lambda p, w: {"data": put(p, w.data), "terms": _groups(p)},
    "collect.clean": lambda p, w: {"data": put(_images(p), w.shelf.pictures), "near": 1.0},
    "pretrain.fit": lambda p, w: {"data": put(_tables(p), w.shelf.people), "size": {"leaf": 5}},
    "finetune.full": lambda p, w: {"model": put(_tables(p), w.shelf.tree), "data": put(p, w.shelf.people)},
    "finetune.lora": lambda p, w: {
        "model": put(_images(p), w.shelf.vae), "data": put(p, w.shelf.pictures), "steps": 4, "batch": 8, "rank": 2,
        "replay": 0.2,
    },
    "align.preferences": lambda p, w: {
        "model": put(_images(p), w.shelf.vae), "data": put(p, w.shelf.pictures), "prompts": 12, "answers": 2,
        "ratings": _used(p, ratings=True) and "*", "margin": 0.0,
    },
    "align.dpo": lambda p, w: {
        "model": put(_images(p), w.shelf.vae), "data": put(p, w.shelf.pairs), "epochs": 1.0, "rows": 4,
    },
    "evaluate.suite": lambda p, w: {
        "model": put(_tables(p), w.shelf.tree), "data": put(p, w.shelf.people), "scorers": ["marginals"], "limit": 10,
    },
    "evaluate.compare": lambda p, w: {
        "model": put(_images(p), w.shelf.vae), "data": put(p, w.shelf.pictures), "champion": put(p, w.shelf.vae),
        "judge": put(p, w.shelf.judge), "metric": "sharpness", "limit": 8,
    },
    "compress.quantise": lambda p, w: {
        "model": put(_images(p), w.shelf.vae), "data": put(p, w.shelf.pictures), "metric": "sharpness", "limit": 8,
        "loss": 1.0,
    },
    "deliver.publish": lambda p, w: {"data": put(_images(p), w.shelf.pictures)},
}  # fmt: skip
"""The same for methods of the table above, with pictures or rows where they have been given text."""
