"""One turn of the wheel: what use taught goes back in, and the result is promoted only if it is better.

1. Harvest: feedback since the last judged turn becomes a Dataset.
2. Retrain: the steps behind `loop.into` run again with the harvest as a further input, so harvested
   rows pass the same cleaning, personal-data and leakage gates as everything else.
3. Compare: candidate against champion on the sealed test split, paired by example. The k-th opening
   of one test version needs p < alpha / k; a fresh test slice resets k.
4. Review: a law and ethics note on the candidate; a blocking item refuses the promotion.
5. Promote: compare-and-swap on the alias, with the evidence; a running server follows the alias.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from volant.core.artifact import Artifact, Dataset, Model, Report
from volant.core.errors import DataError, GateRefused, SpecError
from volant.core.method import method_named
from volant.core.spec import Loop
from volant.project.planning import candidate_step

if TYPE_CHECKING:
    from volant.project.execute import Done
    from volant.project.project import Project
    from volant.store.records import Promotion

Outcome = Literal["first", "promoted", "kept", "nothing new"]


@dataclass(frozen=True)
class TurnResult:
    """What a turn did, and why.

    Attributes:
        outcome: `first` (there was no champion yet), `promoted`, `kept` (the champion stays), or `nothing new`.
        p, needed_p: the paired test's p, and what it had to be below; 1.0 where nothing was compared.
        gain: candidate minus champion in the metric, on the test split.
        harvested: how many records the harvest gave.
        reports: digests of the comparison, the drift report and the review.
        reasons: one line each; for `kept`, what held it back.
    """

    outcome: Outcome
    candidate: str
    champion: str
    metric: str
    p: float = 1.0
    needed_p: float = 0.0
    gain: float = 0.0
    opening: int = 0
    harvested: int = 0
    reports: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


def turn(project: Project, *, only: Sequence[str] = ()) -> TurnResult:
    """Turn the wheel once.

    Args:
        only: further steps to run for the candidate (a page to publish); the candidate, its report and
            the service are always run.

    Raises:
        SpecError: the project file has no loop.
    """
    loop = _loop(project)
    base = project.go()
    name = candidate_step(project.need_spec(), project.plan())
    row = project.records.alias(loop.alias)
    if row is None:
        return _first(project, loop, base, name)
    champion = cast(Model, project.store.get(row.digest))
    mark = int(project.records.marks(loop.workload)["feedback"])
    harvest, told = _harvest(project, loop)
    drift = _drift(project, loop, base)
    extensions = [*project.champion_extensions(), *([harvest] if harvest else [])]
    results = project.go(extensions=extensions)
    candidate = cast(Model, results[name].artifact)
    if candidate.digest == champion.digest:
        result = TurnResult("nothing new", candidate.digest, champion.digest, loop.promote.metric, reasons=told)
    else:
        reports = {"drift": drift.digest} if drift else {}
        result = _judge(project, loop, base, results, candidate, champion, harvest, extensions, reports, told)
    project.records.event("turn", {**asdict(result), "alias": loop.alias, "feedback_mark": mark})
    return result


def rollback(project: Project, alias: str = "") -> Promotion:
    """Promote what the alias pointed to before; a running server follows.

    Raises:
        GateRefused: there is nothing to go back to.
    """
    alias = alias or (_loop(project).alias if project.spec and project.spec.loop else "champion")
    history = project.records.promotions(alias)
    row = project.records.alias(alias)
    # The promotion that first made it champion, so that rolling back twice goes back two models.
    made = [p for p in history if "rollback_of" not in p.evidence]
    current = next((p for p in made if row and p.digest == row.digest), None)
    if row is None or current is None or not current.previous:
        fix = "`volant turn` makes the first one."
        if row is not None:
            fix = f"It is {row.digest[:12]}, its first one; `volant turn` puts a better one in its place."
        raise GateRefused(f"{alias!r} has no earlier model.", where="rollback", fix=fix)
    before = next((p for p in made if p.digest == current.previous), None)
    evidence = {"rollback_of": current.id, "extensions": before.evidence.get("extensions", []) if before else []}
    key = f"rollback:{history[0].id}:{current.id}"
    return project.records.promote(alias, current.previous, expected=row.digest, key=key, evidence=evidence)


def _loop(project: Project) -> Loop:
    loop = project.need_spec().loop
    if loop is None:
        raise SpecError(
            "the project file has no loop.", where=project.need_spec().file, fix="Add `loop: {into: <step>}`."
        )
    return loop


def _first(project: Project, loop: Loop, base: dict[str, Done], name: str) -> TurnResult:
    candidate = cast(Model, base[name].artifact)
    review = _review(project, loop, base, candidate)
    body = review.read_json("report.json")
    reports = {"review": review.digest}
    if body["blocking"]:
        reasons = [f"the review blocks: {item}" for item in _failed(body)]
        return TurnResult("kept", candidate.digest, "", loop.promote.metric, reports=reports, reasons=reasons)
    evidence = {"reports": reports, "extensions": [], "first": True}
    project.records.promote(
        loop.alias, candidate.digest, expected=None, key=f"first:{candidate.digest}", evidence=evidence
    )
    reasons = ["there was no champion; the review found nothing that blocks"]
    result = TurnResult("first", candidate.digest, "", loop.promote.metric, reports=reports, reasons=reasons)
    # Feedback that came before the first champion is judged by the next turn, so no mark is set.
    project.records.event("turn", {**asdict(result), "alias": loop.alias})
    return result


def _harvest(project: Project, loop: Loop) -> tuple[Dataset | None, list[str]]:
    """New feedback as a Dataset, or None with the reason where there is none to use."""
    turns = [event.body for event in project.records.events("turn", limit=1000)]
    judged = [int(body.get("feedback_mark", 0)) for body in turns if body.get("alias") == loop.alias]
    project.feedback_after = max(judged, default=0)
    method = method_named(loop.source)
    records = next(name for name, kind in method.outside.items() if kind == "records")
    try:
        done = project.call("harvest", method, {records: loop.workload})
    except DataError as error:
        project.watcher.say("turn", str(error))
        return None, [error.what]
    finally:
        project.feedback_after = 0
    return cast(Dataset, done.artifact), []


def _drift(project: Project, loop: Loop, base: dict[str, Done]) -> Report | None:
    """This week's prompts against the training data; a turn goes on without it where there are too few."""
    method = method_named("improve.drift")
    records = next(name for name, kind in method.outside.items() if kind == "records")
    try:
        return cast(
            Report, project.call("drift", method, {"data": base[loop.into].artifact, records: loop.workload}).artifact
        )
    except DataError as error:
        project.watcher.say("drift", str(error))
        return None


