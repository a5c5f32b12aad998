"""What a survey looks at: local models, past runs, the hub, the families, the techniques.

Enters: snapshots and the records' reader. Leaves: `Found` models and ranked `FamilyFit`s. Models are
judged by their files (`config.json`, licence in `README.md`) and never loaded. Families are found by
reading the sources of `volant.nets`, so that only those that are one get imported.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import pkgutil
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any, cast

from volant.core.errors import MissingPackage, RemoteError
from volant.core.outside import OutsideFile
from volant.core.run import RecordsReader
from volant.modalities import licence as licence_terms


@dataclass(frozen=True)
class Found:
    """A model that exists already.

    Attributes:
        where: `local folder`, `past run` or `hub`.
        licence: SPDX expression, or empty where none is stated.
        hindrance: why it cannot be used; empty where it can.
    """

    name: str
    where: str
    licence: str = ""
    parameters: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    hindrance: str = ""

    def as_json(self) -> dict[str, Any]:
        """The row of `plan.json`."""
        return asdict(self)


@dataclass(frozen=True)
class FamilyFit:
    """A family that accepts a space of the modality.

    Attributes:
        rank: 1 is the best fit; rivals (baselines of the modality) come last.
        missing: the package that it needs and that is not installed; empty where it runs.
    """

    rank: int
    name: str
    space: str
    baseline: bool
    cost: str
    missing: str = ""

    def as_json(self) -> dict[str, Any]:
        """The row of `plan.json`."""
        return asdict(self)


def local_models(files: Sequence[OutsideFile], use: str) -> list[Found]:
    """The transformers directories among the files: every folder with a `config.json`."""
    folders: dict[str, dict[str, OutsideFile]] = {}
    for file in files:
        folder, _, name = file.name.rpartition("/")
        folders.setdefault(folder, {})[name] = file
    found = []
    for folder, inside in sorted(folders.items()):
        if "config.json" not in inside:
            continue
        config = _json(inside["config.json"].path)
        card = inside["README.md"].path.read_text("utf-8", "replace") if "README.md" in inside else ""
        weights = sum(f.bytes for name, f in inside.items() if name.endswith(".safetensors"))
        width = 2 if "16" in str(config.get("dtype") or config.get("torch_dtype") or "") else 4
        licence = licence_terms.card_licence(card)
        hindrance = "no weights in safetensors" if not weights else licence_terms.hindrance(licence, use)
        if "auto_map" in config:
            hindrance = "it would run code of its own"
        name = folder or "the folder itself"
        found.append(Found(name, "local folder", licence, weights // width, hindrance=hindrance))
    return sorted(found, key=lambda f: (bool(f.hindrance), -f.parameters, f.name))


def past_models(records: RecordsReader | None, metrics: set[str]) -> list[Found]:
    """Models that finished runs of this project made, the best known first; durations are left out."""
    makers = ("pretrain.", "finetune.", "align.", "compress.")
    found = []
    for past in records.runs() if records is not None else ():
        method = str(past["method"])
        if past["status"] != "done" or not past.get("artifact") or not method.startswith(makers):
            continue
        if method in ("align.preferences", "align.reward"):
            continue
        scores = {}
        for score in past.get("scores") or ():
            row = score if isinstance(score, dict) else score.model_dump()
            if row["name"] in metrics and row.get("of", "model") == "model":
                scores[str(row["name"])] = float(row["value"])
        found.append(Found(f"{past['step']} {str(past['artifact'])[:12]}", "past run", scores=scores))
    unique = {f.name: f for f in found}
    return sorted(unique.values(), key=lambda f: (-len(f.scores), f.name))[:20]


def hub_models(words: str, modality: str, use: str, limit: int) -> list[Found]:
    """Models of the hub that match, by downloads.

    Raises:
        MissingPackage: `huggingface_hub` is not installed.
        RemoteError: the hub does not answer.
    """
    from volant.store.hub import hub_errors

    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingPackage("huggingface_hub is not installed.", where="online", fix="Install it.") from error
    task = {"text": "text-generation", "code": "text-generation", "image": "text-to-image", "music": "text-to-audio",
            "audio": "text-to-audio", "video": "text-to-video"}.get(modality)  # fmt: skip
    try:
        listed = list(HfApi().list_models(search=words or None, filter=task, sort="downloads", limit=limit))
    except hub_errors() as error:
        first = str(error).split("\n")[0]
        raise RemoteError(f"the hub does not answer: {first}", where="online", fix="Set online: false.") from error
    found = []
    for model in listed:
        tags = list(model.tags or [])
        licence = next((t.removeprefix("license:") for t in tags if t.startswith("license:")), "")
        hindrance = "no weights in safetensors" if "safetensors" not in tags else licence_terms.hindrance(licence, use)
        hindrance = "it asks for consent to its terms first" if getattr(model, "gated", False) else hindrance
        weights = getattr(model, "safetensors", None)
        found.append(Found(model.id, "hub", licence, int(getattr(weights, "total", 0) or 0), hindrance=hindrance))
    return sorted(found, key=lambda f: bool(f.hindrance))


def keywords(problem: str) -> str:
    """The three longest words of a problem, in their order, to search for."""
    words = re.findall(r"[A-Za-z]{4,}", problem)
    chosen = sorted(dict.fromkeys(words), key=lambda w: (-len(w), w))[:3]
    return " ".join(w for w in dict.fromkeys(words) if w in chosen)


def families(modality_name: str) -> list[FamilyFit]:
    """The families that accept a space of the modality, by fit; those that only understand, then rivals, come last."""
    from volant.modalities import open_modality

    modality = open_modality(modality_name)
    spaces = list(modality.spaces())
    rivals = {family for family, _ in modality.baselines().values()}
    fits: list[tuple[tuple[bool, int, bool, str], str, str, str]] = []
    for name in family_modules():
        accepts, encoder, missing = _accepts(name)
        fitting = [space for space in spaces if space in accepts]
        if fitting or missing:  # what cannot be imported may fit: it is shown with what it misses, after the rest
            place = spaces.index(fitting[0]) if fitting else len(spaces)
            fits.append(((name in rivals, place, encoder, name), name, fitting[0] if fitting else "", missing))
    # A rival that is fitted by counting has no family object; it takes the samples as they are.
    fits += [((True, len(spaces), False, name), name, "samples", "") for name in rivals - {fit[1] for fit in fits}]
    ranked = sorted(fits)
    return [
        FamilyFit(rank, name, space, name in rivals, _cost(name, name in rivals), missing)
        for rank, (_, name, space, missing) in enumerate(ranked, 1)
    ]


def family_modules() -> list[str]:
    """The modules of `volant.nets` that assign a `family`, read from their sources without importing them."""
    import volant.nets

    found = []
    for module in pkgutil.iter_modules(volant.nets.__path__):
        tree = ast.parse((Path(volant.nets.__path__[0]) / f"{module.name}.py").read_text("utf-8"))
        named = (t for node in tree.body for t in _targets(node))
        if "family" in named:
            found.append(module.name)
    return found


def techniques(modality: str) -> list[dict[str, str]]:
    """What the stages after this one can do, with the licence of what each is built on and published figures."""
    rows = [
        (
            "pretrain",
            "transformer from scratch",
            "transformers",
            "0.8 M weights, tiny Shakespeare: 1.77 nats a character in 61 CPU s (nanoGPT's setting: 1.90 in 140)",
        ),
        ("prompt", "in-context examples", "", "no training; grows with the size of the base"),
        ("finetune", "all weights", "torch", "the reference that adapters are compared with"),
        ("finetune", "low-rank adapters", "peft", "3.4 M weights, rank 12: the optimiser takes 1/26 of the memory"),
        ("align", "reward model, DPO", "", "needs pairs: some hundred at least"),
        ("compress", "8-bit weights", "ctranslate2", "decoding 1.7 to 2.1 times as fast as 32 bits, half the memory"),
        ("evaluate", "paired tests, bootstrap", "scikit-learn", ""),
    ]
    if modality not in ("text", "code"):
        rows = [row for row in rows if row[0] == "evaluate"]
    return [
        {"stage": stage, "name": name, "built_on": package or "Volant", "licence": package_licence(package or "volant"),
         "known": known}
        for stage, name, package, known in rows
    ]  # fmt: skip


def package_licence(package: str) -> str:
    """The licence that an installed package states of itself; empty where it is not installed or states none."""
    try:
        facts = cast(Message, importlib.metadata.metadata(package))
    except importlib.metadata.PackageNotFoundError:
        return ""
    stated = str(facts.get("License-Expression") or "")
    if not stated:
        marks = [
            str(c).rpartition(" :: ")[2] for c in facts.get_all("Classifier") or [] if str(c).startswith("License ::")
        ]
        stated = marks[0] if marks else str(facts.get("License") or "").split("\n")[0]
    return stated if len(stated) <= 48 else f"{stated[:48].rpartition(' AND ')[0] or stated[:48]} and more"


def _targets(node: ast.stmt) -> Iterable[str]:
    if isinstance(node, ast.Assign):
        return [t.id for t in node.targets if isinstance(t, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


def _accepts(name: str) -> tuple[tuple[str, ...], bool, str]:
    """What a family accepts; whether it only understands; the name of a package that it misses."""
    try:
        family = importlib.import_module(f"volant.nets.{name}").family
    except ImportError as error:
        return (), False, str(error.name or error)
    return tuple(family.accepts), bool(getattr(family, "encoder", False)), ""


def _cost(name: str, baseline: bool) -> str:
    if baseline:
        return "seconds"
    if name in ("transformer", "masked"):
        from volant.nets.transformer import size_of

        parameters = size_of(4).parameters(4096)
        return f"{6 * parameters / 1e6:,.0f} Mflop a token at {parameters / 1e6:.1f} M weights"
    return "not known"


def _json(path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
