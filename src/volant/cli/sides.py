"""Two contents side by side: what `volant rate` shows of a model that makes pictures, rows or the like.

Enters: an open session and conditions in words. Leaves: two samples for a condition, as files and as one page that
a browser can be left open on; it shows the pair that is asked about.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from volant.cli import files, place, present
from volant.core.artifact import Dataset
from volant.core.errors import DataError, MachineError
from volant.core.protocols import Modality, Request, Session
from volant.core.sample import CONTENT_SHAPES, Sample

if TYPE_CHECKING:
    from volant.project import Project

PAGE = "pair.html"
_READ = 10_000  # validation samples whose conditions are looked at
_FOLLOW = '<meta http-equiv="refresh" content="2">'  # an open tab follows to the next pair
_BESIDE = "display:grid;grid-template-columns:1fr 1fr;gap:2rem;align-items:start"


def conditions(opened: Project, count: int, seed: int) -> list[str]:
    """What is asked for: conditions of the newest dataset's validation split, as often as they occur there.

    Args:
        opened: the project.
        count: how many; the split's are gone through again where it has fewer.
        seed: of their order.

    Raises:
        DataError: the split holds no pictures or rows.
    """
    from volant.store.dataset import rows

    data = place.newest(opened, Dataset)
    found = [s.condition or "" for s in islice(rows(data, "validation"), _READ) if s.shape in CONTENT_SHAPES]
    if not found:
        what = "the validation split holds nothing that could be asked for."
        raise DataError(what, fix="Give a file: volant rate --prompts conditions.txt")
    random.Random(seed).shuffle(found)
    return [found[number % len(found)] for number in range(count)]


def drawn(session: Session, condition: str, controls: Mapping[str, float], seed: int) -> tuple[Sample, Sample] | None:
    """Two draws for a condition, with two seeds; None where the model does not make both, which is said."""
    requests = [Request(id=str(i), prompt=condition, controls=dict(controls), seed=seed + i) for i in range(2)]
    made: dict[str, Sample] = {}
    for chunk in session.generate(requests):
        if chunk.sample is not None:
            made[chunk.id] = chunk.sample
        elif chunk.finish == "error":
            present.say(f"({condition!r}: {chunk.error})")
    return (made["0"], made["1"]) if len(made) == 2 else None


def show(kind: Modality, condition: str, pair: Sequence[Sample], folder: Path, number: int) -> str:
    """Write the pair's files and page; what to print.

    Args:
        kind: of the samples.
        condition: what was asked for.
        pair: `a`, then `b`.
        folder: made where it is not there.
        number: of the pair; part of the files' names.

    Raises:
        MachineError: the folder cannot be written to.
    """
    form = files.usual_form(kind)
    content = {folder / f"{number:04d}-{side}.{form}": [one] for side, one in zip("ab", pair, strict=True)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, samples in content.items():
            file.write_bytes(kind.deliver(samples, form))
        (folder / PAGE).write_text(_page(kind, condition, pair, number), encoding="utf-8")
    except OSError as error:
        raise MachineError(f"cannot write: {error.strerror}", where=str(folder), fix="Name another --out.") from error
    told = _columns(pair) if pair[0].shape == "row" else []
    names = [f"[{side}] {file}" for side, file in zip("ab", content, strict=True)]
    return "\n".join([condition or "(anything)", *told, *names, f"side by side: {folder / PAGE}"])


def _page(kind: Modality, condition: str, pair: Sequence[Sample], number: int) -> str:
    from volant.store.page import escaped, page

    shown = "".join(
        f"<div><h3>{side}</h3>{kind.preview([one])}</div>" for side, one in zip("ab", pair, strict=True)
    )  # fmt: skip
    body = f'<p class="lead">{escaped(condition or "anything")}</p><div style="{_BESIDE}">{shown}</div>'
    return page("Which one is better?", body, eyebrow=f"pair {number}", head=_FOLLOW)


def _columns(pair: Sequence[Sample]) -> list[str]:
    """Two rows as lines, a column each; what differs is marked."""
    a, b = (json.loads(one.content or "{}") for one in pair)
    wide = max((len(name) for name in a), default=0)
    cells = {name: (json.dumps(a[name], ensure_ascii=False), json.dumps(b.get(name), ensure_ascii=False)) for name in a}
    middle = max((len(left) for left, _ in cells.values()), default=0)
    return [
        f"{' ' if left == right else '*'} {name:<{wide}}  [a] {left:<{middle}}  [b] {right}"
        for name, (left, right) in cells.items()
    ]
