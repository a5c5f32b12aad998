"""What the coming steps will take, checked against this machine before anything runs.

Enters: the project's steps with their settings (`run.spec_steps`) and the machine's facts. Leaves: a
Plan with one row a step. The arithmetic and its limits stand in `estimates.py`. A step that cannot fit
stops the project here, with the setting that mends it, and not after an hour with a killed process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Machine, Model, Plan, Records, Run
from volant.core.errors import MachineError, PathError, SettingError
from volant.core.method import method_named

if TYPE_CHECKING:
    from volant.stages.plan.estimates import Estimate, Rates, Sketch


def sizing(
    run: Run,
    *,
    machine: Machine = "here",
    corpus_mb: Annotated[float, Field(gt=0)] = 8.0,
    pairs: Annotated[int, Field(ge=1)] = 4000,
    hours: Annotated[float, Field(ge=0)] = 0.0,
    past: Records = "",
) -> Plan:
    """Estimate size, memory, time, disk and loss of each coming step; refuse what this machine cannot do.

    Args:
        run: brings the coming steps.
        machine: whose facts count; `here` is the only one known.
        corpus_mb: text that is expected to be collected, in MB; time of reading and of unlimited training follow it.
        pairs: task examples expected; the time of fine-tuning follows it.
        hours: the longest that the whole may take, in hours; more is refused. 0 sets no limit.
        past: `*` scales the guesses by what past runs of the same steps really took, and says what these took and
            came to; the plan then differs from machine to machine. Empty: the table alone, so that equal machines
            give equal plans.

    Raises:
        MachineError: a step needs more memory or disk than there is, or all of them more time than `hours`.
    """
    from volant.stages.plan import estimates

    facts = run.snapshot("machine").facts if "machine" in run.outside else {}
    speed = estimates.rates(facts, threads=run.threads, device=run.device)
    amounts = {"corpus_bytes": corpus_mb * 1e6, "pairs": float(pairs)}
    rows = _rows(run, amounts, speed)
    runs: list[dict[str, Any]] = []
    if past and run.records is not None:
        runs = list(run.records.runs())
        factor = _factor(rows, runs)
        speed = estimates.rates(facts, threads=run.threads, device=run.device, factor=factor)
        rows = _rows(run, amounts, speed)
        run.say(f"past runs took {factor:.2g} times what the table says; the guesses are scaled by it")
    if not rows:
        run.say("no step is named yet, so there is nothing to size")
    elif run.modality not in ("text", "code"):
        run.say(f"models of {run.modality} are sized as a small transformer of text would be: a rough guess")
    seconds = sum(row.seconds for row in rows)
    peak, disk = max((row.memory_bytes for row in rows), default=0), sum(row.disk_bytes for row in rows)
    steps = [row.as_json() for row in rows]
    for real in estimates.beside({"steps": steps}, runs):
        if real["took_seconds"] is not None:  # said and not stored: the records have it
            run.say(_beside(real))
    body: dict[str, Any] = {
        "kind": "sizing",
        # Free memory and free disk change by the minute; they are checked and not stored.
        "machine": {
            "cores": facts.get("cores"),
            "memory_bytes": facts.get("memory_bytes"),
            "bf16": facts.get("bf16"),
            "device": run.device,
            "threads": run.threads,
        },
        "steps": steps,
        "seconds": float(f"{seconds:.2g}"),
        "memory_bytes": peak,
        "disk_bytes": disk,
    }
    (run.out / "plan.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    (run.out / "index.html").write_text(_page(body), encoding="utf-8")
    _check(run, rows, facts, hours)
    run.say(
        f"{len(rows)} steps: about {duration(seconds)}, {peak / 2**30:.1f} GiB of memory, "
        f"{disk / 2**20:.0f} MiB of disk"
    )
    return Plan(run.out)


def duration(seconds: float) -> str:
    """Seconds as people say them: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _rows(run: Run, amounts: Mapping[str, float], speed: Rates) -> list[Estimate]:
    """One estimate a step, in order; models are followed from the step that makes them to those that use them."""
    models: dict[str, Sketch] = {}
    rows = []
    for name, method, settings, inputs in run.spec_steps:
        parents = [models[parent] for names in inputs.values() for parent in names if parent in models]
        row, model = _row(run, name, method, settings, parents[0] if parents else None, amounts, speed)
        if model is not None:
            models[name] = model
        rows.append(row)
    return rows


