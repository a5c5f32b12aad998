"""What every gathering method does with what arrives: terms checked, no split left empty, refusals kept, written.

In go samples and refusals in order; out comes the Dataset in `run.out`, with `refused.jsonl` beside the samples and
a page on both. Samples stream; only the first `HELD` are kept in memory, because as long as there are few of them the
hash of the group may leave a split empty, and then the smallest hashes are dealt by hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import date

from volant.core import Dataset, Run, Sample
from volant.core.errors import DataError, LicenceError, SettingError
from volant.core.outside import storable
from volant.core.protocols import Refusal
from volant.core.sample import SPLITS, Source, Split
from volant.stages.collect._data_page import data_page
from volant.stages.collect._data_page import refused as refused_section

HELD = 2000
KEPT_REFUSALS = 10_000


def terms(run: Run, uri: str, licence: str, consent: str, collected_at: str = "", *, where: str = "") -> Source:
    """What the records of a source say of it, when the goal's use and the people in the data allow it.

    Raises:
        LicenceError: the licence is unknown or forbids the use, or consent was withheld.
        SettingError: the day is none of the calendar.
    """
    from volant.modalities.licence import require

    known = require(licence, run.goal.use, where=where)
    if consent == "withheld":
        raise LicenceError("the people in the data withheld consent.", where=where, fix="Leave the data out.")
    try:
        date.fromisoformat(collected_at or "2026-01-01")
    except ValueError as error:
        what = f"{collected_at!r} is no day of the calendar."
        raise SettingError(what, where=f"{run.step} collected_at", fix="Write the day as in 2026-11-24.") from error
    return Source(uri=uri, licence=known, consent=consent, collected_at=collected_at)


def arrive(
    run: Run, found: Iterable[Sample | Refusal], *, refuse_above: float = 0.5, where: str = "", fix: str = "",
    deal: bool = True,
) -> Dataset:  # fmt: skip
    """Write what arrives as the run's Dataset. A record whose own terms forbid the goal's use is refused.

    Args:
        deal: whether no split may be left empty; not for a set that is one of them, such as a benchmark.

    Raises:
        DataError: nothing arrived, too much was refused, or too few groups to split.
    """
    from volant.modalities.licence import forbids
    from volant.store.dataset import writer

    refusals: list[Refusal] = []
    kept = refused = 0
    forbidden: dict[str, str] = {}

    def allowed(sample: Sample) -> Sample | Refusal:
        name = sample.source.licence
        if name not in forbidden:
            forbidden[name] = forbids(name, run.goal.use)
        reason = forbidden[name]
        if not reason and sample.source.consent == "withheld":
            reason = "the people in it withheld consent"
        return Refusal(sample.source.uri, f"{reason} (goal.use is {run.goal.use})") if reason else sample

    def samples() -> Iterator[Sample]:
        nonlocal kept, refused
        for arrived in found:
            item = allowed(arrived) if isinstance(arrived, Sample) else arrived
            if isinstance(item, Refusal):
                refused += 1
                if len(refusals) < KEPT_REFUSALS:
                    refusals.append(Refusal(storable(item.where), storable(item.reason)))
                continue
            kept += not item.drop
            yield run.remembered(item)
        # Judged here, before the splits are: why nothing came says more than that nothing came.
        _judge(run, kept, refused, refusals, refuse_above, fix)

    with writer(run.out, modality=run.modality) as out:
        out.write_all(dealt(samples(), where) if deal else samples())
    if refusals:
        lines = [json.dumps({"where": r.where, "reason": r.reason}, ensure_ascii=False) for r in refusals]
        (run.out / "refused.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
    counts = ", ".join(f"{count:,} {split}" for split, count in out.about["splits"].items())
    run.say(f"{kept:,} records: {counts}")
    made = Dataset(run.out)
    data_page(run, made, more=[refused_section(refused, refusals)] if refusals else [])
    return made


def _judge(run: Run, kept: int, refused: int, refusals: list[Refusal], refuse_above: float, fix: str) -> None:
    if not refused:
        return
    first = refusals[0]
    share = refused / (kept + refused)
    if share > refuse_above:
        raise DataError(
            f"{first.reason}; {refused:,} of {kept + refused:,} records cannot be used.",
            where=first.where, fix=fix or "Mend the file, or raise `refuse_above` to go on with the rest.",
        )  # fmt: skip
    for refusal in refusals[:3]:
        run.say(f"refused {refusal.where}: {refusal.reason}")
    run.say(f"{refused:,} of {kept + refused:,} records refused ({share:.1%}); all reasons are in refused.jsonl")


def dealt(samples: Iterable[Sample], where: str = "") -> Iterator[Sample]:
    """The samples, with no split left empty where they are few.

    Raises:
        DataError: fewer than three groups, so that they cannot be split.
    """
    iterator = iter(samples)
    held: list[Sample] = []
    for sample in iterator:
        held.append(sample)
        if len(held) >= HELD:
            yield from held
            yield from iterator
            return
    yield from _by_hand(held, where)


def _by_hand(held: list[Sample], where: str) -> Iterator[Sample]:
    # A drop or a feedback record fills no split.
    groups = {s.group: s.split for s in held if not s.drop and s.source.origin != "feedback"}
    missing = [split for split in SPLITS if split not in set(groups.values())]
    if held and not missing:
        yield from held
        return
    if len(groups) < 3:
        count = f"{len(held)} record{'s' if len(held) != 1 else ''}"
        raise DataError(
            f"{count} (different prompts or documents: {len(groups)}) cannot be split into train, validation and test.",
            where=where or (held[0].source.uri if held else ""),
            fix="Give records of at least three groups or documents (better: hundreds).",
        )  # fmt: skip
    ranked = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    moved: dict[str, Split] = {}
    for split in missing:
        counts = {s: sum(1 for g in groups if moved.get(g, groups[g]) == s) for s in SPLITS}
        richest = max(SPLITS, key=lambda s: counts[s])
        chosen = next(g for g in ranked if moved.get(g, groups[g]) == richest)
        moved[chosen] = split
    for sample in held:
        yield sample.model_copy(update={"split": moved[sample.group]}) if sample.group in moved else sample