def _judge(
    project: Project,
    loop: Loop,
    base: dict[str, Done],
    results: dict[str, Done],
    candidate: Model,
    champion: Model,
    harvest: Dataset | None,
    extensions: list[Artifact],
    reports: dict[str, str],
    told: list[str],
) -> TurnResult:
    test = cast(Dataset, base[loop.into].artifact)
    arguments = {"model": candidate, "champion": champion, "data": test, "metric": loop.promote.metric}
    arguments |= _judging(project, base) | ({"limit": loop.promote.examples} if loop.promote.examples else {})
    compared = project.call("compare", method_named("evaluate.compare"), arguments).artifact
    review = _review(project, loop, results, candidate)
    reports = {**reports, "compare": compared.digest, "review": review.digest}
    body, note = compared.read_json("report.json"), review.read_json("report.json")
    opening = project.records.open_test(test_version(test), candidate.digest)
    needed = loop.promote.p / opening
    reasons = list(told)
    if body["p"] >= needed:
        reasons.append(
            f"not shown to be better: p = {body['p']:.3g}, needed below {needed:.3g} (opening {opening} of this test)"
        )
    if body["gain"] < loop.promote.gain:
        reasons.append(f"gain {body['gain']:+.4f} in {loop.promote.metric}, needed {loop.promote.gain:g}")
    reasons += [f"gate {g['name']}: {g['value']:.4g} against {g['bar']:.4g}" for g in body["gates"] if not g["passed"]]
    reasons += [f"the review blocks: {item}" for item in _failed(note)] if note["blocking"] else []
    held = len(reasons) > len(told)
    outcome: Outcome = "kept" if held else "promoted"
    if not held:
        evidence = {
            "reports": reports,
            "extensions": [a.digest for a in extensions],
            "p": body["p"],
            "needed_p": needed,
            "gain": body["gain"],
        }
        key = f"turn:{champion.digest}:{candidate.digest}"
        project.records.promote(loop.alias, candidate.digest, expected=champion.digest, key=key, evidence=evidence)
        reasons.append(
            f"{loop.promote.metric} {body['gain']:+.4f}, p = {body['p']:.3g} below {needed:.3g}, every gate holds"
        )
    harvested = sum(harvest.about["splits"].values()) if harvest else 0
    return TurnResult(
        outcome, candidate.digest, champion.digest, loop.promote.metric,
        p=body["p"], needed_p=needed, gain=body["gain"], opening=opening,
        harvested=harvested, reports=reports, reasons=reasons,
    )  # fmt: skip


def _judging(project: Project, base: dict[str, Done]) -> dict[str, Artifact]:
    """The judge that the project's report was measured with: a comparison is measured the same way."""
    for step in project.plan():
        judges = step.inputs.get("judge", [])
        if step.method.name == "evaluate.suite" and judges:
            return {"judge": base[judges[0]].artifact}
    return {}


def _review(project: Project, loop: Loop, results: dict[str, Done], candidate: Model) -> Report:
    report = next((d.artifact for d in results.values() if isinstance(d.artifact, Report)), None)
    if report is None:
        raise SpecError("a promotion needs a report.", where="loop", fix="Add a step that uses evaluate.suite.")
    arguments: dict[str, Any] = {"model": candidate, "report": report, "data": [results[loop.into].artifact]}
    return cast(Report, project.call("review", method_named("improve.review"), arguments).artifact)


def _failed(note: dict[str, Any]) -> list[str]:
    return [f"{item.get('name', item.get('item', 'item'))}: {item.get('finding', item.get('note', ''))}"
            for item in note["items"] if item.get("state", item.get("status")) == "fail"]  # fmt: skip


def test_version(data: Dataset) -> str:
    """The digest of a dataset's test split alone: training data may change without making the test a new one."""
    assert data.card is not None
    listing = "\n".join(f"{f.path} {f.sha256}" for f in data.card.files if f.path.startswith("data/test-"))
    return hashlib.sha256(listing.encode()).hexdigest()
