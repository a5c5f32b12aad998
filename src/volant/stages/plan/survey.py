"""What exists already, and whether to build, to adapt, or to stop.

Enters: the goal, local model directories, past runs, and the hub's list where the user asked for it.
Leaves: a Plan that names what was found, the techniques with licences and known scores, the families
that fit, ranked, and a decision with its reasons. Which families fit is derived: those whose `accepts`
meets the modality's spaces. The rules of the decision are few and stand in `_decide`. Past runs are the
project's own and do not make the survey stale, or every run would; `--refresh` looks again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Folder, Plan, Run

if TYPE_CHECKING:
    from volant.stages.plan.landscape import FamilyFit, Found


def survey(
    run: Run,
    brief: Plan | None = None,
    *,
    models: Folder = "",
    online: bool = False,
    query: str = "",
    limit: Annotated[int, Field(ge=1, le=100)] = 10,
) -> Plan:
    """Look at what exists before building anything.

    Args:
        run: brings the goal and the past runs.
        brief: its problem is searched for and its targets are compared with; without one the goal's are.
        models: a folder whose sub-folders are models (transformers directories); they are read, not loaded.
        online: ask the Hugging Face hub, too; opens a connection, and the answer changes with the hub.
        query: words to search the hub for; empty: the problem's longest words.
        limit: how many models of the hub are listed, by downloads.

    Raises:
        RemoteError: `online` is set and the hub does not answer.
    """
    from volant.stages.plan import landscape

    stated = brief.read_json("plan.json") if brief else {}
    targets = stated.get("targets") or [
        {"metric": name, "sign": target.sign, "bar": target.bar} for name, target in sorted(run.goal.targets.items())
    ]
    folder = run.outside.get("models")
    local = landscape.local_models(folder.files if folder else (), run.goal.use)
    earlier = landscape.past_models(run.records, {run.goal.metric, *(t["metric"] for t in targets)})
    words = query or landscape.keywords(stated.get("problem") or run.goal.problem)
    hub = landscape.hub_models(words, run.modality, run.goal.use, limit) if online else []
    families = landscape.families(run.modality)
    decision, reasons = _decide(targets, local, earlier, hub, families)
    body = {
        "kind": "survey",
        "decision": decision,
        "reasons": reasons,
        "targets": targets,
        "searched": {"local": folder is not None, "past_runs": run.records is not None, "hub": words if online else ""},
        "local": [found.as_json() for found in local],
        "past": [found.as_json() for found in earlier],
        "hub": [found.as_json() for found in hub],
        "families": [fit.as_json() for fit in families],
        "techniques": landscape.techniques(run.modality),
    }
    (run.out / "plan.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (run.out / "index.html").write_text(_page(body), encoding="utf-8")
    run.say(f"{decision}: {reasons[0]}")
    return Plan(run.out)


def _decide(
    targets: list[dict[str, Any]],
    local: list[Found],
    earlier: list[Found],
    hub: list[Found],
    families: list[FamilyFit],
) -> tuple[str, list[str]]:
    """`stop`, `adapt` or `build`, with the reasons, the weightiest first."""
    from volant.core.spec import Target

    bars = {t["metric"]: Target.parse(f"{t['sign']} {t['bar']}") for t in targets}
    for found in earlier:
        if bars and all(name in found.scores and bar.met_by(found.scores[name]) for name, bar in bars.items()):
            met = ", ".join(f"{name} {found.scores[name]:.3g} {bar}" for name, bar in bars.items())
            return "stop", [f"{found.name} of a past run meets every target already ({met}); use it or raise the bar"]
    usable = [found for found in (*earlier, *local, *hub) if not found.hindrance]
    hindered = [f"{found.name} is out: {found.hindrance}" for found in (*local, *hub) if found.hindrance]
    trainable = [fit for fit in families if not fit.missing and not fit.baseline]
    if usable:
        best = usable[0]
        near = f"; it has {', '.join(f'{k} {v:.3g}' for k, v in best.scores.items())}" if best.scores else ""
        reasons = [f"{best.name} ({best.where}) can be adapted, which is cheaper than building{near}"]
        reasons += [f"{found.name} ({found.where}) is the next choice" for found in usable[1:3]]
        return "adapt", reasons + hindered
    if not trainable:
        return "stop", ["no family here learns this kind of content, and there is no model to start from", *hindered]
    why = f"nothing that exists can be used; {trainable[0].name} is the family that fits best"
    return "build", [why, *hindered]


def _page(body: dict[str, Any]) -> str:
    """The survey for people."""
    from volant.store.page import Html, badge, bullets, page, paragraph, section, table

    tone: Any = {"build": "pass", "adapt": "pass", "stop": "open"}[body["decision"]]
    found = [*body["past"], *body["local"], *body["hub"]]
    rows = [
        (
            f["name"],
            f["where"],
            f["licence"] or "none stated",
            f"{f['parameters'] / 1e6:,.1f} M" if f["parameters"] else "",
            ", ".join(f"{k} {v:.3g}" for k, v in f["scores"].items()),
            badge("out: " + f["hindrance"], "fail") if f["hindrance"] else badge("usable", "pass"),
        )
        for f in found
    ]
    shown = (
        table(["model", "found in", "licence", "size", "known scores", ""], rows, numeric=(3,))
        if rows
        else paragraph("Nothing was found.")
    )
    looked = [name.replace("_", " ") for name, done in body["searched"].items() if done]
    families = [
        (f["rank"], f["name"], f["space"], badge("rival", "plain") if f["baseline"] else "", f["cost"], f["missing"])
        for f in body["families"]
    ]
    techniques = [(t["stage"], t["name"], t["built_on"], t["licence"], t["known"]) for t in body["techniques"]]
    parts = [
        Html(f'<p class="lead">Decision: {badge(body["decision"], tone)}</p>'),
        bullets(body["reasons"]),
        section("What exists", paragraph(f"Looked at: {', '.join(looked) or 'nothing'}."), shown),
        section("Which families fit", table(["", "family", "takes", "", "cost at its default size", "missing"],
                                            families, numeric=(0,))),
        section("Techniques", table(["stage", "technique", "built on", "licence", "known scores"], techniques)),
    ]  # fmt: skip
    return page("What exists already", "\n".join(parts), eyebrow="Plan")
