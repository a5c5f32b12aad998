"""People's labels: `volant label` shows records one by one, on a local page or in the terminal.

Enters: a dataset and people. Leaves: lines in `labels.jsonl`, one a word, which `collect.label` takes as `people`. What
comes next is chosen so that few labels teach much (`--pick`); after a vote, the records that it was least sure of.
"""

from __future__ import annotations

import base64
import getpass
import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from volant.cli import complete, place, present
from volant.core.artifact import Dataset
from volant.core.errors import DataError, SettingError, did_you_mean
from volant.core.sample import CONTENT_SHAPES, Sample

if TYPE_CHECKING:
    from volant.scorers.selection import How
    from volant.serving.labelling import Desk
    from volant.serving.picking import Picker
    from volant.store.labels import Judgement

_SHOWN = 4000  # characters of a record in the terminal
_LARGEST = 8 << 20  # bytes of a picture that is sent as it is
_VOTES = "votes"
_WAYS = ("mixed", "uncertain", "diverse", "random", _VOTES)
Pick = Annotated[
    str,
    typer.Option(
        "--pick",
        help="What comes next: mixed, uncertain, diverse, random, votes (least sure of collect.label). Empty: votes "
        "where most records have some, else mixed.",
        autocompletion=lambda: list(_WAYS),
    ),
]


def label(
    data: Annotated[
        str, typer.Argument(help="The step or digest of the dataset to label.", autocompletion=complete.things)
    ],
    name: Annotated[str, typer.Option(help="Of the label, as in collect.label.")] = "label",
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="What a record may be; name each. Empty: those in the data.")
    ] = None,
    rater: Annotated[str, typer.Option(help="Your name in the terminal; on the page each types one.")] = "",
    adjudicate: Annotated[
        bool, typer.Option(help="Decide where raters disagree, and what collect.suspects marked; final.")
    ] = False,
    terminal: Annotated[bool, typer.Option(help="Ask here, not on a page.")] = False,
    guide: Annotated[Path | None, typer.Option(help="A text file that tells raters how to decide.")] = None,
    file: Annotated[Path | None, typer.Option(help="Where labels are kept; the project's labels.jsonl.")] = None,
    limit: Annotated[int, typer.Option(help="How many records are offered at most.", min=1, max=100_000)] = 2000,
    pick: Pick = "",
    seed: Annotated[int, typer.Option(help="Another one offers other records.", min=0)] = 0,
    port: Annotated[int, typer.Option(help="Of the page; 0 takes a free one.", min=0, max=65535)] = 0,
) -> None:
    """Label records on a local page, or in the terminal; several people may, each under a name.

    Keys: 1 to 9 (then letters) name a class, 0 says that you cannot tell, s skips, the arrows move, u takes your last
    word back; digits that are classes are keys of their own. What others said shows only once you have judged. Each
    word is on disk before the next record comes.

    Example:  volant label clean --class spam --class ham --name kind
    """
    from volant.modalities import open_modality
    from volant.serving.labelling import Desk
    from volant.store import labels

    target = kept_in(file)
    found = place.artifact(place.project(), data, Dataset)
    known = _classes(found, name, classes or [])
    samples, picker = offered(found, known, labels.read(target, name), name=name, limit=limit, pick=pick, seed=seed)
    desk = Desk(samples, target, name=name, classes=known, adjudicate=adjudicate, picker=picker)
    told = _text(guide) if guide else ""
    if terminal:
        _ask(desk, known_as(rater))
        return
    kind = open_modality(str(found.about["modality"]))
    _serve(desk, lambda sample: whole(sample) or kind.preview([sample]), told, port)


def kept_in(file: Path | None) -> Path:
    """The file of labels; made where it is not there yet, for a project that names it does not open without it."""
    from volant.store.labels import FILE, append

    target = file or place.root() / FILE
    if not target.exists():
        append(target)
    return target


def offered(
    data: Dataset, classes: list[str], said: list[Judgement], *, name: str, limit: int, pick: str, seed: int
) -> tuple[list[Sample], Picker | None]:
    """The records that people are offered, all that was said something of among them, and who picks the next of them.

    Raises:
        SettingError: there is no such way to pick, or there were no votes.
    """
    from volant.modalities import open_modality
    from volant.serving.picking import Picker
    from volant.store.pool import pool

    if pick and pick not in _WAYS:
        raise SettingError(f"{pick!r} is no way to pick.", where="--pick", fix=did_you_mean(pick, _WAYS))
    told = data.read_json("label.json") if (data.path / "label.json").is_file() else {}
    voted = told.get("name") == name
    if pick == _VOTES and not voted:
        fix = "Run collect.label with that name before this, or take another way."
        raise SettingError(f"nobody voted on {name!r} in this dataset.", where="--pick", fix=fix)
    most = voted and 2 * int(told["voted_on"]) >= int(told["records"])
    by_votes = pick == _VOTES or (most and not pick)
    samples = pool(data, name, limit, seed=seed, keep={word.id for word in said}, by_votes=by_votes)
    if by_votes:
        return samples, None
    how = cast("How", pick or _WAYS[0])
    return samples, Picker(samples, open_modality(str(data.about["modality"])), classes=classes, how=how, seed=seed)


