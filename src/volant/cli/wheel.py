"""Turning the wheel: `volant run`, `turn`, `status`, `rollback`.

Enters: a project file and a few words. Leaves: artifacts, promotions, and a table that says what is
fresh, what is stale, and how each figure stands beside its target.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from volant.cli import complete, place, present, service
from volant.cli.interrupt import stops
from volant.cli.terminal import duration, watcher
from volant.core.errors import SettingError
from volant.core.method import STAGES

if TYPE_CHECKING:
    from volant.project import Project
    from volant.project.execute import Done
    from volant.project.looking import StepState
    from volant.project.planning import Planned

Json = Annotated[
    bool, typer.Option("--json", help="Print JSON for a program to read; progress goes to standard error.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps; the project file's by default.")]
Threads = Annotated[
    int, typer.Option(help="How many threads a step may use; 0: the project file's, else all cores.", min=0)
]
Processes = Annotated[
    int,
    typer.Option(help="How many processes share a training, one GPU each; 0: the project file's, else one.", min=0),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STEP.NAME=VALUE", help="Override one setting for this run; may be repeated."),
]


def overrides(words: list[str] | None) -> dict[str, Any]:
    """`tuned.rank=16` as `{"tuned.rank": 16}`.

    Raises:
        SettingError: a word has another form.
    """
    found: dict[str, Any] = {}
    for word in words or []:
        name, sign, value = word.partition("=")
        if not sign or "." not in name:
            raise SettingError(f"--set takes STEP.NAME=VALUE, not {word!r}.", fix="As in: --set tuned.rank=16")
        from volant.project.spec_file import parse_value

        found[name.strip()] = parse_value(value)
    return found


def run(
    steps: Annotated[
        list[str] | None, typer.Argument(help="Only these steps and what they need.", autocompletion=complete.steps)
    ] = None,
    set_: Set = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Run again what older code made, and the named steps in any case.")
    ] = False,
    device: Device = "",
    threads: Threads = 0,
    processes: Processes = 0,
    json: Json = False,
) -> None:
    """Run every step that is not fresh, in order; what is fresh is taken from the store.

    Ctrl-C makes a checkpoint and ends with exit code 130; the next `volant run` carries on from it.

    Examples:

        volant run

        volant run tuned --set tuned.rank=16

        volant run report --refresh
    """
    started = time.monotonic()
    told = watcher(sys.stderr if json else sys.stdout)
    opened = place.project(told, device=device, threads=threads, processes=processes)
    settings = overrides(set_)
    _say_ranges(opened, steps or (), settings)
    done: dict[str, Done] = {}

    def seen(step: Planned, result: Done) -> None:
        done[step.name] = result
        if not result.fresh:
            opened.watcher.say(step.name, f"made {_kind(result)} in {duration(result.seconds)}")

    with stops(opened.stop):
        opened.go(steps or (), settings=settings, refresh=refresh, on_step=seen)
    if json:
        present.as_json({name: _result(result) for name, result in done.items()})
        return
    ran = [name for name, result in done.items() if not result.fresh]
    older = [name for name, result in done.items() if result.older_code]
    if not ran:
        present.say(f"All steps are fresh ({len(done)}); nothing to do.")
    else:
        spent = duration(time.monotonic() - started)
        present.say(f"{len(ran)} of {len(done)} steps ran in {spent}: {', '.join(ran)}.")
    if older:
        present.say(f"Fresh, made by older code: {', '.join(older)}. `volant run --refresh` makes them again.")


def _say_ranges(opened: Project, only: Sequence[str], settings: Mapping[str, Any]) -> None:
    """A run takes one value of each setting; where the file gives ranges, say which."""
    from volant.project.nested import value_at
    from volant.project.planning import plan_steps

    spec = opened.need_spec()
    if not any(step.search for step in spec.steps.values()):
        return
    for step in plan_steps(spec, settings):
        if step.choices and (not only or step.name in only):
            found = {c.name: value_at(step.arguments, c.name) for c in step.choices}
            taken = ", ".join(f"{n} {'by default' if v is None else v}" for n, v in found.items())
            opened.watcher.say(step.name, f"takes {taken}; `volant tune {step.name}` searches the ranges")


def _kind(result: Done) -> str:
    return f"{result.artifact.kind} {result.artifact.digest[:12]}"


def _result(result: Done) -> dict[str, Any]:
    return {
        "kind": result.artifact.kind,
        "digest": result.artifact.digest,
        "path": str(result.artifact.path),
        "fresh": result.fresh,
        "older_code": result.older_code,
        "run": result.run,
        "seconds": round(result.seconds, 3),
        "scores": result.artifact.card.scores if result.artifact.card else [],
    }


def turn(
    device: Device = "",
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Feed what use taught back in, retrain, compare with the champion, promote only if better.

    The candidate has to win a paired test on the sealed test split, pass every gate and the review. The first
    turn makes the first champion. A running server follows the champion by itself.

    Example:  volant turn
    """
    from volant.project import turning

    opened = place.project(watcher(sys.stderr if json else sys.stdout), device=device, threads=threads)
    with stops(opened.stop):
        result = turning.turn(opened)
    if json:
        present.as_json(result)
        return
    words = {
        "first": "The first champion",
        "promoted": "Promoted",
        # Where the review blocks the first candidate there is no champion that could stay.
        "kept": "The champion stays" if result.champion else "Not promoted",
        "nothing new": "Nothing new",
    }
    # What stays is the champion, not the candidate that did not beat it.
    stays = result.outcome == "kept" and result.champion
    present.say(f"{words[result.outcome]}: {(stays or result.candidate)[:12]}")
    for reason in result.reasons:
        present.say(f"  {reason}")
    for name, digest in result.reports.items():
        present.say(f"  {name:<8} volant show {digest[:12]} --page")


