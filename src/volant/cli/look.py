"""Looking at what is there: `volant show`, `diff`, `compare`, `lineage`, `methods`.

Enters: names (alias, step or digest). Leaves: a card, a table, or a page in the browser. Nothing is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from volant.cli import complete, place, present, signature
from volant.core.artifact import Artifact, Report
from volant.core.errors import ArtifactError, DataError
from volant.core.score import Score

if TYPE_CHECKING:
    from volant.project import Project

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Thing = Annotated[
    str, typer.Argument(help="An alias, a step, or the first digits of a digest.", autocompletion=complete.things)
]


def show(
    name: Thing,
    page: Annotated[
        bool, typer.Option("--page", help="Open the artifact's page in the browser; print its path.")
    ] = False,
    files: Annotated[bool, typer.Option("--files", help="List every file with its size and hash.")] = False,
    json: Json = False,
) -> None:
    """Show an artifact: what it is, what made it, its figures, where it lies.

    Examples:

        volant show tuned

        volant show report --page
    """
    opened = place.project()
    found = opened.artifact(name)
    card = found.card
    assert card is not None, "a stored artifact has its card"
    if page:
        _open_page(found)
        return
    if json:
        present.as_json({**card.model_dump(mode="json"), "path": str(found.path)})
        return
    facts = [
        ("kind", card.kind), ("digest", card.digest), ("path", str(found.path)),
        ("made by", f"{card.method} as {card.step!r}, seed {card.seed}" if card.method else "outside of a run"),
        ("at", card.created_at), ("size", f"{present.size(card.size_bytes)} in {len(card.files)} files"),
        ("licences", ", ".join(card.licences)),
    ]  # fmt: skip
    present.table(["", ""], [row for row in facts if row[1]])
    _part("Settings", [(key, repr(value)) for key, value in card.settings.items()])
    _part("Made from", [(key, ", ".join(_named(opened, d) for d in digests)) for key, digests in card.parents.items()])
    _part("Figures", [(score_name(score), str(score).partition(" ")[2]) for score in card.scores])
    _part("Versions", list(card.versions.items()))
    if files:
        _part("Files", [(entry.path, f"{present.size(entry.bytes)}  {entry.sha256[:16]}") for entry in card.files])
    if (found.path / "index.html").is_file():
        present.say(f"\nIts page: volant show {name} --page")


def score_name(score: Score) -> str:
    """The name with its owner where that is not the model."""
    return score.name if score.of == "model" else f"{score.name} ({score.of})"


def _part(title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        present.say("")
        present.table([title, ""], rows)


def _named(opened: Project, digest: str) -> str:
    if not opened.store.has(digest):
        return f"{digest[:12]} (gone)"
    card = opened.store.get(digest).card
    return f"{digest[:12]} {card.step if card else ''}".strip()


def _open_page(found: Artifact) -> None:
    file = found.path / "index.html"
    if not file.is_file():
        raise ArtifactError(
            f"a {found.kind} of {found.card.method if found.card else '?'} has no page.", fix="Leave --page out."
        )
    present.say(str(file))
    typer.launch(file.as_uri())


def diff(left: Thing, right: Thing, json: Json = False) -> None:
    """Show what differs between two artifacts: settings, inputs, versions, figures.

    Example:  volant diff tuned champion
    """
    from volant.project import looking

    found = looking.difference(place.project(), left, right)
    if json:
        present.as_json(found)
        return
    if not found.changes:
        present.say("The two are the same.")
        return
    rows = [(name, _short(a), _short(b)) for name, (a, b) in found.changes.items()]
    present.table(["", f"{left} {found.left[:8]}", f"{right} {found.right[:8]}"], rows)


def _short(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return present.amount(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def compare(before: Thing, after: Thing, json: Json = False) -> None:
    """Compare the figures of two artifacts, paired by example where both kept theirs.

    Two models that were measured on the same validation samples, or two reports, are tested pair by pair; it
    says `better` only where the test does. Figures without examples are shown side by side.

    Example:  volant compare base tuned
    """
    opened = place.project()
    a, b = opened.artifact(before), opened.artifact(after)
    rows = compared(a, b)
    if not rows:
        raise DataError(
            "the two have no figure in common.", where=f"{before}, {after}", fix="`volant show` lists each one's."
        )
    if json:
        present.as_json(rows)
        return
    cells = [
        (r["name"], present.amount(r["before"]), present.amount(r["after"]), r["change"], r["verdict"]) for r in rows
    ]
    present.table(["figure", f"{before}#", f"{after}#", "change [95 %]", "verdict"], cells)


def compared(a: Artifact, b: Artifact) -> list[dict[str, Any]]:
    """One row for each figure that both have; the paired one first."""
    rows = []
    paired = _paired(a, b)
    if paired:
        rows.append(paired)
    else:
        rows += _recorded(a, b)
    mine = {score_name(s): s for s in (a.card.scores if a.card else [])}
    for other in b.card.scores if b.card else []:
        one = mine.get(score_name(other))
        if one is None or (paired and score_name(other) == paired["name"]):
            continue
        apart = other.low > one.high or other.high < one.low
        better = other.better_than(one)
        verdict = ("better" if better else "worse") if apart else "not told apart by their intervals"
        rows.append(_row(score_name(other), one.value, other.value, f"{other.value - one.value:+.4g}", verdict))
    return rows


def _row(name: str, before: float, after: float, change: str, verdict: str, p: float | None = None) -> dict[str, Any]:
    return {"name": name, "before": before, "after": after, "change": change, "verdict": verdict, "p": p}


def _recorded(a: Artifact, b: Artifact) -> list[dict[str, Any]]:
    """What `b` recorded against `a` when it was made from it: the `..._change` figures on its card."""
    scores = {score.name: score for score in (b.card.scores if b.card else []) if score.of == "model"}
    parents = [digest for digests in (b.card.parents if b.card else {}).values() for digest in digests]
    rows = []
    for name, change in scores.items():
        after = scores.get(name.removesuffix("_change"))
        if name.endswith("_change") and after is not None and a.digest in parents:
            verdict = "no difference" if change.low <= 0 <= change.high else _side(change)
            rows.append(_row(after.name, after.value - change.value, after.value, _span(change), verdict))
    return rows


def _side(change: Score) -> str:
    return "better" if (change.value > 0) == (change.direction == "higher") else "worse"


def _span(change: Score) -> str:
    return f"{change.value:+.4g} [{change.low:+.3g}, {change.high:+.3g}]"


def _paired(a: Artifact, b: Artifact) -> dict[str, Any] | None:
    """The paired test over `validation.json`, where both kept the same metric on the same samples."""
    if isinstance(a, Report) or not all((x.path / "validation.json").is_file() for x in (a, b)):
        return None
    left, right = a.read_json("validation.json"), b.read_json("validation.json")
    if any(left.get(key) != right.get(key) for key in ("metric", "scorer", "ids")):
        return None
    from volant.scorers.compare import paired

    scores = {s.name: s for s in (b.card.scores if b.card else [])}
    metric = str(left["metric"])
    direction = scores[metric].direction if metric in scores else "higher"
    found = paired(metric, left["values"], right["values"], direction=direction)
    return _row(
        metric,
        float(found.before),
        float(found.after),
        _span(found.change),
        f"{found.verdict} (p = {found.p:.3g})",
        float(found.p),
    )


def lineage(
    name: Thing,
    fed: Annotated[bool, typer.Option("--fed", help="Only what it fed; both ways by default.")] = False,
    made: Annotated[bool, typer.Option("--made", help="Only what made it; both ways by default.")] = False,
    json: Json = False,
) -> None:
    """Show what made an artifact, and what it fed, back to the first data and on to the last model.

    Example:  volant lineage champion --made
    """
    from volant.store.lineage import ancestors, descendants

    opened = place.project()
    digest = opened.artifact(name).digest
    before = ancestors(opened.records, digest) if made or not fed else []
    after = descendants(opened.records, digest) if fed or not made else []
    if json:
        present.as_json({"digest": digest, "ancestors": before, "descendants": after})
        return
    if made or not fed:
        present.say(f"What made {name} {digest[:12]}:")
        _tree(opened, digest, _index(before, "child"), "parent", 1, set())
    if fed or not made:
        present.say(f"What {name} {digest[:12]} fed:")
        _tree(opened, digest, _index(after, "parent"), "child", 1, set())


def _index(edges: list[Any], key: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for edge in edges:
        found.setdefault(getattr(edge, key), []).append(edge)
    return found


def _tree(opened: Project, digest: str, edges: dict[str, list[Any]], way: str, depth: int, seen: set[str]) -> None:
    """Indented lines; an artifact that was shown already is named once more and not opened again."""
    if digest not in edges and depth == 1:
        present.say("  nothing")
    shown: set[tuple[str, str]] = set()
    for edge in edges.get(digest, []):
        other = str(getattr(edge, way))
        if (other, edge.role) in shown:
            continue
        shown.add((other, edge.role))
        again = other in seen and other in edges
        present.say(f"{'  ' * depth}{edge.role:<8} {_named(opened, other)}{' (as above)' if again else ''}")
        if other not in seen:
            seen.add(other)
            _tree(opened, other, edges, way, depth + 1, seen)


def methods(
    name: Annotated[
        str,
        typer.Argument(
            help="A method (finetune.lora) or a stage (finetune); all by default.", autocompletion=complete.methods
        ),
    ] = "",
    json: Json = False,
) -> None:
    """List the methods of every stage, or explain one: its inputs, its settings, what each of them does.

    Examples:

        volant methods

        volant methods finetune.lora
    """
    from volant.core.method import STAGES, method_named
    from volant.core.method import methods as all_methods

    if name and name not in STAGES:
        method = method_named(name)
        if json:
            present.as_json({"name": method.name, "summary": method.summary, **method.json_schema()})
            return
        present.say(f"{method.name} makes a {method.returns.kind}: {method.summary}\n")
        rows = [(row.name, row.type, row.default, row.doc) for row in signature.rows(method)]
        present.table(["parameter", "type", "default", "what it does"], rows)
        return
    found = {key: m for key, m in all_methods().items() if not name or m.stage == name}
    if json:
        present.as_json({key: {"summary": m.summary, "makes": m.returns.kind} for key, m in found.items()})
        return
    present.table(["method", "makes", "what it does"], [(key, m.returns.kind, m.summary) for key, m in found.items()])
    present.say("\nvolant methods NAME explains one.")
