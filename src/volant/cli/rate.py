"""People's judgement: `volant rate` compares pairs of answers, `volant approve` releases content.

Enters: prompts (or conditions of pictures and rows, see `sides.py`) and a person at the keyboard. Leaves: ratings in
the records, which `align.preferences` reads. The two answers are shown in an order that the person cannot guess.
"""

from __future__ import annotations

import getpass
import random
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

import typer

from volant.cli import complete, place, present, sides
from volant.cli.talk import Controls, Heat, Most, Name, controls_of, open_session, speaks
from volant.core.artifact import Dataset
from volant.core.errors import DataError
from volant.core.protocols import Request, Session
from volant.core.sample import content_text, spread

if TYPE_CHECKING:
    from volant.project import Project

S = TypeVar("S")
Shown: TypeAlias = tuple[str, str, str, str]
"""The prompt, the two answers as they are kept, in the order shown, and what to print."""


def rate(
    model: Name = "",
    prompts: Annotated[
        Path | None, typer.Option(help="A text file with one prompt a line; the validation split by default.")
    ] = None,
    count: Annotated[int, typer.Option(help="How many pairs to show.", min=1, max=10_000)] = 20,
    rater: Annotated[str, typer.Option(help="Your name in the records; a pseudonym will do.")] = "",
    max_tokens: Most = 96,
    temperature: Heat = 0.9,
    seed: Annotated[int, typer.Option(help="For the sampled answers and their order.")] = 0,
    control: Controls = None,
    out: Annotated[Path, typer.Option(help="The folder that pictures and the page with both go to.")] = Path("rated"),
) -> None:
    """Compare two answers to the same prompt, pair after pair; `align.preferences` learns from the choices.

    Type `a` or `b` for the better answer, `t` for a tie, `s` to skip, `q` to leave. Each choice is kept at once.
    Pictures and rows are written to files and to a page that shows both; leave it open, it follows.

    Example:  volant rate --count 30 --rater ana
    """
    opened = place.project()
    asked = [] if prompts is None else _lines(prompts)[:count]
    found, session = open_session(opened, model)
    kept = 0
    try:
        if speaks(found):
            pairs = _texts(session, asked or _prompts(opened, count), seed, max_tokens, temperature)
        else:
            asked = asked or sides.conditions(opened, count, seed)
            pairs = _contents(found.about.modality, session, asked, seed, controls_of(control), out)
        for prompt, a, b, shown in pairs:
            choice = _choose(shown)
            if choice == "q":
                break
            if choice != "s":
                opened.records.add_rating(prompt, a, b, {"t": "tie"}.get(choice, choice), rater or getpass.getuser())
                kept += 1
    finally:
        session.close()
    present.say(f"Kept {kept} ratings. `align.preferences` uses them in the next `volant run`.")


def _texts(session: Session, asked: Sequence[str], seed: int, max_tokens: int, temperature: float) -> Iterator[Shown]:
    """Pairs of answers that differ."""
    for number, text in enumerate(asked):
        a, b = _pair(session, text, max_tokens, temperature, seed + 2 * number)
        if a != b:
            a, b = _shuffled(a, b, seed + number)
            yield text, a, b, f"\n--- {number + 1}/{len(asked)} ---\n{text}\n\n[a] {a}\n\n[b] {b}\n"


def _contents(
    modality: str, session: Session, asked: Sequence[str], seed: int, controls: dict[str, float], out: Path
) -> Iterator[Shown]:
    """The same for pictures, rows and the like, which are kept as text."""
    from volant.modalities import open_modality

    kind = open_modality(modality)
    for number, text in enumerate(asked):
        pair = sides.drawn(session, text, controls, seed + 2 * number)
        if pair is None:
            continue
        pair = _shuffled(*pair, seed + number)
        a, b = (content_text(one, kind.media_type) for one in pair)
        if a != b:
            shown = sides.show(kind, text, pair, out, number + 1)
            yield text, a, b, f"\n--- {number + 1}/{len(asked)} ---\n{shown}\n"