def _row(
    run: Run,
    name: str,
    method: str,
    settings: Mapping[str, Any],
    base: Sketch | None,
    amounts: Mapping[str, float],
    speed: Rates,
) -> tuple[Estimate, Sketch | None]:
    """The estimate of one step, and the model that it hands on."""
    from volant.stages.plan import estimates

    stage, _, verb = method.partition(".")
    if method == "pretrain.base":
        model = _base(run, settings)
        if not model.parameters:
            run.say(f"the size of {name} is not known before it is here; what uses it is not sized")
        return estimates.loading(name, method, model), model
    if stage in ("pretrain", "align"):
        settings = {**_defaults(method), **settings}
    passes = estimates.PASSES.get(method, 1.0)
    if stage in ("pretrain", "finetune") or method in estimates.PASSES:
        model = estimates.sketch(settings, base)
        tokens = _tokens(stage, settings, model.batch_tokens, amounts)
        trained = 0.05 if verb in ("lora", "qlora") or settings.get("rank") else 1.0
        text = run.modality in ("text", "code")
        row = estimates.training(name, method, model, tokens, speed, trained=trained, passes=passes, text=text)
        if settings.get("group_size"):  # what it learns from it draws first
            row = estimates.drawing(row, model, _answers(settings), int(settings["tokens"]), speed)
        return row, model
    if method == "deploy.container" and base is not None:
        return estimates.loading(name, method, base), None
    writes = stage in ("prompt", "evaluate", "deliver", "compress", "deploy", "align")
    if writes and base is not None:
        outputs, tokens_each = _outputs(stage, settings)
        row = estimates.generating(name, method, base, outputs, tokens_each, speed)
        return row, base if method_named(method).returns is Model else None
    corpus = int(amounts["corpus_bytes"]) if stage == "collect" else 1 << 20
    return estimates.reading(name, method, corpus, speed), None


def _defaults(method: str) -> dict[str, Any]:
    """What the method's signature gives the settings that the project file leaves out."""
    fields = method_named(method).fields
    return {name: info.default for name, (_, info) in fields.items() if not info.is_required()}


def _outputs(stage: str, settings: Mapping[str, Any]) -> tuple[int, int]:
    """How many texts a step generates, and how long at most."""
    count = settings.get("limit") or settings.get("prompts") or settings.get("requests")
    count = settings.get("samples") if stage == "align" and not count else count
    count = len(settings.get("ask") or ()) or (count if isinstance(count, int) else 64)
    each = int(settings.get({"deliver": "samples", "align": "answers"}.get(stage, "")) or 1)
    rounds = {"prompt": 2, "compress": 2, "evaluate": 2}.get(stage, 1)  # with and without; the model and the one before
    bias = 2 * int(settings.get("bias_pairs") or 0)
    return (count * each + bias) * rounds, int(settings.get("max_tokens") or settings.get("tokens") or 48)


def _tokens(stage: str, settings: Mapping[str, Any], batch_tokens: int, amounts: Mapping[str, float]) -> float:
    """Tokens that a training step will see, from whichever budget its settings name."""
    from volant.stages.plan.estimates import BYTES_A_TOKEN, CHOICES, PAIR_TOKENS

    if settings.get("group_size"):
        return float(_answers(settings) * (PAIR_TOKENS + settings["tokens"]) * settings.get("updates", 1))
    if settings.get("tokens"):
        return float(settings["tokens"])
    if settings.get("steps"):
        rows = settings.get("batch") or settings.get("rows")
        return float(settings["steps"]) * (float(rows) * PAIR_TOKENS if rows else batch_tokens)
    examples = CHOICES if stage == "align" else amounts["pairs"]
    data = amounts["corpus_bytes"] / BYTES_A_TOKEN if stage == "pretrain" else examples * PAIR_TOKENS
    return data * float(settings.get("epochs") or 1)


def _answers(settings: Mapping[str, Any]) -> int:
    """How many answers a method draws that learns from rewards."""
    steps = settings.get("steps") or settings.get("draws") or 1
    return int(steps) * int(settings["prompts"]) * int(settings["group_size"])


def _base(run: Run, settings: Mapping[str, Any]) -> Sketch:
    """A base from elsewhere: its size from the weights on disk (two bytes a weight); 0 where they are not here."""
    from volant.stages.plan.estimates import Sketch
    from volant.store import shipped

    name = str(settings.get("source") or "")
    try:
        folder = shipped.folder_of(name) if shipped.is_shipped(name) else run.resolver.resolve(name or ".")
    except (PathError, SettingError):  # a hub name, or a step that will be refused when it runs
        folder = Path()
    bytes_ = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if name and folder.is_dir() else 0
    parameters = bytes_ // 2
    depth = max(2, round((parameters / 3e4) ** (1 / 3)))
    return Sketch(parameters, depth, 64 * depth, 32_000, 1024, 2048)


