"""Croissant 1.1 metadata of a dataset directory, as JSON-LD.

Enters: what `dataset.json` says, the Arrow columns and the shards. Leaves: the document that `croissant.json` holds;
each shard is in it with its hash. A published one has more to say (`datacard.py`), which comes in as `more`.
Written by hand because the reference library costs seconds of import; it has no dates and no address,
since a payload must be the same wherever and whenever it was made (`datePublished` belongs to publishing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volant.core.artifact import file_sha256

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "arrayShape": "cr:arrayShape",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

CONFORMS = "http://mlcommons.org/croissant/1.1"
CONFORMS_RAI = "http://mlcommons.org/croissant/RAI/1.0"
_MEANING = {
    "id": "Stable identifier of the sample.",
    "shape": "Which fields carry the task: text, completion, messages, preference, media or row.",
    "content": "The text, or the JSON list of messages, or the JSON object of columns.",
    "media": "The bytes of an image, a recording or another medium.",
    "condition": "The prompt, caption or class.",
    "target": "The completion, or the chosen answer.",
    "rejected": "The answer that was not chosen.",
    "split": "train, validation or test; whole groups lie in one split.",
    "group": "What must not be divided between splits.",
    "source": "Where the sample came from and on what terms.",
    "parents": "Identifiers of the samples that it was made from.",
    "labels": "Judgements by people or programs.",
    "attrs": "Further attributes, a JSON object.",
    "drop": "Empty while the sample is kept, else the rule that dropped it.",
}


def licence_address(spdx: str) -> str:
    """The page of one SPDX licence; an expression or a `LicenseRef-` stays as it is."""
    plain = spdx and " " not in spdx and not spdx.startswith("LicenseRef-")
    return f"https://spdx.org/licenses/{spdx}.html" if plain else spdx


def croissant(
    about: Mapping[str, Any],
    columns: Sequence[tuple[str, bool, Sequence[str]]],
    folder: Path,
    more: Mapping[str, Any] | None = None,
    sums: Mapping[Path, str] | None = None,
) -> dict[str, Any]:
    """The Croissant document of a dataset.

    Args:
        about: what `dataset.json` says.
        columns: for each column its name, whether it repeats, and the names of its parts (empty: plain).
        folder: where the shards lie; each is hashed, if its sum is not known.
        more: further properties of the dataset (a name, RAI fields), which stand before its files.
        sums: the sha256 of shards.
    """
    kept = sum(about["splits"].values())
    shards = [split for split, count in about["splits"].items() if count]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": f"volant-{about['modality']}-dataset",
        "description": f"{kept} samples of modality {about['modality']}: "
        + ", ".join(f"{count} {split}" for split, count in about["splits"].items())
        + ".",
        "conformsTo": CONFORMS,
        "license": [licence_address(name) for name in sorted(about["licences"])],
        "isLiveDataset": False,
        **(more or {}),
        "distribution": [
            {
                "@type": "cr:FileSet",
                "@id": f"{split}-shards",
                "name": f"{split}-shards",
                "description": f"Parquet shards of the {split} split.",
                "encodingFormat": "application/x-parquet",
                "includes": f"data/{split}-*.parquet",
            }
            for split in shards
        ]
        + [_file(folder, file, sums or {}) for file in sorted((folder / "data").glob("*.parquet"))],
        "recordSet": [_record_set(split, columns) for split in shards],
    }


def _file(folder: Path, file: Path, sums: Mapping[Path, str]) -> dict[str, Any]:
    name = file.relative_to(folder).as_posix()
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{file.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": sums.get(file) or file_sha256(file),
    }


def _record_set(split: str, columns: Sequence[tuple[str, bool, Sequence[str]]]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": split,
        "name": split,
        "description": f"The kept samples of the {split} split.",
        "key": {"@id": f"{split}/id"},
        "field": [_field(split, name, repeated, parts) for name, repeated, parts in columns],
    }


def _field(split: str, name: str, repeated: bool, parts: Sequence[str]) -> dict[str, Any]:
    source = {"fileSet": {"@id": f"{split}-shards"}, "extract": {"column": name}}
    field: dict[str, Any] = {"@type": "cr:Field", "@id": f"{split}/{name}", "name": name, "description": _MEANING[name]}
    if repeated:
        field |= {"isArray": True, "arrayShape": "-1"}
    if not parts:
        return field | {"dataType": "sc:ImageObject" if name == "media" else "sc:Text", "source": source}
    field["source"] = source
    field["subField"] = [
        {
            "@type": "cr:Field",
            "@id": f"{split}/{name}/{part}",
            "name": part,
            "dataType": "sc:Text",
            "source": {**source, "transform": {"jsonPath": f"$.{part}"}},
        }
        for part in parts
    ]
    return field