def _shuffled(a: S, b: S, seed: int) -> tuple[S, S]:
    """Both in an order that the person cannot guess."""
    return (b, a) if random.Random(seed).random() < 0.5 else (a, b)


def _lines(file: Path) -> list[str]:
    """The prompts of a file.

    Raises:
        DataError: it is not there or holds none.
    """
    if not file.is_file():
        raise DataError("there is no such file.", where=str(file), fix="Check the path after --prompts.")
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    found = [line for line in lines if line]
    if not found:
        raise DataError("the file holds no prompt.", where=str(file), fix="Write one a line.")
    return found


def _prompts(opened: Project, count: int) -> list[str]:
    from volant.store.dataset import rows

    data = place.newest(opened, Dataset)
    tasks = (s for s in rows(data, "validation") if s.shape in ("completion", "messages", "preference"))
    found = [sample.messages[0]["content"] for sample in spread(tasks, count)]
    if not found:
        raise DataError("there is no prompt to answer.", fix="Give a file: volant rate --prompts prompts.txt")
    return found


def _pair(session: Session, text: str, max_tokens: int, temperature: float, seed: int) -> tuple[str, str]:
    """Two answers to one prompt, sampled with two seeds, in one batch."""
    messages = ({"role": "user", "content": text},)
    requests = [
        Request(id=uuid.uuid4().hex, messages=messages, max_tokens=max_tokens, temperature=temperature, seed=seed + i)
        for i in range(2)
    ]
    answers = {request.id: "" for request in requests}
    for chunk in session.generate(requests):
        answers[chunk.id] += chunk.text
    a, b = (answers[request.id].strip() for request in requests)
    return a, b


def _choose(shown: str) -> str:
    present.say(shown)
    return _key("Better: a, b, t(ie), s(kip), q(uit)? ", "abtsq")


def _key(question: str, keys: Sequence[str]) -> str:
    while True:
        try:
            given = input(question).strip().lower()[:1]
        except (EOFError, KeyboardInterrupt):
            print()
            return "q"
        if given and given in keys:
            return given


def approve(
    data: Annotated[
        str, typer.Argument(help="The step or digest of what deliver.generate made.", autocompletion=complete.things)
    ],
    by: Annotated[str, typer.Option(help="Your name; a release by nobody is none.")],
    file: Annotated[Path | None, typer.Option(help="Where decisions are kept; the project's approvals.jsonl.")] = None,
) -> None:
    """Read generated content that waits for a person, and release or refuse each piece.

    Type `y` to release, `n` to refuse, `s` to skip, `q` to leave. Name the file as `approvals` of
    deliver.publish; each decision makes that step stale, and the next `volant run` publishes.

    Example:  volant approve lines --by Ada
    """
    from volant.core.outside import OutsideFile
    from volant.stages.deliver.approval import FILE, Approval, decisions, record
    from volant.store.dataset import rows

    opened = place.project()
    found = place.artifact(opened, data, Dataset)
    target = file or opened.root / FILE
    known = decisions([OutsideFile(target, target.name, 0, "")]) if target.is_file() else {}
    waiting = [s for s in rows(found) if s.attrs.get("approval") == "pending" and s.id not in known]
    kept = 0
    for number, sample in enumerate(waiting):
        asked = f"{sample.condition}\n\n" if sample.condition else ""
        present.say(f"\n--- {number + 1}/{len(waiting)} ---\n{asked}{sample.target or sample.content or ''}\n")
        key = _key("Release: y(es), n(o), s(kip), q(uit)? ", "ynsq")
        if key == "q":
            break
        if key != "s":
            record(target, Approval(id=sample.id, approved=key == "y", by=by))
            kept += 1
    present.say(f"{kept} decisions in {target}; {len(waiting) - kept} still wait.")
