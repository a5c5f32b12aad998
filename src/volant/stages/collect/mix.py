"""Mix datasets, or the parts of one: how much of each is trained on, and how often.

Enters: one cleaned Dataset or more. Leaves: one Dataset whose train split holds each part in its share, with
`mix.json` beside it, which says how many records each part has and gives. Validation and test stay whole.
A record that is taken several times is there several times, each copy with an id of its own and the record as its
parent. Which records are taken is a pure function of the seed (`store/order.py`). Mix after `clean`: its gates would
take the copies for duplicates.

Sources: temperature as in multilingual BERT (Devlin et al. 2018); four epochs of a part are worth nearly as much as
new text, many more are not (Muennighoff et al., "Scaling data-constrained language models", 2023).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Run, Sample, Score
from volant.core.errors import DataError, SettingError, did_you_mean
from volant.core.sample import sample_id
from volant.stages.collect._generated import allowed
from volant.stages.collect._named import named

QUARTERS = 4


@dataclass
class _Row:
    """What is looked at of a training record."""

    part: str
    stratum: str
    quality: float
    characters: int
    id: str
    generated: bool


def mix(
    run: Run,
    *data: Dataset,
    by: str = "dataset",
    weights: dict[str, Annotated[float, Field(ge=0)]] | None = None,
    temperature: Annotated[float, Field(ge=1)] = 1.0,
    epochs: Annotated[float, Field(gt=0)] = 4.0,
    size: Annotated[int, Field(ge=0)] = 0,
    unit: Literal["records", "characters"] = "records",
    quality: str = "",
    boost: Annotated[float, Field(ge=1)] = 2.0,
    stratify: str = "",
    strata: Literal["keep", "even"] = "keep",
) -> Dataset:
    """Mix datasets by weight or temperature, with a cap on repetition.

    A part or a stratum is named by `dataset` (the step that made it), `source` (the file it came from), `licence`,
    `origin`, `shape`, `group`, `condition`, `labels.NAME`, `attrs.NAME` or `columns.NAME` of a row.

    Args:
        data: cleaned datasets; a record that lies in two of them is taken from the first.
        by: what the parts are; parts get shares.
        weights: the share of each part, relative to the others, as in {web: 3, books: 1}; parts that are not named get
            none. Empty takes the sizes and the temperature.
        temperature: 1 leaves the parts as large as they are; higher ones make them more alike (5 nearly even), which
            helps small parts and repeats them more.
        epochs: how often a record is taken at most; what a part cannot give then the others give.
        size: training records in the mix (with `characters`: as many characters as so many average records have); 0
            takes as many as all parts have together.
        unit: what the shares count: `records`, or `characters` where the parts' records differ in length.
        quality: a number on each record that says how good it is (`attrs.NAME`); better ones are taken more often. A
            minus before the name means that lower is better. Records without it count as the worst.
        boost: how many times as often the best quarter is taken as the worst one; 1 makes no difference.
        stratify: what must not shift within a part by chance (a class, a language): each value gets a fixed share.
        strata: `keep` the values' shares, or make them `even`.

    Returns:
        One Dataset, train mixed, validation and test as they were.

    Raises:
        SettingError: `weights` names a part that is not there, or `by` something that records do not have.
        DataError: there is nothing to train on.
    """
    from volant.store.dataset import dropped, rows, writer

    if not data:
        raise SettingError(
            "collect.mix needs a Dataset.", where=run.step, fix="Name the step that makes it: data: clean."
        )
    names = _names(data)
    found = [_looked_at(s, name, by, stratify, quality) for name, s in _training(run, data, names)]
    if not found:
        raise DataError("there is no training record to mix.", where=run.step, fix="Give datasets with a train split.")
    _check_named(found, by=by, stratify=stratify, quality=quality)
    taken = _shared(found, weights, temperature, epochs, size, unit)
    times = _times(run.seed, found, taken, epochs, boost if quality else 1.0, strata)
    if not any(times):
        what = "the mix holds no record: so few are taken that each part gives none."
        raise DataError(what, where=run.step, fix="Raise `epochs` or `size`.")
    over = _capped(run, found, times)
    copies = iter(times)
    held: set[str] = set()
    with writer(run.out, modality=run.modality) as out:
        for at, (_, sample) in enumerate(_training(run, data, names)):
            out.write_all(_copies(sample, next(copies)))
            if at in over and not times[at]:
                out.write(sample.model_copy(update={"drop": over[at]}))
        for one in data:
            for sample in rows(one):
                if sample.split != "train" and sample.id not in held:
                    held.add(sample.id)
                    out.write(sample)
            out.write_all(dropped(one))
    _report(run, found, times)
    return Dataset(run.out)


def _names(data: Sequence[Dataset]) -> list[str]:
    """Each dataset by the step that made it; by its place where two have one name, or none."""
    steps = [one.card.step if one.card else "" for one in data]
    return [step if step and steps.count(step) == 1 else str(at) for at, step in enumerate(steps, 1)]


def _training(run: Run, data: Sequence[Dataset], names: Sequence[str]) -> Iterator[tuple[str, Sample]]:
    """The training records with the dataset's name: each id once, and none that is held out in another dataset."""
    from volant.store.dataset import rows

    held = {sample.id for one in data for sample in rows(one) if sample.split != "train"}
    for name, one in zip(names, data, strict=True):
        for number, sample in enumerate(rows(one)):
            if number % 1000 == 0:
                run.check_stop()
            if sample.split == "train" and sample.id not in held:
                held.add(sample.id)
                yield name, sample


