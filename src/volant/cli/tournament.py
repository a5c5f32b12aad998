"""`volant tournament`: base against few-shot against LoRA against full, on one dataset, in one step.

Enters: a model and a dataset of the project. Leaves: a table, a page with a plot, JSON beside it; each way as a step.
"""

from __future__ import annotations

import sys
from json import dumps
from typing import Annotated

import typer

from volant.cli import complete, place, present
from volant.cli.interrupt import stops
from volant.cli.terminal import watcher
from volant.cli.wheel import Device, Json, Threads
from volant.core.artifact import Dataset, Model


def tournament(
    model: Annotated[str, typer.Argument(help="The base: an alias, step or digest.", autocompletion=complete.things)],
    data: Annotated[str, typer.Argument(help="Prompts with answers, split.", autocompletion=complete.things)],
    ways: Annotated[
        str, typer.Option(help="Which ways, with commas: few-shot, lora, full, qlora.")
    ] = "few-shot,lora,full",
    metric: Annotated[str, typer.Option(help="What decides: bits_per_byte or a scorer.")] = "bits_per_byte",
    epochs: Annotated[float, typer.Option(help="Passes of each training over the data.", min=0.01)] = 1.0,
    limit: Annotated[int, typer.Option(help="Validation samples that are measured.", min=2)] = 96,
    seed: Annotated[int, typer.Option(help="Of every way.", min=0)] = 0,
    device: Device = "",
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Compare the base with few-shot, LoRA and full fine-tuning: quality, cost and time, and whether one wins.

    Each way is kept as a step, so the same command again measures alone. A winner is named only where paired tests on
    the same validation samples say so.

    Examples:

        volant tournament base clean

        volant tournament base clean --ways lora,full,qlora --epochs 2
    """
    from volant.project import tournament as played
    from volant.project.tournament_page import costs, tournament_page

    opened = place.project(watcher(sys.stderr if json else sys.stdout), device=device, threads=threads)
    base, pairs = place.artifact(opened, model, Model), place.artifact(opened, data, Dataset)
    chosen = [way.strip() for way in ways.split(",") if way.strip()]
    with stops(opened.stop):
        found = played.tournament(
            opened, base, pairs, ways=chosen, metric=metric, epochs=epochs, limit=limit, seed=seed
        )
    page = opened.store.root / "pages" / "tournament.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(tournament_page(found), encoding="utf-8")
    page.with_suffix(".json").write_text(dumps(found.as_json(), indent=1) + "\n", encoding="utf-8")
    if json:
        present.as_json({**found.as_json(), "page": str(page)})
        return
    rows = [
        [r["entrant"].name, f"{r['score'].value:.4g}", r["verdict"], *costs(r["entrant"])]
        for r in played.as_rows(found)
    ]
    present.table(["way", f"{found.metric}#", "against the best", "CPU s#", "seconds#", "memory#", "kept#"], rows)
    present.say(found.said)
    present.say(f"Page: {page}")