def rollback(
    alias: Annotated[str, typer.Argument(help="The alias to move back; the loop's by default.")] = "",
    json: Json = False,
) -> None:
    """Take the last promotion back: the alias points to the model before. A running server follows.

    Example:  volant rollback
    """
    from volant.project import turning

    promotion = turning.rollback(place.project(), alias)
    if json:
        present.as_json(promotion)
        return
    present.say(f"{promotion.alias} is {promotion.digest[:12]} again (was {(promotion.previous or 'nothing')[:12]}).")


_COLOURS = {"fresh": "green", "fresh, older code": "green", "stale": "yellow", "stopped": "yellow", "failed": "red"}
_MARKS = {"fresh": "●", "fresh, older code": "●", "stale": "◐", "stopped": "◐", "failed": "✗", "never run": "○"}


def status(json: Json = False) -> None:
    """Show the wheel: each step fresh, stale or failed, its figure beside its target, time beside its estimate.

    Examples:

        volant status

        volant status --json | jq '.steps[] | select(.met == false)'
    """
    from volant.project import looking

    opened = place.project()
    rows = looking.status(opened)
    aliases = {row.name: row.digest for row in opened.records.aliases()}
    live = service.live(opened)
    if json:
        present.as_json({"steps": [row.as_json() for row in rows], "aliases": aliases, "serving": live})
        return
    present.table(
        ["", "step", "method", "state", "figure", "target", "took#", "expected#"], [_line(row) for row in rows]
    )
    loop = opened.spec.loop if opened.spec else None
    uses = [row.method for row in rows] + ([loop.source] if loop else [])
    unused = [stage for stage in STAGES if not any(use.startswith(f"{stage}.") for use in uses)]
    if unused:
        present.say(f"Stages without a step here: {', '.join(unused)}.")
    if loop:
        present.say(f"The loop turns {loop.source} into {loop.into}.")
    for name, digest in aliases.items():
        present.say(f"{name}: {digest[:12]}")
    if live:
        present.say(f"Serving {str(live.get('model', ''))[:12]} at {live.get('url', '')} (pid {live.get('pid', '?')}).")


def _line(row: StepState) -> list[str | Text]:
    colour = _COLOURS.get(row.state, "dim")
    words = row.state if not row.why or row.state.startswith("fresh") else f"{row.state}: {row.why}"
    figure = Text(str(row.score) if row.score else "")
    if row.met is not None:
        figure.stylize("green" if row.met else "red")
        figure.append(" met" if row.met else " missed")
    took = "" if row.seconds is None else duration(row.seconds)
    expected = "" if row.estimated_seconds is None else duration(row.estimated_seconds)
    if row.estimated_bits is not None:
        bits, low, high = row.estimated_bits
        expected += f", {bits:.2f} bits ({low:.2f} to {high:.2f})"
        took += "" if row.bits is None else f", {row.bits:.2f} bits"
    return [
        Text(_MARKS[row.state], colour),
        row.step,
        row.method,
        Text(words, colour),
        figure,
        row.target,
        took,
        expected,
    ]