def _looked_at(sample: Sample, name: str, by: str, stratify: str, quality: str) -> _Row:
    worth = -math.inf
    if quality:
        given = named(sample, quality.removeprefix("-"), dataset=name, missing="")
        try:
            worth = float(given or "-inf")
        except ValueError as error:
            what = f"{quality.removeprefix('-')} of record {sample.id} is {given!r}, no number."
            raise SettingError(what, fix="Name a number that the records carry.") from error
        worth = -worth if quality.startswith("-") and given else worth
    stratum = named(sample, stratify, dataset=name) if stratify else ""
    part = named(sample, by, dataset=name)
    return _Row(part, stratum, worth, len(sample.text), sample.id, sample.source.origin == "generated")


def _check_named(found: Sequence[_Row], *, by: str, stratify: str, quality: str) -> None:
    """Refuse names that no record has: the mix would be what it is without them.

    Raises:
        SettingError: there is such a name.
    """
    fix = "Carry the field along where the records are read: `fields: {attrs.quality: quality}` of collect.files."
    if quality and all(row.quality == -math.inf for row in found):
        raise SettingError(f"no record has {quality.removeprefix('-')!r}.", where="quality", fix=fix)
    parts, strata = {row.part for row in found}, {row.stratum for row in found}
    for setting, name, values in (("by", by, parts), ("stratify", stratify, strata)):
        if name.startswith(("attrs.", "labels.", "columns.")) and values == {"none"}:
            raise SettingError(f"no record has {name!r}.", where=setting, fix=fix)


def _shared(
    found: Sequence[_Row], weights: dict[str, float] | None, temperature: float, epochs: float, size: int, unit: str
) -> dict[str, int]:
    """How many records each part gives."""
    from volant.store.order import shares, takes

    counts = Counter(row.part for row in found)
    characters: Counter[str] = Counter()
    for row in found:
        characters[row.part] += row.characters
    for part in weights or {}:
        if part not in counts:
            raise SettingError(f"there is no part {part!r} to weigh.", fix=did_you_mean(part, counts))
    if weights and not any(weights.values()):
        raise SettingError("all weights are 0.", fix="Give at least one part a weight.")
    measured = characters if unit == "characters" else counts
    share = shares(measured, weights, temperature)
    budget = (size or len(found)) / len(found) * measured.total()
    wanted = [share[part] * budget * counts[part] / max(1, measured[part]) for part in counts]
    return dict(zip(counts, takes(wanted, [epochs * counts[part] for part in counts]), strict=True))


