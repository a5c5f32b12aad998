"""People's judgement: `volant rate` compares pairs of answers, `volant approve` releases content.

Enters: prompts and a person at the keyboard. Leaves: ratings in the records, which `align.preferences`
and `improve.harvest` read. The two answers are shown in an order that the person cannot guess.
"""

from __future__ import annotations

import getpass
import random
import uuid
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volant.cli import complete, place, present
from volant.cli.talk import Heat, Most, Name, open_session
from volant.core.artifact import Dataset
from volant.core.errors import DataError
from volant.core.protocols import Request, Session

if TYPE_CHECKING:
    from volant.project import Project


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
) -> None:
    """Compare two answers to the same prompt, pair after pair; `align.preferences` learns from the choices.

    Type `a` or `b` for the better answer, `t` for a tie, `s` to skip, `q` to leave. Each choice is kept at once.

    Example:  volant rate --count 30 --rater ana
    """
    opened = place.project()
    asked = _prompts(opened, prompts, count)
    _, session = open_session(opened, model)
    kept = 0
    try:
        for number, text in enumerate(asked):
            a, b = _pair(session, text, max_tokens, temperature, seed + 2 * number)
            if a == b:
                continue
            if random.Random(seed + number).random() < 0.5:
                a, b = b, a
            choice = _choose(text, a, b, f"{number + 1}/{len(asked)}")
            if choice == "q":
                break
            if choice != "s":
                opened.records.add_rating(text, a, b, {"t": "tie"}.get(choice, choice), rater or getpass.getuser())
                kept += 1
    finally:
        session.close()
    present.say(f"Kept {kept} ratings. `align.preferences` uses them in the next `volant run`.")


def _prompts(opened: Project, file: Path | None, count: int) -> list[str]:
    if file is not None:
        if not file.is_file():
            raise DataError("there is no such file.", where=str(file), fix="Check the path after --prompts.")
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        found = [line for line in lines if line]
    else:
        from volant.store.dataset import rows

        data = place.newest(opened, Dataset)
        tasks = (s for s in rows(data, "validation") if s.shape in ("completion", "messages", "preference"))
        found = [sample.messages[0]["content"] for sample in islice(tasks, count)]
    if not found:
        raise DataError("there is no prompt to answer.", fix="Give a file: volant rate --prompts prompts.txt")
    return found[:count]


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


def _choose(prompt: str, a: str, b: str, place_in: str) -> str:
    present.say(f"\n--- {place_in} ---\n{prompt}\n\n[a] {a}\n\n[b] {b}\n")
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
