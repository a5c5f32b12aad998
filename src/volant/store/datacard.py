"""What a dataset says of itself: the card for people and the RAI fields for machines, from one set of facts.

Enters: `dataset.json`, and for a published card what its lineage, its goal and its records say (`Facts`). Leaves:
a README.md in the Hugging Face format, and the properties of Croissant RAI 1.0. Nothing is put in that is not known:
a field of which nothing is known is left out. The card inside a dataset is the short one, because a payload
holds nothing but what its records say; the long one is written where it is published (`volant card`).

Names and meanings of the fields: https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html (1.0).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from volant.core.sample import SPLITS
from volant.core.score import Score
from volant.core.spec import Goal

SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
HUB_LICENCES = {
    "apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-3.0", "cc-by-sa-3.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "bsd-3-clause", "bsd-2-clause", "gpl-3.0", "gpl-2.0", "lgpl-3.0", "mpl-2.0", "unlicense",
}  # fmt: skip
"""Licences that the hub has a word for, as SPDX names in small letters."""
COLLECTED = {
    "collect.hub": "Secondary Data analysis",
    "collect.python_packages": "Software Collection",
    "collect.python_sources": "Software Collection",
    "improve.harvest": "Customer feedback data",
}
"""Methods whose kind of collection the RAI vocabulary has a word for; others are `Others`."""
SHOWN = 20
Place = tuple[str, str, str, str]


@dataclass(frozen=True)
class Stage:
    """One dataset on the way: which step made it, how, and what became of the records."""

    step: str
    method: str
    settings: Mapping[str, Any]
    gathered: bool
    kept: int
    dropped: Mapping[str, int]
    scores: Sequence[Score] = ()

    def __str__(self) -> str:
        given = ", ".join(f"{k}={v!r}" for k, v in self.settings.items() if v not in (None, "", [], {}))
        lost = ", ".join(f"{count:,} {rule}" for rule, count in self.dropped.items())
        return f"{self.step}: {self.method}({given}) gave {self.kept:,} records" + (
            f"; dropped: {lost}" if lost else ""
        )


@dataclass
class Facts:
    """What is known of a dataset beside `dataset.json`.

    Attributes:
        way: the datasets that it was made of, and itself, in the order of making.
        places: kept records by (file or source, licence, consent, origin).
        days: the first and the last day on which records of a place were gathered, where they state one.
        labels: for each label's name how many records have it, and who gave it how often.
        per_item: how many labels a labelled record has, to how many such records there are.
        masked: personal data by kind, that was masked.
        forgotten: records that were left out because somebody asked.
    """

    name: str
    digest: str
    about: Mapping[str, Any]
    goal: Goal
    way: list[Stage] = field(default_factory=list)
    places: Counter[Place] = field(default_factory=Counter)
    days: dict[Place, tuple[str, str]] = field(default_factory=dict)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    per_item: Counter[int] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    characters: int = 0
    forgotten: int = 0

    def gathered(self, place: Place) -> str:
        """The day or the days on which the records of a place were gathered; empty where none is stated."""
        return " to ".join(dict.fromkeys(self.days.get(place, ())))

    @property
    def records(self) -> int:
        """Kept records of all splits."""
        return sum(self.about["splits"].values())

    def by(self, at: int) -> dict[str, int]:
        """Kept records by one part of `places` (1 licence, 2 consent, 3 origin), the commonest first."""
        found: Counter[str] = Counter()
        for place, count in self.places.items():
            found[place[at]] += count
        return dict(found.most_common())


def front_matter(about: Mapping[str, Any], *, pretty_name: str = "", tags: Sequence[str] = ()) -> str:
    """The YAML head of a dataset card, between its two lines of dashes."""
    present = [split for split in SPLITS if about["splits"][split]] or ["train"]
    licences = sorted(about["licences"])
    known = len(licences) == 1 and licences[0].lower() in HUB_LICENCES
    named = licences[0].lower() if known else f"other\nlicense_name: {json.dumps(' AND '.join(licences) or 'none')}"
    records = sum(about["splits"].values())
    size = next((word for most, word in SIZES if records < most), "n>10M")
    head = [f"license: {named}", "size_categories:", f"- {size}"]
    head += [f"pretty_name: {json.dumps(pretty_name, ensure_ascii=False)}"] if pretty_name else []
    head += ["tags:", *(f"- {tag}" for tag in tags)] if tags else []
    head += ["configs:", "- config_name: default", "  data_files:"]
    for split in present:
        head += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    return "---\n" + "\n".join(head) + "\n---\n"


def short_card(about: Mapping[str, Any]) -> str:
    """The README.md inside a dataset."""
    counts = _table(("split", "samples"), [(s, n) for s, n in about["splits"].items() if n])
    return (
        f"{front_matter(about)}\n# A {about['modality']} dataset made with Volant\n\n{counts}\n"
        f"{about['dropped']} samples were dropped, each with its reason, in `dropped/`. "
        "Every sample carries its source and licence in the column `source`.\n"
    )


def long_card(facts: Facts) -> str:
    """The README.md of a published dataset."""
    fields = rai(facts)
    parts = [f"# {facts.name}", facts.goal.problem and f"Made for: {facts.goal.problem}"]
    parts += [f"Version `{facts.digest[:16]}`, {facts.records:,} records, {facts.characters:,} characters."]
    splits = [(split, f"{count:,}") for split, count in facts.about["splits"].items() if count]
    parts += ["## What is in it", _table(("split", "records"), splits)]
    parts += [_table(("shape", "records"), facts.about["shapes"].items())]
    rows = [(*at, facts.gathered(at) or "not stated", f"{n:,}") for at, n in facts.places.most_common(SHOWN)]
    parts += ["## Sources", _table(("from", "licence", "consent", "origin", "gathered on", "records"), rows)]
    if len(facts.places) > SHOWN:
        parts += [f"And {len(facts.places) - SHOWN:,} more places; each record names its own in the column `source`."]
    parts += ["## How it was made", "\n".join(f"{n}. {stage}." for n, stage in enumerate(facts.way, 1))]
    titles = {
        "rai:dataAnnotationProtocol": "## Labels", "rai:personalSensitiveInformation": "## Personal data",
        "rai:dataBiases": "## Bias", "rai:dataLimitations": "## Limits", "rai:dataUseCases": "## Uses",
        "rai:dataReleaseMaintenancePlan": "## Versions",
    }  # fmt: skip
    for key, title in titles.items():
        if key in fields:
            said = fields[key] if isinstance(fields[key], list) else [fields[key]]
            parts += [title, "\n".join(f"* {line}" for line in said)]
    parts += ["## To make it again", "`volant rebuild manifest.json`, beside the files that the manifest lists."]
    body = "\n\n".join(part.rstrip("\n") for part in parts if part)
    return f"{front_matter(facts.about, pretty_name=facts.name, tags=('volant', 'croissant'))}\n{body}\n"


def rai(facts: Facts) -> dict[str, Any]:
    """The properties of Croissant RAI 1.0 of which something is known."""
    gathered = [stage for stage in facts.way if stage.gathered]
    days = [day for both in facts.days.values() for day in both]
    said: dict[str, Any] = {
        "rai:dataCollection": " ".join(f"{stage}." for stage in gathered),
        "rai:dataCollectionType": sorted({COLLECTED.get(stage.method, "Others") for stage in gathered}),
        "rai:dataCollectionRawData": _listed({place: n for (place, *_), n in facts.places.most_common(SHOWN)}),
        "rai:dataCollectionTimeframe": sorted({min(days), max(days)}) if days else [],
        "rai:dataPreprocessingProtocol": [str(stage) for stage in facts.way if not stage.gathered],
        "rai:dataUseCases": _uses(facts),
        "rai:dataBiases": _biases(facts),
        "rai:dataLimitations": _limits(facts),
        "rai:personalSensitiveInformation": _personal(facts),
        "rai:dataReleaseMaintenancePlan": _versions(facts),
    }
    if facts.labels:
        lines = [f"{name}: {_listed(by)}" for name, by in sorted(facts.labels.items())]
        said["rai:dataAnnotationProtocol"] = f"Labels by who gave them: {'; '.join(lines)}."
        total = sum(n * count for n, count in facts.per_item.items())
        many = sum(facts.per_item.values())
        said["rai:annotationsPerItem"] = (
            f"{total / many:.2f} on each of {many:,} labelled records ({min(facts.per_item)} to {max(facts.per_item)})"
        )
    return {key: value for key, value in said.items() if value}


def _uses(facts: Facts) -> list[str]:
    named = {"train": "Training", "validation": "Validation", "test": "Testing"}
    uses = [f"{named[split]}: {count:,} records" for split, count in facts.about["splits"].items() if count]
    if facts.goal.problem:
        uses.append(f"Collected for: {facts.goal.problem} ({facts.goal.use} use)")
    return uses


def _biases(facts: Facts) -> list[str]:
    """What was measured of balance and of who loses records; nothing where nothing was."""
    told = ("balance", "disparity", "representation", "removal", "bias")
    scores = [s for stage in facts.way for s in stage.scores if any(word in s.name for word in told)]
    return [f"{score}{f' ({score.note})' if score.note else ''}" for score in scores]


def _limits(facts: Facts) -> list[str]:
    found = [f"{risk.risk} (what is done about it: {risk.mitigation})" for risk in facts.goal.risks]
    generated = facts.by(3).get("generated", 0)
    if generated:
        found.append(f"{generated:,} of {facts.records:,} records were generated by a model")
    if len(facts.about["licences"]) > 1:
        found.append(f"Records come under different licences: {_listed(facts.about['licences'])}")
    return found


def _personal(facts: Facts) -> list[str]:
    found = [f"Consent: {_listed(facts.by(2))}"] if facts.places else []
    settings = [stage.settings["personal"] for stage in facts.way if "personal" in stage.settings]
    if facts.masked:
        found.append(f"Found and masked: {_listed(facts.masked)}")
    elif "mask" in settings:
        found.append("Looked for by patterns, and none was left to mask in the kept records")
    return found


def _versions(facts: Facts) -> str:
    asked = f"; {facts.forgotten:,} were left out of this one" if facts.forgotten else ""
    return (
        f"A version is named by the sha256 of its files; this one is {facts.digest}. Records that somebody asks to "
        f"have forgotten are left out of the next version{asked}."
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [" | ".join(head), "|".join("---" for _ in head)]
    lines += [" | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines) + "\n"