def _times(
    seed: int, found: Sequence[_Row], taken: dict[str, int], epochs: float, boost: float, strata: str
) -> list[int]:
    """How often each training record is taken."""
    import numpy as np

    from volant.store.order import Order, sub_seed, takes

    cells: dict[str, dict[str, list[int]]] = {part: {} for part in taken}
    for at, row in enumerate(found):
        cells[row.part].setdefault(row.stratum, []).append(at)
    times = [0] * len(found)
    for number, (part, inside) in enumerate(cells.items()):
        count = sum(map(len, inside.values()))
        share = [1 / len(inside) if strata == "even" else len(rows) / count for rows in inside.values()]
        gives = takes([taken[part] * s for s in share], [epochs * len(rows) for rows in inside.values()])
        for stratum, (rows, many) in enumerate(zip(inside.values(), gives, strict=True)):
            quarters = _quarters(rows, found) if boost > 1 else [rows]
            steps = np.linspace(1.0, boost, len(quarters)) if boost > 1 else [1.0]
            weight = [float(step) * len(quarter) for step, quarter in zip(steps, quarters, strict=True)]
            parts = takes([many * w / sum(weight) for w in weight], [epochs * len(quarter) for quarter in quarters])
            for place, (quarter, give) in enumerate(zip(quarters, parts, strict=True)):
                order = Order(len(quarter), sub_seed(seed, number, stratum, place))
                for drawn in order.at(np.arange(give)).tolist():
                    times[quarter[drawn]] += 1
    return times


def _quarters(rows: Sequence[int], found: Sequence[_Row]) -> list[list[int]]:
    """The rows by quality, the worst quarter first; ties stay in their order."""
    ranked = sorted(rows, key=lambda at: found[at].quality)
    edges = [len(ranked) * q // QUARTERS for q in range(QUARTERS + 1)]
    return [ranked[low:high] for low, high in pairwise(edges) if high > low]


def _capped(run: Run, found: Sequence[_Row], times: list[int]) -> dict[int, str]:
    """Take generated records less often, by their hashes, until the plan allows their share; why, by row."""
    made = [at for at, row in enumerate(found) if row.generated and times[at]]
    share = sum(times[at] for at in made) / max(1, sum(times))
    most = allowed(run, sum(times) - sum(times[at] for at in made))
    over = 0 if most is None else sum(times[at] for at in made) - most
    changed: dict[int, str] = {}
    for at in sorted(made, key=lambda at: sample_id("generated", str(run.seed), found[at].id), reverse=True):
        if over <= 0:
            break
        less = min(over, times[at])
        times[at] -= less
        over -= less
        changed[at] = f"generated_cap: {share:.3f} of the training records against {run.goal.generated:g}"
    if changed:
        run.say(f"generated records are {share:.1%} of the mix, which the plan holds to {run.goal.generated:.1%}")
    if not any(times):
        fix = "Raise goal.generated, or add records that no model wrote."
        raise DataError("goal.generated leaves no record to train on.", where=run.step, fix=fix)
    return changed


def _copies(sample: Sample, times: int) -> Iterator[Sample]:
    """The record, and copies of it that name it as their parent."""
    if times:
        yield sample
    for number in range(2, times + 1):
        parents = [*sample.parents, sample.id]
        yield sample.model_copy(update={"id": sample_id("copy", sample.id, str(number)), "parents": parents})


def _report(run: Run, found: Sequence[_Row], times: Sequence[int]) -> None:
    parts: dict[str, dict[str, Any]] = {}
    for row, often in zip(found, times, strict=True):
        part = parts.setdefault(row.part, {"records": 0, "taken": 0, "characters": 0, "most_times": 0})
        part["records"] += 1
        part["taken"] += often
        part["characters"] += often * row.characters
        part["most_times"] = max(part["most_times"], often)
    total = sum(times)
    for name, part in parts.items():
        share = part["taken"] / total
        run.say(
            f"{name}: {part['taken']:,} records taken of {part['records']:,} ({share:.1%} of the mix), none more than "
            f"{part['most_times']} times"
        )
    run.score(Score.exact("mixed_records", total, n=len(found), unit="records"))
    run.score(Score.exact("mixed_used", sum(map(bool, times)) / len(found), n=len(found)))
    (run.out / "mix.json").write_text(json.dumps(parts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