def _classes(data: Dataset, name: str, given: list[str]) -> list[str]:
    """The classes that were named, else those of the vote or of the labels that there are.

    Raises:
        SettingError: fewer than two are known.
    """
    from volant.store.pool import values

    known = list(dict.fromkeys(given))
    if not known and (data.path / "label.json").is_file():
        told = data.read_json("label.json")
        known = [str(one) for one in told["classes"]] if told["name"] == name else []
    known = known or values(data, name)
    if len(known) < 2:
        what = f"the classes of {name!r} are not known."
        raise SettingError(what, where="volant label", fix="Name each: --class spam --class ham")
    return known


def whole(sample: Sample) -> str:
    """All of a record as an HTML fragment, for a preview cuts it; nothing where only a preview can show it."""
    if sample.shape == "row":
        cells = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in _cells(sample))
        return f'<dl class="cells">{"".join(cells)}</dl>'
    if sample.shape in CONTENT_SHAPES:
        kind = _picture(sample.media or b"")
        data = base64.b64encode(sample.media or b"").decode() if kind else ""
        return f'<img alt="The picture" src="data:{kind};base64,{data}">' if kind else ""
    if sample.shape == "text":
        return f"<pre>{escape(sample.content or '')}</pre>"
    parts = (f"<dt>{escape(who)}</dt><dd><pre>{escape(said)}</pre></dd>" for who, said in _turns(sample))
    return f"<dl>{''.join(parts)}</dl>"


def _picture(raw: bytes) -> str:
    """The type of a picture that a browser shows as it is; empty for others, and where it is too large to send."""
    if len(raw) > _LARGEST:
        return ""
    kinds = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
    return next((kind for head, kind in kinds.items() if raw.startswith(head)), "")


def _turns(sample: Sample) -> list[tuple[str, str]]:
    """Who said what."""
    told = [(turn["role"], turn["content"]) for turn in sample.messages]
    return [*told, ("rejected", sample.rejected)] if sample.rejected else told


def _cells(sample: Sample) -> list[tuple[str, str]]:
    """Each column of a row and what it says."""
    found = json.loads(sample.content or "{}")
    return [(str(name), "missing" if value is None else str(value)) for name, value in found.items()]


def _plain(sample: Sample) -> str:
    """A record for the terminal, with no control characters that would move its cursor.

    Raises:
        SettingError: it is a picture.
    """
    if sample.shape == "media":
        raise SettingError("pictures are not shown here.", where="--terminal", fix="Leave it out and use the page.")
    if sample.shape == "row":
        text = "\n".join(f"{name}: {value}" for name, value in _cells(sample))
    else:
        text = "\n\n".join(f"{who}: {said}" for who, said in _turns(sample))
        text = sample.text if sample.shape == "text" else text
    text = legible(text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} … ({len(text):,} characters)"


def legible(text: str) -> str:
    """The text without the control characters that would move a terminal's cursor, or hide what stands there."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def known_as(rater: str) -> str:
    """The name that a person judges under: as they gave it, as on the page, else the system's.

    Raises:
        SettingError: neither is there, as in a container whose user has no name.
    """
    try:
        return rater.strip() or getpass.getuser()
    except (KeyError, OSError) as error:
        raise SettingError("this system knows no name of yours.", where="--rater", fix="Give one.") from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("the guideline cannot be read.", where=str(file), fix="Give a text file in UTF-8.") from error


def _ask(desk: Desk, rater: str) -> None:
    """One record after another at the keyboard."""
    passed: list[str] = []
    words = {key: value for key, value in zip(desk.keys, desk.classes, strict=True) if key} | {desk.unsure: ""}
    listed = "  ".join(f"{key}={value or 'unsure'}" for key, value in words.items())
    kept, back = 0, ""
    while True:
        id = back or next((one for one in desk.queue(rater) if one not in passed), "")
        if not id:
            break
        _show(desk, id, rater)
        try:
            key = input(f"{listed}  s(kip) u(ndo) q(uit)? ").strip().lower()
        except (EOFError, KeyboardInterrupt):
            break
        if key == "q":
            break
        if key == "u":
            back = desk.undo(rater)
            present.say("Your last word was taken back." if back else "There is no word of yours to take back.")
            kept -= bool(back)
            continue
        back = ""
        if key == "s":
            passed.append(id)
        elif key in words:
            desk.judge(id, words[key], rater)
            kept += 1
        else:
            present.say(f"{key!r} is no answer: type one of {', '.join(words)}, s, u or q.")
            back = id
    told = desk.progress(rater)
    alpha = "" if told["agreement"] is None else f"; Krippendorff's alpha {told['agreement']:.2f}"
    present.say(f"\nKept {max(0, kept)} words in {desk.file}; {told['left']} records are left{alpha}.")
    present.say("Name that file as `people` of collect.label; --adjudicate offers what raters disagree on.")


def _show(desk: Desk, id: str, rater: str) -> None:
    sample, told = desk.samples[id], desk.progress(rater)
    present.say(f"\n-- {told['done']} done, {told['left']} left --\n{_plain(sample)}\n")
    if desk.adjudicate:
        for by, value in sorted(desk.said().get(id, {}).items()):
            present.say(f"  {by}: {value}")
        mark = sample.attrs.get("suspect", {}).get(desk.name)
        if mark:
            present.say(f"  labelled {mark['given']}, the other records say {mark['suggested']}")


def _serve(desk: Desk, preview: Callable[[Sample], str], guide: str, port: int) -> None:
    from volant.serving.labelling import create_app
    from volant.serving.local_page import serve

    app = create_app(desk, preview, guide)
    serve(app, port, lambda url: present.say(f"Label at {url}  (Ctrl-C ends; labels go to {desk.file})"))
    present.say("Ended; every word is kept.")
