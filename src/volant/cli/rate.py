"""People's judgement: `volant rate` compares pairs of answers, `volant approve` releases content.

Enters: prompts (or conditions of pictures and rows, see `sides.py`) and a person at the keyboard, or several on a page
(`rate_page.py`). Leaves: ratings in the records, which `align.preferences` reads. The two answers are shown in an order
that the person cannot guess.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

import typer

from volant.cli import complete, place, present, rate_page, sides
from volant.cli.label import known_as, legible, whole
from volant.cli.talk import Controls, Heat, Most, Name, controls_of, open_session, speaks
from volant.core.artifact import Dataset
from volant.core.errors import DataError
from volant.core.protocols import Request, Session
from volant.core.sample import Split, better, content_text, spread

if TYPE_CHECKING:
    from volant.project import Project

_WHICH = "Better: a, b, t(ie), s(kip), q(uit)? "
S = TypeVar("S")
Asked: TypeAlias = tuple[str, tuple[Mapping[str, str], ...]]
"""A prompt as it is kept, and the turns that the model is asked with."""


@dataclass(frozen=True)
class Shown:
    """A pair in the order shown.

    Attributes:
        prompt, a, b: as they are kept.
        told: for the terminal; empty for the page.
        html: prompt and answers for the page, escaped; empty for the terminal.
    """

    prompt: str
    a: str
    b: str
    told: str = ""
    html: tuple[str, str, str] = ("", "", "")


def rate(
    model: Name = "",
    prompts: Annotated[
        Path | None,
        typer.Option(help="A text file with one prompt a line; else three of four are train prompts, one validation."),
    ] = None,
    count: Annotated[int, typer.Option(help="How many pairs to show.", min=1, max=10_000)] = 20,
    rater: Annotated[str, typer.Option(help="Your name in the records; on the page each types one.")] = "",
    scores: Annotated[
        bool, typer.Option("--scores", help="Score each answer from 1 to 5; the higher one wins.")
    ] = False,
    page: Annotated[bool, typer.Option("--page", help="Ask on a local page in the browser, not here.")] = False,
    port: Annotated[int, typer.Option(help="Of the page; 0 takes a free one.", min=0, max=65535)] = 0,
    max_tokens: Most = 96,
    temperature: Heat = 0.9,
    seed: Annotated[int, typer.Option(help="For the sampled answers and their order.")] = 0,
    control: Controls = None,
    out: Annotated[
        Path, typer.Option(help="The folder that pictures, and a page with both, go to; without --page.")
    ] = Path("rated"),
) -> None:
    """Compare two answers to the same prompt, pair after pair; `align.preferences` learns from the choices.

    Type `a` or `b` for the better answer, `t` for a tie, `s` to skip, `q` to leave; with --scores two digits, as `4 2`.
    Each choice is kept at once, and nobody is asked twice. On the page several people may rate, each under a name.

    Examples:

        volant rate --count 30 --rater ana

        volant rate --page --scores
    """
    opened, name = place.project(), "" if page else known_as(rater)
    asked = [] if prompts is None else _lines(prompts)[:count]
    found, session = open_session(opened, model)
    try:
        if speaks(found):
            turns = [_plain(text) for text in asked] or _prompts(opened, count)
            pairs, total = _texts(session, turns, seed, max_tokens, temperature, page=page), len(turns)
        else:
            asked, folder = asked or sides.conditions(opened, count, seed), None if page else out
            pairs = _contents(found.about.modality, session, asked, seed, controls_of(control), folder)
            total = len(asked)
        if page:
            rate_page.serve(opened, pairs, total, scored=scores, port=port)
            return
        kept = _ask(opened, pairs, name, scored=scores)
    finally:
        session.close()
    present.say(f"Kept {kept} ratings. `align.preferences` uses them in the next `volant run`.")


def _ask(opened: Project, pairs: Iterator[Shown], rater: str, *, scored: bool) -> int:
    """One pair after another at the keyboard; how many ratings were kept."""
    kept, drawn, shown, said = 0, 0, 0, _judged(opened, rater)
    for pair in pairs:
        drawn += 1
        if (pair.prompt, frozenset((pair.a, pair.b))) in said:
            continue
        shown += 1
        present.say(legible(pair.told))
        given = _marks() if scored else None
        choice = given if isinstance(given, str) else better(given) if given else _key(_WHICH, "abtsq")
        if choice == "q":
            break
        if choice != "s":
            marks = given if isinstance(given, tuple) else None
            opened.records.add_rating(pair.prompt, pair.a, pair.b, {"t": "tie"}.get(choice, choice), rater, marks)
            kept += 1
    if drawn and not shown:
        present.say(f"{rater} has rated all of these pairs before; another --seed draws other ones.")
    elif not drawn:
        present.say("No two answers differed, so there is nothing to compare; a higher --temperature sets them apart.")
    return kept


def _judged(opened: Project, rater: str) -> set[tuple[str, frozenset[str]]]:
    """The prompts and pairs of answers that somebody has chosen between already."""
    known = rate_page.said_before(opened)
    return {(str(row["prompt"]), frozenset((str(row["a"]), str(row["b"])))) for row in known if row["rater"] == rater}


def _marks() -> tuple[int, int] | str:
    """Two scores; or `s` to skip, `q` to leave."""
    while True:
        given = _typed("Scores of a and b, 1 (poor) to 5, as `4 2`; s(kip), q(uit)? ")
        if given[:1] in ("s", "q"):
            return given[:1]
        digits = given.replace(",", " ").replace(" ", "")
        if len(digits) == 2 and set(digits) <= set("12345"):
            return int(digits[0]), int(digits[1])


def _texts(
    session: Session, asked: Sequence[Asked], seed: int, max_tokens: int, temperature: float, *, page: bool
) -> Iterator[Shown]:
    """Pairs of answers that differ."""
    for number, (text, turns) in enumerate(asked):
        pair = _pair(session, turns, max_tokens, temperature, seed + 2 * number)
        if pair is None or pair[0] == pair[1]:
            continue
        a, b = _shuffled(*pair, seed + number)
        if page:
            prompt, left, right = (f"<pre>{escape(part)}</pre>" for part in (text, a, b))
            yield Shown(text, a, b, html=(prompt, left, right))
        else:
            yield Shown(text, a, b, f"\n--- {number + 1}/{len(asked)} ---\n{text}\n\n[a] {a}\n\n[b] {b}\n")


def _contents(
    modality: str, session: Session, asked: Sequence[str], seed: int, controls: dict[str, float], out: Path | None
) -> Iterator[Shown]:
    """The same for pictures, rows and the like, which are kept as text; without a folder for the page."""
    from volant.modalities import open_modality

    kind = open_modality(modality)
    for number, text in enumerate(asked):
        pair = sides.drawn(session, text, controls, seed + 2 * number)
        if pair is None:
            continue
        pair = _shuffled(*pair, seed + number)
        a, b = (content_text(one, kind.media_type) for one in pair)
        if a == b:
            continue
        if out is None:
            left, right = (whole(one) or kind.preview([one]) for one in pair)
            yield Shown(text, a, b, html=(f"<pre>{escape(text or 'anything')}</pre>", left, right))
        else:
            shown = sides.show(kind, text, pair, out, number + 1)
            yield Shown(text, a, b, f"\n--- {number + 1}/{len(asked)} ---\n{shown}\n")


def _shuffled(a: S, b: S, seed: int) -> tuple[S, S]:
    """Both in an order that the person cannot guess."""
    return (b, a) if random.Random(seed).random() < 0.5 else (a, b)


def _plain(text: str) -> Asked:
    return text, ({"role": "user", "content": text},)


def _lines(file: Path) -> list[str]:
    """The prompts of a file.

    Raises:
        DataError: it is not there, is no UTF-8 or holds none.
    """
    if not file.is_file():
        raise DataError("there is no such file.", where=str(file), fix="Check the path after --prompts.")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError("the file is no UTF-8 text.", where=str(file), fix="Save it as UTF-8.") from error
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise DataError("the file holds no prompt.", where=str(file), fix="Write one a line.")
    return found


def _prompts(opened: Project, count: int) -> list[Asked]:
    """Prompts of the newest dataset: of four, three that a reward model may learn from and one that it is tested on."""
    from volant.scorers.measure import prompt_of, request_of
    from volant.store.dataset import rows

    data = place.newest(opened, Dataset)

    def some(split: Split, most: int) -> list[Asked]:
        tasks = (s for s in rows(data, split) if s.shape in ("completion", "messages", "preference"))
        return [(prompt_of(sample), request_of(sample).messages) for sample in spread(tasks, most)] if most else []

    held = some("validation", count // 4)
    learnt = some("train", count - len(held))
    held = some("validation", count - len(learnt)) if len(held) + len(learnt) < count else held
    # Who leaves early has rated of both: one held out after every three.
    placed = [((n + 1) / len(part), one) for part in (learnt, held) for n, one in enumerate(part)]
    order = sorted(placed, key=itemgetter(0))
    if not order:
        raise DataError("there is no prompt to answer.", fix="Give a file: volant rate --prompts prompts.txt")
    return [one for _, one in order]


def _pair(
    session: Session, turns: tuple[Mapping[str, str], ...], max_tokens: int, temperature: float, seed: int
) -> tuple[str, str] | None:
    """Two answers to one prompt, sampled with two seeds, in one batch; None where the model fails, which is said."""
    requests = [
        Request(id=uuid.uuid4().hex, messages=turns, max_tokens=max_tokens, temperature=temperature, seed=seed + i)
        for i in range(2)
    ]
    answers = {request.id: "" for request in requests}
    failed = ""
    for chunk in session.generate(requests):
        answers[chunk.id] += chunk.text
        failed = chunk.error if chunk.finish == "error" else failed
    if failed:
        present.say(f"({turns[-1]['content']!r}: {failed})")
        return None
    a, b = (answers[request.id].strip() for request in requests)
    return a, b


def _key(question: str, keys: Sequence[str]) -> str:
    while True:
        given = _typed(question)[:1]
        if given and given in keys:
            return given


def _typed(question: str) -> str:
    """What was typed, in small letters; `q` where the input ends."""
    try:
        return input(question).strip().lower()
    except (EOFError, KeyboardInterrupt):
        print()
        return "q"


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
