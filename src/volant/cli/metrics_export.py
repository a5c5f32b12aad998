"""`volant metrics-export`: curves and figures of runs as files of TensorBoard or MLflow, afterwards or live.

Enters: a folder and names of steps. Leaves: the tool's own files in that folder. Nothing is sent anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volant.cli import complete, place, present
from volant.cli.interrupt import stops
from volant.core.errors import PathError, SettingError

if TYPE_CHECKING:
    from volant.project import Project
    from volant.project.exporting import Sink

_TOOLS = {"tensorboard": "TensorBoard (pip install tensorboard)", "mlflow": "MLflow (pip install mlflow)"}


def metrics_export(
    folder: Annotated[Path, typer.Argument(help="Where the files go; it may hold earlier ones.")],
    steps: Annotated[
        list[str] | None, typer.Argument(help="Steps; all that ran by default.", autocompletion=complete.steps)
    ] = None,
    to: Annotated[
        str, typer.Option("--to", help="tensorboard or mlflow.", autocompletion=lambda: list(_TOOLS))
    ] = "tensorboard",
    every: Annotated[bool, typer.Option("--all", help="Every run of a step, not its newest alone.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Write what runs now as its points come, until it is over.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Write loss, rate, gradient norm, speed, memory and figures of runs as files that TensorBoard or MLflow reads.

    Needs `pip install 'volant[tensorboard]'` or `'volant[mlflow]'`. The same command again doubles nothing.

    Examples:

        volant metrics-export curves base tuned

        volant metrics-export curves --to mlflow --follow
    """
    from volant.project import exporting

    if follow and every:
        what = "runs that go on are followed, runs that are over are not."
        raise SettingError(what, where="--all --follow", fix="Leave one of them out.")
    opened = place.project()
    sink = _sink(to, folder, opened)
    if follow:
        with stops(opened.stop):
            found = exporting.follow(opened, sink, steps or ())
    else:
        found = exporting.export(opened, sink, steps or (), every=every)
    if json:
        present.as_json(found)
        return
    present.say(f"{sum(found.values()):,} points of {len(found)} runs are in {folder}. With {_TOOLS[to]}:")
    shown = f"tensorboard --logdir {folder}"
    present.say(f"  {shown if to == 'tensorboard' else f'mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db'}")


def _sink(to: str, folder: Path, opened: Project) -> Sink:
    """Where the points go."""
    if to not in _TOOLS:
        raise SettingError(f"there is no tool {to!r} here.", where="--to", fix=f"Choose {' or '.join(_TOOLS)}.")
    file = next((place for place in (folder, *folder.parents) if place.is_file()), None)
    if file is not None:
        raise PathError(f"{file} is a file, and points go into a folder.", where="metrics-export", fix="Name another.")
    if to == "tensorboard":
        from volant.store.tensorboard import TensorBoard

        return TensorBoard(folder)
    from volant.store.mlflow import MLflow

    return MLflow(folder, opened.spec.name if opened.spec else opened.root.name)
