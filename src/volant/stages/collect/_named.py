"""What a record has under a name such as `source`, `attrs.topic` or `columns.shop`: parts, strata, groups, times."""

from __future__ import annotations

import json

from volant.core import Sample
from volant.core.errors import SettingError, did_you_mean


def named(sample: Sample, key: str, *, dataset: str = "", missing: str = "none") -> str:
    """What a record has under a key.

    Args:
        key: `dataset`, `source`, `licence`, `origin`, `shape`, `group`, `condition`, `collected_at`, `attrs.NAME`,
            `labels.NAME`, or `columns.NAME` of a row.
        dataset: the name of the dataset that it came with.
        missing: what stands for nothing.

    Raises:
        SettingError: no record has such a key.
    """
    kind, _, rest = key.partition(".")
    if kind == "attrs" and rest:
        return str(sample.attrs.get(rest, missing))
    if kind == "labels" and rest:
        return next((label.value for label in sample.labels if label.name == rest), missing)
    if kind == "columns" and rest:
        row = json.loads(sample.content or "{}") if sample.shape == "row" else {}
        value = row.get(rest)
        return missing if value is None else str(value)
    plain = {
        "dataset": dataset, "source": sample.source.place, "licence": sample.source.licence, "shape": sample.shape,
        "origin": sample.source.origin, "group": sample.group, "condition": sample.condition or missing,
        "collected_at": sample.source.collected_at or missing,
    }  # fmt: skip
    if key not in plain:
        fix = f"{did_you_mean(key, plain)} Or write attrs.NAME, labels.NAME or columns.NAME."
        raise SettingError(f"records have no {key!r}.", fix=fix)
    return plain[key]
