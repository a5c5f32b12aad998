"""The commands in the order in which people meet them, and what becomes of an error.

Enters: parsed words. Leaves: the call of one command. Each command is a function in the file of its
kind; here is only the list, so that the whole surface is seen at once.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from volant.cli import (
    doctor,
    init,
    keep,
    label,
    label_exchange,
    look,
    metrics_export,
    present,
    rate,
    service,
    talk,
    tournament,
    trace,
    tune,
    wheel,
)
from volant.core.errors import PathError, VolantError


class Group(TyperGroup):
    """Turns the errors of users into one message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except VolantError as error:
            present.fail(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(130) from error


HELP = """Take a generative model through its whole life, and round again.

A project is a folder with a `volant.yaml`: its steps go through plan, collect, pretrain, prompt, finetune,
align, evaluate, compress, deploy, deliver and improve. `volant run` runs what is stale; `volant turn` feeds
what use taught back in and promotes the result only if it is better.

Start:  volant init mine --template finetune --data my.jsonl --base ./model
"""

app = typer.Typer(
    name="volant",
    cls=Group,
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        import volant

        present.say(volant.__version__)
        raise typer.Exit


@app.callback()
def start(
    folder: Annotated[
        Path | None,
        typer.Option("--folder", "-C", help="Work as if started in this folder.", exists=True, file_okay=False),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """What comes before every command."""
    if folder is not None:
        os.chdir(folder)
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise PathError("the folder that this terminal is in was deleted.", fix="Change to another one.") from error


def _demo(
    folder: Annotated[Path, typer.Argument(help="Where the example project is made.")] = Path("demo"),
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train a base too, not the one that comes with Volant.")
    ] = False,
) -> None:
    """Run the docstrings example through all stages, twice; a few minutes, no network."""
    from volant.cli.demo import demo

    demo(folder, from_scratch=from_scratch)


_PANELS: dict[str, dict[str, Any]] = {
    "Start": {"init": init.init, "demo": _demo, "doctor": doctor.doctor, "methods": look.methods},
    "Turn the wheel": {
        "run": wheel.run,
        "tune": tune.tune,
        "turn": wheel.turn,
        "status": wheel.status,
        "rollback": wheel.rollback,
    },
    "Look": {
        "show": look.show,
        "diff": look.diff,
        "compare": look.compare,
        "tournament": tournament.tournament,
        "lineage": look.lineage,
        "trace": trace.trace,
        "card": keep.card,
        "metrics-export": metrics_export.metrics_export,
    },
    "Use": {
        "generate": talk.generate,
        "chat": talk.chat,
        "serve": service.serve,
        "up": service.up,
        "down": service.down,
        "label": label.label,
        "label-export": label_exchange.label_export,
        "label-import": label_exchange.label_import,
        "rate": rate.rate,
        "approve": rate.approve,
    },
    "Keep": {
        "forget": trace.forget,
        "verify": keep.verify,
        "rebuild": keep.rebuild,
        "gc": keep.gc,
        "push": keep.push,
        "pull": keep.pull,
    },
}

for _panel, _commands in _PANELS.items():
    for _name, _function in _commands.items():
        # A bracket in a docstring is one (`volant[mlflow]`), no word to the terminal.
        app.command(_name, rich_help_panel=_panel, help=escape(inspect.getdoc(_function) or ""))(_function)
