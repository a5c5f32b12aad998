"""A dataset of the Hugging Face hub, or a local copy of one, as a Dataset.

Enters: a hub name or a directory that `datasets` opens, and its terms. Leaves: a Dataset in core
shapes. The splits that it brings are kept under our names; what it lacks is dealt by hash of group.
A local directory is read without the network. Of the hub one revision is read, which `hub.json` names: after a
kill the same one, whose files are not fetched again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Hub, Run
from volant.core.errors import DataError, RemoteError

_OURS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation",
         "val": "validation", "dev": "validation", "eval": "validation", "test": "test"}  # fmt: skip


def hub(
    run: Run,
    *,
    dataset: Hub,
    licence: str,
    consent: Literal["not-personal", "given", "contract", "public", "withheld"] = "public",
    collected_at: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\d)?$")] = "",
    revision: str = "",
    subset: str = "",
    fields: dict[str, str] | None = None,
    splits: dict[str, str] | None = None,
    group: str = "",
    limit: Annotated[int, Field(ge=0)] = 0,
    refuse_above: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Dataset:
    """Gather a Hugging Face dataset.

    Args:
        dataset: a directory of the project, or a hub name (`org/name`), which needs the network.
        licence: SPDX name of its terms, as its card states them; one that forbids goal.use is refused.
        consent: whether the people in the data agreed: not-personal, given, contract or public; `withheld` is refused.
        collected_at: day on which it was gathered (`2026-11-24`), as its card states it; empty where it does not.
        revision: the commit of the hub's dataset to read (see its "Files and versions"); empty takes the newest, so
            that the same call may give other data on another day.
        subset: the configuration to load, where it has several; empty takes the default one.
        fields: its names of the known fields, as in {prompt: question, completion: answer}.
        splits: its split names to train, validation or test, as in {dev: validation}; unknown names are an error.
        group: a field whose value keeps records in one split where we deal them; empty groups by prompt.
        limit: most records read from each of its splits, in order; they are streamed, so that no more is fetched than
            they need. 0 fetches and reads all.
        refuse_above: share of bad records (0 to 1) beyond which the step fails instead of going on without them.

    Returns:
        A Dataset with a split on every record.

    Raises:
        LicenceError: the licence is unknown or forbids the use.
        DataError: it cannot be opened, or nothing in it is usable.
        RemoteError: the hub does not answer.
    """
    from volant.core.protocols import Refusal
    from volant.core.sample import Sample
    from volant.modalities.text_shapes import BadRecord, sample_of
    from volant.stages.collect._arrival import arrive, terms

    snapshot = run.snapshot("dataset")
    name = str(snapshot.facts.get("name", dataset))
    source = terms(run, f"hub:{name}", licence, consent, collected_at, where=name)
    tables = _open(run, subset, revision, bool(limit))
    names = {theirs: _our_split(theirs, splits or {}, name) for theirs in tables}
    # Their train split alone says nothing of ours: then we deal all of it. A set without one is a benchmark.
    ours = set(names.values())
    keep = ours != {"train"}

    def found() -> Iterator[Sample | Refusal]:
        total = len(tables) * limit or sum(len(table) for table in tables.values())
        with run.progress("reading the dataset", total, "records") as bar:
            for theirs, table in tables.items():
                for number, record in enumerate(_records(table, name, limit)):
                    run.check_stop()
                    bar.advance(1)
                    place = f"{name}/{theirs}[{number}]"
                    own = source.model_copy(update={"uri": f"hub:{place}"})
                    try:
                        sample = sample_of(_filled(record), own, fields=fields, group_field=group)
                    except BadRecord as reason:
                        yield Refusal(place, str(reason))
                        continue
                    yield sample.model_copy(update={"split": names[theirs]}) if keep else sample

    return arrive(run, found(), refuse_above=refuse_above, where=name, fix="Name its fields with `fields`.",
                  deal="train" in ours)  # fmt: skip


def _open(run: Run, subset: str, revision: str, streaming: bool) -> dict[str, Any]:
    """Split name to table, or to a stream of records."""
    import datasets

    snapshot = run.snapshot("dataset")
    local = bool(snapshot.facts.get("local"))
    place = str(snapshot.value)
    if local:
        if not snapshot.files:
            raise DataError("the folder is empty.", where=place, fix="Put the dataset's files into it.")
        first = snapshot.files[0]
        place = str(first.path.parents[len(first.name.split("/")) - 1])
    pinned = None if local else _pinned(run, place, revision)
    saved = local and any(f.name in ("dataset_dict.json", "state.json") for f in snapshot.files)
    datasets.disable_progress_bars()
    try:
        cache = str(run.work / "hub")
        loaded: Any = (
            datasets.load_from_disk(place)
            if saved
            else datasets.load_dataset(place, subset or None, revision=pinned, cache_dir=cache, streaming=streaming)
        )
    except (ConnectionError, OSError) as error:
        if local:
            raise DataError(f"it does not open: {error}.", where=str(snapshot.value)) from error
        raise RemoteError(
            f"the hub does not give {place!r}: {error}.", fix="Check name and network, or name a local directory."
        ) from error
    except Exception as error:  # datasets raises many kinds for a directory that it cannot read
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"`datasets` cannot read it: {reason}.",
            where=str(snapshot.value),
            fix="Check its files; or use collect.files.",
        ) from error
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _records(table: Any, name: str, limit: int) -> Iterator[Any]:
    """The records of a split, at most `limit` of them where that is not 0; of a stream no more are fetched."""
    from itertools import islice

    try:
        yield from islice(table, limit or None)
    except Exception as error:  # what a stream meets in its files; datasets raises many kinds
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(
            f"it cannot be read on: {reason}.", where=name, fix="Check its files and the network."
        ) from error


def _pinned(run: Run, name: str, revision: str) -> str:
    """The revision that is read; the newest is asked for once, so that a run that was killed goes on with the same.

    Raises:
        RemoteError: the hub does not answer, or has no such dataset.
    """
    import json

    from huggingface_hub import HfApi

    from volant.store.hub import hub_errors

    kept = run.work / "revision"
    if not revision and not kept.is_file():
        try:
            told = HfApi().dataset_info(name).sha or ""
        except hub_errors() as error:
            first = str(error).strip().split("\n")[0]
            raise RemoteError(
                f"the hub does not give {name!r}: {first}.", fix="Check name and network, or name a local directory."
            ) from error
        draft = kept.with_suffix(".part")
        draft.write_text(told, encoding="utf-8")
        draft.rename(kept)
    found = revision or kept.read_text(encoding="utf-8")
    if not revision:
        run.say(f"revision {found}; set `revision` to read the same one for ever")
    (run.out / "hub.json").write_text(json.dumps({"name": name, "revision": found}) + "\n", encoding="utf-8")
    return found


def _our_split(theirs: str, asked: dict[str, str], name: str) -> str:
    ours = asked.get(theirs) or _OURS.get(theirs.lower())
    if ours not in ("train", "validation", "test"):
        raise DataError(
            f"its split {theirs!r} is none of train, validation and test.", where=name,
            fix=f"Map it: splits: {{{theirs}: train}}.",
        )  # fmt: skip
    return ours


def _filled(record: dict[str, Any]) -> dict[str, Any]:
    """The record without the empty columns that Arrow adds where records differ."""
    return {key: value for key, value in record.items() if value is not None}
