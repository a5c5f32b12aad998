"""`volant tune`: search the settings of a step within the ranges that the project file gives.

Enters: a step with `search`. Leaves: the trials in the records, a page, and the best values: as a `--set` line, or in
the project file.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from volant.cli import complete, place, present
from volant.cli.interrupt import stops
from volant.cli.terminal import watcher
from volant.cli.wheel import Device, Json, Threads

if TYPE_CHECKING:
    from pathlib import Path

    from volant.project import Project
    from volant.project.trials import Search


def tune(
    step: Annotated[str, typer.Argument(help="The step whose `search` is tried.", autocompletion=complete.steps)],
    trials: Annotated[int, typer.Option(help="How many trials in all; those made before count.", min=1)] = 20,
    goal: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="METRIC",
            help="A metric of the step, or STEP.METRIC of a later one; its main one if empty.",
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="Of the search; another one tries other values.", min=0)] = 0,
    write: Annotated[bool, typer.Option("--write", help="Put the best values into the project file.")] = False,
    device: Device = "",
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Search the settings of a step, by Optuna, within the ranges under its `search` in the project file.

    A trial that falls behind is ended early. Stopped or killed, the same command carries on. Figures come from
    validation samples, never from the test split.

    Examples:

        volant tune tuned

        volant tune tuned --trials 40 --for report.relevance --write
    """
    from volant.project.tuning import search

    opened = place.project(watcher(sys.stderr if json else sys.stdout), device=device, threads=threads)
    with stops(opened.stop):
        found = search(opened, step, trials=trials, goal=goal, seed=seed)
    page = _page(opened, found)
    if json:
        present.as_json({**found.as_json(), "page": str(page)})
    else:
        _tell(found, page)
    if write and found.best is not None:
        from volant.project.spec_edit import write_settings

        write_settings(opened.root / place.FILE, step, found.best.values)
        if not json:
            present.say(f"Written into {place.FILE}.")


def _page(opened: Project, found: Search) -> Path:
    from volant.project.tuning_page import tuning_page

    path = opened.store.root / "pages" / f"tune-{found.step}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tuning_page(found), encoding="utf-8")
    return path


def _tell(found: Search, page: Path) -> None:
    from volant.project.spec_edit import shown

    best = found.best
    counts = {state: sum(t.state == state for t in found.trials) for state in ("done", "pruned", "failed")}
    present.say(
        f"{len(found.trials)} trials: {counts['done']} done, {counts['pruned']} ended early, {counts['failed']} failed."
    )
    if found.importance:
        present.table(["setting", "share#"], [[name, f"{share:.0%}"] for name, share in found.importance.items()])
    if best is None:
        present.say("No trial came to a figure.")
    else:
        words = " ".join(f"--set '{found.step}.{name}={shown(value)}'" for name, value in best.values.items())
        present.say(f"Best: trial {best.number}, {found.metric} {best.score:.4g}. To use it:")
        present.say(f"  volant run {words}")
    present.say(f"Page: {page}")
