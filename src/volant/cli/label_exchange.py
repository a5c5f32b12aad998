"""Labelling elsewhere: records and labels go to Label Studio or Argilla as a file, and people's words come back.

Enters: a dataset and the file of labels, or a tool's export. Leaves: the tool's JSON, or lines in `labels.jsonl`.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from volant.cli import complete, place, present
from volant.cli.label import Pick, kept_in, offered
from volant.core.artifact import Dataset
from volant.core.errors import DataError, MachineError, SettingError
from volant.core.sample import Sample

if TYPE_CHECKING:
    from volant.store.labels import Judgement

_TOOLS = ("label-studio", "argilla")
_Tool = Annotated[str, typer.Option("--tool", help="label-studio or argilla.", autocompletion=lambda: list(_TOOLS))]
_Data = Annotated[str, typer.Argument(help="The step or digest of the dataset.", autocompletion=complete.things)]
_Name = Annotated[str, typer.Option(help="Of the label; the tool's question has the same name.")]
_File = Annotated[Path | None, typer.Option("--labels", help="Where labels are kept; the project's labels.jsonl.")]


def label_export(
    data: _Data,
    to: Annotated[Path, typer.Argument(help="The JSON file to write.")],
    tool: _Tool = _TOOLS[0],
    name: _Name = "label",
    labels: _File = None,
    limit: Annotated[int, typer.Option(help="How many records at most.", min=1)] = 100_000,
    pick: Pick = "",
    seed: Annotated[int, typer.Option(help="With --pick: another one takes other records.", min=0)] = 0,
) -> None:
    """Write records, with what people said of them, as a file that Label Studio or Argilla imports.

    With --pick, --limit takes those that nobody has judged yet and that are most worth a label; else the first ones.

    Example:  volant label-export clean tasks.json --tool label-studio --name kind
    """
    from volant.store import label_exchange
    from volant.store.dataset import rows
    from volant.store.labels import read

    chosen, said = _tool(tool), read(kept_in(labels), name)
    found_data = place.artifact(place.project(), data, Dataset)
    samples = _picked(found_data, said, name, limit, pick, seed) if pick else list(islice(rows(found_data), limit))
    found = label_exchange.exported(chosen, samples, said, name)
    try:
        to.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        fix = "Name a file in a folder that is there."
        raise MachineError(f"cannot write: {error.strerror}", where=str(to), fix=fix) from error
    present.say(f"{len(found):,} records in {to}.")
    classes = sorted(
        {w.value for w in said if w.value} | {x.value for s in samples for x in s.labels if x.name == name}
    )
    if chosen == "label-studio":
        present.say("Its labelling interface (add the classes that are missing):")
        present.say(label_exchange.labelling_config(name, classes))
        return
    left = sum(1 for word in said if word.final or not word.value)
    present.say(f"Its question: LabelQuestion(name={name!r}, labels={classes!r}); its field: TextField(name='text').")
    if left:
        present.say(f"{left:,} final or undecided words are not in it: Argilla has no place for them.")


def label_import(
    data: _Data,
    file: Annotated[Path, typer.Argument(help="The tool's export, JSON.", exists=True, dir_okay=False)],
    tool: _Tool = _TOOLS[0],
    name: _Name = "label",
    labels: _File = None,
) -> None:
    """Take people's labels out of a file that Label Studio or Argilla exported; what is known already is not repeated.

    Example:  volant label-import clean export.json --tool label-studio --name kind
    """
    from volant.store import label_exchange
    from volant.store.dataset import rows
    from volant.store.labels import append, read

    target = kept_in(labels)
    ids = {sample.id for sample in rows(place.artifact(place.project(), data, Dataset))}
    before = read(target, name)
    taken, refused = label_exchange.imported(_tool(tool), _parsed(file), name, {word.by for word in before})
    known = {(word.id, word.by, word.final): word.value for word in before}
    ours = [word for word in taken if word.id in ids]
    new = [word for word in ours if known.get((word.id, word.by, word.final)) != word.value]
    if new:
        append(target, *new)
    by = ", ".join(f"{count:,} of {who}" for who, count in Counter(word.by for word in new).most_common(8))
    present.say(
        f"{len(new):,} words in {target}{f' ({by})' if by else ''}; {len(ours) - len(new):,} were there already."
    )
    if len(ours) < len(taken):
        present.say(f"{len(taken) - len(ours):,} words are of records that are not in {data}, and were left out.")
    for reason in refused[:8]:
        present.say(f"left out: {reason}")
    if len(refused) > 8:
        present.say(f"and {len(refused) - 8:,} more were left out.")


def _picked(data: Dataset, said: list[Judgement], name: str, limit: int, pick: str, seed: int) -> list[Sample]:
    """The records to label next, the most useful first."""
    from volant.serving.picking import POOL
    from volant.store.pool import values

    judged = {word.id for word in said}
    known = {word.id: word.value for word in said if word.value}
    classes = sorted({*known.values(), *values(data, name)})
    samples, picker = offered(
        data, classes, said, name=name, limit=max(POOL, limit) + len(judged), pick=pick, seed=seed
    )
    by_id = {sample.id: sample for sample in samples}
    order = picker.next(known, judged, limit) if picker else [id for id in by_id if id not in judged]
    return [by_id[id] for id in order[:limit]]


def _tool(name: str) -> Any:
    if name not in _TOOLS:
        raise SettingError(f"{name!r} is no tool that is known.", where="--tool", fix=f"Take {' or '.join(_TOOLS)}.")
    return cast(Any, name)


def _parsed(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        what = f"the export cannot be read: {error}."
        raise DataError(what, where=str(file), fix="Export as JSON, in UTF-8.") from error
