"""People's labels: `volant label` shows records one by one, on a local page or in the terminal.

Enters: a dataset and people. Leaves: lines in `labels.jsonl`, one a word, which `collect.label` takes as `people`. The
least sure records come first where the dataset was voted on; else the order is that of a hash, the same for everybody.
"""

from __future__ import annotations

import getpass
import hashlib
from collections.abc import Callable, Sequence
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volant.cli import complete, place, present
from volant.core.artifact import Dataset
from volant.core.errors import DataError, SettingError
from volant.core.sample import CONTENT_SHAPES, Sample

if TYPE_CHECKING:
    from volant.serving.labelling import Desk

_SHOWN = 4000  # characters of a record in the terminal


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
    port: Annotated[int, typer.Option(help="Of the page; 0 takes a free one.", min=0, max=65535)] = 0,
) -> None:
    """Label records on a local page, or in the terminal; several people may, each under a name.

    Keys: 1 to 9 name a class, 0 says that you cannot tell, s skips, the arrows move, u goes back to change your word.
    What others said shows only once you have judged. Each word is on disk before the next record comes.

    Example:  volant label clean --class spam --class ham --name kind
    """
    from volant.modalities import open_modality
    from volant.serving.labelling import Desk
    from volant.store.dataset import rows

    opened = place.project()
    found = place.artifact(opened, data, Dataset)
    target = file or opened.root / "labels.jsonl"
    offered = list(islice(rows(found), 100_000))
    known = _classes(found, offered, name, classes or [])
    desk = Desk(_ordered(offered, name, limit), target, name=name, classes=known, adjudicate=adjudicate)
    told = _text(guide) if guide else ""
    if terminal:
        _ask(desk, rater or getpass.getuser())
        return
    kind = open_modality(str(found.about["modality"]))
    _serve(desk, lambda sample: _whole(sample) or kind.preview([sample]), told, port)


def _classes(data: Dataset, samples: Sequence[Sample], name: str, given: Sequence[str]) -> list[str]:
    """The classes that were named, else those of the vote or of the labels that there are.

    Raises:
        SettingError: fewer than two are known.
    """
    known = list(dict.fromkeys(given))
    if not known and (data.path / "label.json").is_file():
        told = data.read_json("label.json")
        known = [str(one) for one in told["classes"]] if told["name"] == name else []
    known = known or sorted({one.value for sample in samples for one in sample.labels if one.name == name})
    if len(known) < 2:
        what = f"the classes of {name!r} are not known."
        raise SettingError(what, where="volant label", fix="Name each: --class spam --class ham")
    return known


def _ordered(samples: Sequence[Sample], name: str, limit: int) -> list[Sample]:
    """The least sure first; among equals by a hash, so that the order says nothing and is the same for all.

    Suspects are always among them, for the adjudication.
    """

    def key(sample: Sample) -> tuple[bool, float, str]:
        sure = sample.attrs.get("sure", {}).get(name, 0.0)
        return name not in sample.attrs.get("suspect", {}), sure, hashlib.sha256(sample.id.encode()).hexdigest()

    chosen = sorted(samples, key=key)[:limit]
    return sorted(chosen, key=lambda sample: key(sample)[1:])


def _whole(sample: Sample) -> str:
    """All of a text as an HTML fragment, for a preview cuts it; nothing for pictures and rows."""
    if sample.shape in CONTENT_SHAPES:
        return ""
    turns = [("text", sample.content or "")]
    if sample.shape != "text":
        turns = [(turn["role"], turn["content"]) for turn in sample.messages]
    parts = (f"<dt>{escape(who)}</dt><dd><pre>{escape(said)}</pre></dd>" for who, said in turns)
    return f"<dl>{''.join(parts)}</dl>"


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("the guideline cannot be read.", where=str(file), fix="Give a text file in UTF-8.") from error


def _ask(desk: Desk, rater: str) -> None:
    """One record after another at the keyboard."""
    passed: list[str] = []
    listed = "  ".join(f"{number}={value}" for number, value in enumerate(desk.classes, 1))
    kept, last = 0, ""
    while True:
        again = last if last and last not in passed else ""
        id = next((one for one in desk.queue(rater) if one not in passed), "")
        if not id:
            break
        present.say(f"\n{desk.samples[id].text[:_SHOWN]}\n")
        for by, value in sorted(desk.said().get(id, {}).items()) if desk.adjudicate else ():
            present.say(f"  {by}: {value}")
        try:
            key = input(f"{listed}  0=unsure  s(kip) u(ndo) q(uit)? ").strip().lower()
        except (EOFError, KeyboardInterrupt):
            break
        if key == "q":
            break
        if key == "s":
            passed.append(id)
        elif key == "u" and again:
            id = again
            word = desk.words()[id, rater, desk.adjudicate].value or "unsure"
            present.say(f"\n{desk.samples[id].text[:_SHOWN]}\n(you said {word})")
            key = input(f"{listed}  0=unsure? ").strip()
        if key.isdigit() and int(key) <= len(desk.classes):
            desk.judge(id, desk.classes[int(key) - 1] if int(key) else "", rater)
            kept, last = kept + 1, id
    told = desk.progress(rater)
    alpha = "" if told["agreement"] is None else f"; Krippendorff's alpha {told['agreement']:.2f}"
    present.say(f"\nKept {kept} words in {desk.file}; {told['left']} records are left{alpha}.")


def _serve(desk: Desk, preview: Callable[[Sample], str], guide: str, port: int) -> None:
    import uvicorn

    from volant.serving.labelling import create_app
    from volant.serving.run import LOOPBACK, bind

    listener = bind(LOOPBACK, port)
    config = uvicorn.Config(
        create_app(desk, preview, guide),
        log_config=None, access_log=False, server_header=False, lifespan="off", ws="none", proxy_headers=False,
    )  # fmt: skip
    present.say(f"Label at http://{LOOPBACK}:{listener.getsockname()[1]}  (Ctrl-C ends; labels go to {desk.file})")
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        present.say("Ended; every word is kept.")
    finally:
        listener.close()