def _factor(rows: list[Estimate], past: list[dict[str, Any]]) -> float:
    """The middle ratio of real to estimated seconds over the steps that have run before."""
    import statistics

    from volant.stages.plan.estimates import beside

    ratios = [row["ratio"] for row in beside({"steps": [row.as_json() for row in rows]}, past) if row["ratio"]]
    return min(20.0, max(0.05, statistics.median(ratios))) if ratios else 1.0


def _check(run: Run, rows: list[Estimate], facts: Mapping[str, Any], hours: float) -> None:
    """Refuse what cannot fit; say what is not known."""
    from volant.stages.plan.estimates import RESERVE

    memory, disk = facts.get("memory_bytes"), facts.get("disk_free_bytes")
    if memory is None or disk is None:
        run.say("the machine does not tell its memory or free disk, so neither was checked")
    for row in rows:
        least = row.least_bytes or row.memory_bytes
        if memory is not None and least > RESERVE * memory and run.device == "cpu":
            need, have = least / 2**30, memory / 2**30
            what = f"{row.method} would need about {need:.1f} GiB of memory ({row.parameters / 1e6:,.0f} M parameters)"
            fix = "Lower `depth` or `context`, take a smaller base, or use finetune.lora."
            raise MachineError(f"{what}; this machine has {have:.1f} GiB.", where=row.step, fix=fix)
    need = sum(row.disk_bytes for row in rows)
    if disk is not None and need > disk:
        largest = max(rows, key=lambda row: row.disk_bytes)
        what = f"the steps would need about {need / 2**30:.2f} GiB of disk, {disk / 2**30:.2f} GiB are free"
        raise MachineError(f"{what}.", where=run.step, fix=f"Free some (`volant gc`); {largest.step} takes most.")
    seconds = sum(row.seconds for row in rows)
    if hours and seconds > hours * 3600:
        longest = max(rows, key=lambda row: row.seconds)
        what = f"the steps would take about {duration(seconds)}, {hours:g} h are allowed"
        fix = f"{longest.step} alone takes {duration(longest.seconds)}: lower its tokens, steps or depth."
        raise MachineError(f"{what}.", where=run.step, fix=fix)


def _page(body: dict[str, Any]) -> str:
    """The estimates for people."""
    from volant.store.page import page, paragraph, section, table, tiles

    rows = [
        (
            row["step"],
            row["method"],
            f"{row['parameters'] / 1e6:,.1f} M" if row["parameters"] else "",
            f"{row['memory_bytes'] / 2**30:.2f} GiB",
            duration(row["seconds"]),
            f"{row['disk_bytes'] / 2**20:,.0f} MiB",
            _loss(row.get("loss")),
            row["basis"],
        )
        for row in body["steps"]
    ]
    columns = ["step", "method", "parameters", "memory", "time", "disk", "loss", "from"]
    machine = body["machine"]
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB" if machine["memory_bytes"] else "unknown memory"
    bf16 = ", bf16" if machine["bf16"] else ""
    parts = [
        tiles([
            ("in all, about", duration(body["seconds"])),
            ("memory at the peak", f"{body['memory_bytes'] / 2**30:.1f} GiB"),
            ("disk", f"{body['disk_bytes'] / 2**20:,.0f} MiB"),
            ("machine", f"{machine['cores'] or '?'} cores, {memory}{bf16}"),
        ]),
        section("Step by step", table(columns, rows, numeric=tuple(range(2, len(columns) - 1)))),
        paragraph("Times are guesses within a factor of three. `volant status` shows what each step really took.",
                  kind="note"),
        paragraph(_LOSS, kind="note") if any(row.get("loss") for row in body["steps"]) else "",
    ]  # fmt: skip
    return page("What it will take", "\n".join(parts), eyebrow="Plan")


_LOSS = (
    "Losses are in bits per byte of held-out text, with the interval that holds nine of ten. They were fitted on "
    "Python's own sources; other text is easier or harder by an amount of its own, and answers mixed in change it."
)


def _loss(loss: Mapping[str, Any] | None) -> str:
    """An expected loss as `1.93 (1.85 to 2.01)`."""
    from volant.stages.plan.scaling import Expected

    return str(Expected(**loss)) if loss else ""


def _beside(real: Mapping[str, Any]) -> str:
    """What a step took and came to, beside what is expected of it now."""
    expected = _loss(real["loss"])
    came = "" if real["became"] is None else f", and came to {real['became']:.2f} bits a byte"
    wanted = f" (expected: {expected})" if came and expected else ""
    took = f"{real['step']} took {duration(real['took_seconds'])} where {duration(real['seconds'])} are expected now"
    return f"{took}{came}{wanted}"
