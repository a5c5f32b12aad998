"""A dataset with all that is known of it, ready to be put somewhere: shards, card, Croissant, manifest.

Enters: a dataset, its lineage, the goal and what its records say. Leaves: `Facts` (`store/datacard.py`), and a folder
that `datasets.load_dataset` opens. What was dropped is counted there and not published: it was dropped for a reason.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from volant.core.artifact import Card, Dataset
from volant.core.errors import DataError
from volant.core.sample import Source
from volant.project.rebuilding import cards_of, manifest
from volant.store.croissant import CONFORMS, CONFORMS_RAI, croissant
from volant.store.datacard import Facts, Stage, long_card, rai
from volant.store.dataset import columns

if TYPE_CHECKING:
    import pyarrow as pa

    from volant.project.project import Project


def facts_of(project: Project, data: Dataset) -> Facts:
    """What is known of a stored dataset."""
    cards = cards_of(project, data.digest)
    last = cards[-1]
    name = f"{project.spec.name if project.spec else project.root.name}-{last.step or data.digest[:12]}"
    facts = Facts(name=name, digest=data.digest, about=data.about, goal=project.goal)
    facts.way = [_stage(project, card) for card in cards if card.kind == "Dataset"]
    facts.forgotten = int(data.about["dropped_by_rule"].get("forgotten", 0))
    for file in sorted((data.path / "data").glob("*.parquet")):
        with pq.ParquetFile(file) as shard:
            for batch in shard.iter_batches(16_384, columns=["source", "labels", "attrs", *_TEXTS]):
                _count(facts, batch)
    return facts


_TEXTS = ("content", "condition", "target", "rejected")


def _stage(project: Project, card: Card) -> Stage:
    data = project.store.get(card.digest)
    assert isinstance(data, Dataset)
    about = data.about
    gathered = not any(project.store.get(d).kind == "Dataset" for all_ in card.parents.values() for d in all_)
    kept, scores = sum(about["splits"].values()), list(card.scores)
    method = card.method or "put in from outside"
    return Stage(card.step, method, card.settings, gathered, kept, about["dropped_by_rule"], scores)


def _count(facts: Facts, batch: pa.RecordBatch) -> None:
    for text in _TEXTS:
        facts.characters += int(pc.sum(pc.utf8_length(batch[text])).as_py() or 0)
    source = batch["source"]
    parts = [
        pc.struct_field(source, name).to_pylist() for name in ("uri", "licence", "consent", "origin", "collected_at")
    ]
    for uri, licence, consent, origin, day in zip(*parts, strict=True):
        place = (Source(uri=uri, licence=licence).place, licence, consent, origin)
        facts.places[place] += 1
        if day:
            first, last = facts.days.get(place, (day, day))
            facts.days[place] = min(first, day), max(last, day)
    for labels in batch["labels"].to_pylist():
        if labels:
            facts.per_item[len(labels)] += 1
        for label in labels:
            facts.labels.setdefault(label["name"], Counter())[label["by"]] += 1
    for attrs in batch["attrs"].to_pylist():
        if '"masked"' in attrs:
            facts.masked.update(json.loads(attrs)["masked"])


def croissant_of(project: Project, data: Dataset, facts: Facts) -> dict[str, Any]:
    """The Croissant document of a published dataset, with its provenance and the RAI fields."""
    card = project.store.get(data.digest).card
    assert card is not None, "a stored artifact has its card"
    parents = sorted({digest for digests in card.parents.values() for digest in digests})
    more: dict[str, Any] = {"name": facts.name, "version": facts.digest[:16], "conformsTo": [CONFORMS, CONFORMS_RAI]}
    more |= rai(facts)
    if facts.goal.problem:
        counts = ", ".join(f"{count:,} {split}" for split, count in facts.about["splits"].items() if count)
        more["description"] = f"Records of modality {facts.about['modality']} for: {facts.goal.problem} ({counts})."
    if card.created_at:
        more["dateCreated"] = card.created_at
    if parents:
        more["prov:wasDerivedFrom"] = [{"@id": f"urn:sha256:{digest}"} for digest in parents]
    if card.method:
        more["prov:wasGeneratedBy"] = {"@type": "prov:Activity", "prov:label": str(facts.way[-1])}
    return croissant(facts.about, columns(), data.path, more)


def publish(project: Project, data: Dataset, out: Path) -> list[str]:
    """Write a folder with shards, README.md, croissant.json and manifest.json; returns the names of its files.

    Raises:
        DataError: the folder is there and not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise DataError("the folder is not empty.", where=str(out), fix="Name one that is not there yet.")
    facts = facts_of(project, data)
    (out / "data").mkdir(parents=True, exist_ok=True)
    for file in sorted((data.path / "data").glob("*.parquet")):
        shutil.copyfile(file, out / "data" / file.name)
    (out / "README.md").write_text(long_card(facts), encoding="utf-8")
    for name, body in (
        ("croissant.json", croissant_of(project, data, facts)), ("manifest.json", manifest(project, data.digest)),
    ):  # fmt: skip
        (out / name).write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return sorted(file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file())
