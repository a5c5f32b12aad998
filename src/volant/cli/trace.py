"""Following records: `volant trace`, `forget`.

Enters: ids of records, or a name of an artifact. Leaves: where they lie and what was made of them; with
`forget --apply` lines in `forgotten.jsonl`, which the next `volant run` keeps to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from volant.cli import complete, place, present
from volant.core.errors import DataError

if TYPE_CHECKING:
    from volant.project.tracing import Touched

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Records = Annotated[list[str], typer.Argument(help="Ids of records, as the column `id` of a dataset has them.")]


def trace(
    what: Annotated[
        str, typer.Argument(help="The id of a record, or an alias, a step, a digest.", autocompletion=complete.things)
    ],
    json: Json = False,
) -> None:
    """Follow a record to its source and to all that learnt from it; or an artifact back to its records' sources.

    Examples:

        volant trace 3f9c2b7a41d0e8c6a5f1

        volant trace champion
    """
    from volant.project import tracing

    opened = place.project()
    try:
        found = tracing.trace(opened, [what])
    except DataError:
        origins = tracing.origins(opened, what)
        if json:
            present.as_json({"origins": origins})
            return
        rows = [
            (f"{o.digest[:12]} {o.step}", o.kind, o.method, f"{o.kept:,}", ", ".join(o.licences), _given(o.settings))
            for o in origins
        ]
        present.table(["comes from", "kind", "made by", "records#", "licences", "gathered with"], rows)
        return
    if json:
        present.as_json(found)
        return
    first = found.held[0]
    facts = [
        ("record", first.id), ("source", first.source.uri), ("licence", first.source.licence),
        ("consent", first.source.consent), ("gathered on", first.source.collected_at), ("origin", first.source.origin),
        ("made from", ", ".join(dict.fromkeys(parent for row in found.held for parent in row.parents))),
        ("made of it", ", ".join(dict.fromkeys(row.id for row in found.below))),
    ]  # fmt: skip
    present.table(["", ""], [row for row in facts if row[1]])
    present.say("")
    dropped = {(row.dataset, row.id): row.drop for row in [*found.held, *found.below]}
    _show(found.touched, dropped)
    if found.cut:
        present.say("More records hang together than a trace follows; this is not all.")


def _given(settings: dict[str, Any]) -> str:
    """The settings that say what was gathered."""
    named = ("glob", "dataset", "address", "repository", "commit", "file", "server", "query", "feedback", "what")
    return ", ".join(f"{name}: {settings[name]}" for name in named if settings.get(name))


def _show(touched: list[Touched], dropped: dict[tuple[str, str], str]) -> None:
    rows = []
    for one in touched:
        reasons = dict.fromkeys(dropped.get((one.digest, record), "") for record in one.records)
        why = ", ".join(filter(None, reasons))
        said = f"dropped ({why})" if one.how == "dropped" and why else one.how
        rows.append((f"{one.digest[:12]}{' (gone)' if one.gone else ''}", one.kind, one.step, one.method, said))
    present.table(["artifact", "kind", "step", "made by", "how"], rows)


def forget(
    records: Records,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write them into forgotten.jsonl; the next `volant run` leaves them out.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Kept beside each id.")] = "",
    json: Json = False,
) -> None:
    """List what records reached and which steps must run again without them; changes nothing without --apply.

    Example:  volant forget 3f9c2b7a41d0e8c6a5f1 --apply --reason "asked by the author"
    """
    from volant.project import forgetting

    opened = place.project()
    found = forgetting.forget(opened, records)
    new = forgetting.apply(opened, found, reason) if apply else []
    if json:
        present.as_json({**present.plain(found), "seconds": found.seconds, "added": new})
        return
    _show(found.touched, {})
    if found.aliases:
        present.say(f"\nIn use now: {', '.join(found.aliases)}.")
    if found.steps:
        present.say("\nTo run again, in this order:")
        rows = [
            (s.step, s.method, "not known" if s.seconds is None else f"{s.seconds:,.1f}", s.why) for s in found.steps
        ]
        present.table(["step", "method", "seconds last time#", "because it"], rows)
        present.say(f"{found.seconds:,.0f} seconds in all, by what they took last time.")
    if found.unplanned:
        present.say(f"\nNo step of the project file makes {', '.join(d[:12] for d in found.unplanned)}.")
    if found.pinned:
        pinned = ", ".join(digest[:12] for digest in found.pinned)
        present.say(f"\nPromotions keep {pinned} for a rollback; `volant gc` leaves them.")
    if not apply:
        present.say("\nNothing was changed. `--apply` writes the ids into forgotten.jsonl.")
        return
    present.say(f"\n{len(new)} ids written to forgotten.jsonl. Next: `volant run`, then `volant gc`.")
