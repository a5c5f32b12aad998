"""The brief: what is built, for whom, what counts as good, what may go wrong and who looks after it.

Enters: the project's goal, and settings that add to it. Leaves: a Plan (`plan.json` for programs, a
readable `index.html` for people). Nothing is invented: what nobody has stated is listed as missing,
because a risk without an owner is the one that happens.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from volant.core import Plan, Run
from volant.core.errors import SettingError
from volant.core.spec import Goal, Risk, Target

_UNASSIGNED, _NONE_YET = Risk(risk="").owner, Risk(risk="").mitigation


def brief(
    run: Run,
    *,
    problem: str = "",
    audience: str = "",
    accept: dict[str, str] | None = None,
    baseline: str = "",
    outside: list[str] | None = None,
    risks: list[dict[str, str]] | None = None,
) -> Plan:
    """Write down the goal so that everyone can read it and the wheel can be held to it.

    Args:
        run: brings the goal.
        problem: what is to be solved, in a sentence; goes before the goal's.
        audience: who uses the result; goes before the goal's.
        accept: targets by metric (`{"relevance": ">= 0.55"}`), added to the goal's; on the same metric these win.
        baseline: the trivial rival that the model has to beat; goes before the goal's.
        outside: what is expressly not part of the work; only shown.
        risks: further risks as `{risk, owner, mitigation}`; without owner or mitigation they count as open.

    Raises:
        SettingError: no problem is stated, or a target or a risk does not parse.
    """
    goal = _merged(run.goal, problem, audience, accept or {}, baseline, risks or [])
    if not goal.problem.strip():
        raise SettingError(
            "no problem is stated.", where=run.step, fix="Write it in one sentence: goal: {problem: ...}."
        )
    missing = _missing(goal)
    body: dict[str, Any] = {
        "kind": "brief",
        "problem": goal.problem,
        "audience": goal.audience,
        "modality": run.modality,
        "use": goal.use,
        "generated": goal.generated,
        "metric": goal.metric,
        "targets": [{"metric": name, "sign": t.sign, "bar": t.bar} for name, t in sorted(goal.targets.items())],
        "baseline": goal.baseline,
        "outside": outside or [],
        "risks": [risk.model_dump() for risk in goal.risks],
        "missing": missing,
    }
    (run.out / "plan.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (run.out / "index.html").write_text(_page(goal, body), encoding="utf-8")
    for line in missing:
        run.say(f"missing: {line}")
    return Plan(run.out)


def _merged(
    goal: Goal, problem: str, audience: str, accept: dict[str, str], baseline: str, risks: list[dict[str, str]]
) -> Goal:
    """The goal with what the settings add."""
    for name, text in accept.items():
        try:
            Target.parse(text)
        except ValueError as error:
            raise SettingError(f"the target of {name!r} does not parse: {error}.", where="accept") from error
    try:
        more = [Risk.model_validate(risk) for risk in risks]
    except ValidationError as error:
        what = f"a risk does not parse: {error.errors()[0]['msg'].lower()}"
        raise SettingError(
            f"{what}.", where="risks", fix="Each is {risk: ..., owner: ..., mitigation: ...}."
        ) from error
    return goal.model_copy(
        update={
            "problem": problem or goal.problem,
            "audience": audience or goal.audience,
            "accept": {**goal.accept, **accept},
            "baseline": baseline or goal.baseline,
            "risks": [*goal.risks, *more],
        }
    )


def _missing(goal: Goal) -> list[str]:
    """What nobody has stated yet, as sentences."""
    from volant.modalities import open_modality

    found = []
    if not goal.audience.strip():
        found.append("for whom it is (goal.audience)")
    if goal.metric not in goal.accept:
        found.append(f"a target for the task metric {goal.metric!r} (goal.accept)")
    for name in open_modality(goal.modality).gates():
        if name not in goal.accept and name != goal.metric:
            found.append(f"a target for the guard {name!r} (goal.accept.{name}); it holds nothing back until then")
    if not goal.risks:
        found.append("risks: none are named, which says that nobody has looked (goal.risks)")
    for risk in goal.risks:
        if risk.owner in ("", _UNASSIGNED):
            found.append(f"an owner of the risk {risk.risk!r}")
        if risk.mitigation in ("", _NONE_YET):
            found.append(f"a mitigation of the risk {risk.risk!r}")
    return found


def _page(goal: Goal, body: dict[str, Any]) -> str:
    """The brief for people."""
    from volant.store.page import badge, bullets, page, paragraph, section, table, tiles

    def stated(value: str, empty: str) -> object:
        return badge(empty, "open") if value in ("", empty) else value

    targets = [(name, str(target)) for name, target in sorted(goal.targets.items())]
    risks = [(r.risk, stated(r.owner, _UNASSIGNED), stated(r.mitigation, _NONE_YET)) for r in goal.risks]
    parts = [
        paragraph(goal.problem, kind="lead"),
        tiles([("for", goal.audience or "not stated"), ("kind of content", body["modality"]), ("use", goal.use),
               ("must beat", goal.baseline.replace("_", " ")),
               ("written by models", f"at most {goal.generated:.0%} of training" if goal.generated < 1 else "no cap")]),
        section("What counts as good",
                table(["metric", "target"], targets) if targets else paragraph("No target is set."),
                paragraph(f"No step may make {goal.metric} significantly worse.")),
    ]  # fmt: skip
    if body["outside"]:
        parts.append(section("What is not part of it", bullets(body["outside"])))
    shown = table(["risk", "owner", "what is done about it"], risks) if risks else paragraph("No risk is named.")
    parts.append(section("What may go wrong", shown))
    if body["missing"]:
        parts.append(section("Still missing", bullets(body["missing"])))
    return page("The brief", "\n".join(parts), eyebrow="Plan")
