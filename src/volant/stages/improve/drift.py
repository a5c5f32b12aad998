"""Do people ask for what the model was trained on? This week's requests against the training prompts.

Enters: a dataset and the requests in the records up to the snapshot's mark. Leaves: a Report. Two exact
tests decide, on the maximum mean discrepancy of the features (permutations) and on lengths (Kolmogorov-
Smirnov), corrected for being two; so a false alarm comes as often as `level` says. How far apart the two
sides are is told by a classifier that tries to tell them apart (AUC 0.5: it cannot). Repeated requests
count once: a client that sends the same one a hundred times has not changed the world. The report
quotes no request.

Shape legend: N training prompts, M requests, D features, P permutations.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Dataset, Records, Report, Run, Score
from volant.core.errors import DataError

if TYPE_CHECKING:
    from volant.scorers.shift import Shift


def drift(
    run: Run,
    data: Dataset,
    *,
    workload: Records = "*",
    days: Annotated[float, Field(gt=0)] = 7.0,
    level: Annotated[float, Field(gt=0, lt=0.5)] = 0.02,
    least: Annotated[int, Field(ge=5)] = 20,
    most: Annotated[int, Field(ge=20, le=4000)] = 500,
    permutations: Annotated[int, Field(ge=99, le=20_000)] = 999,
) -> Report:
    """Compare the prompts of the last days with those of the training data.

    Args:
        run: brings records and seed.
        data: what the model was trained on; its train split is read.
        workload: which served workload; `*` is all of them.
        days: how far back from the newest request, in days.
        level: how often a false alarm is accepted (0.02: once in fifty looks); lower misses more.
        least: with fewer different requests than this the report says that they are too few, and no more.
        most: at most so many of each side are compared, drawn by the seed; cost grows with its square.
        permutations: of the discrepancy test; the smallest p is 1 over this plus 1.

    Raises:
        DataError: the dataset has no prompts to compare with.
    """
    from volant.scorers import shift
    from volant.store.dataset import rows

    trained = list(dict.fromkeys(filter(None, map(shift.prompt_of, rows(data, "train")))))
    if len(trained) < least:
        what = f"the dataset has {len(trained)} different training prompts, {least} are needed"
        raise DataError(f"{what}.", where=run.step, fix="Name the dataset that the model was trained on.")
    asked = [] if run.records is None else _recent(list(run.records.requests(run.snapshot("workload"))), days)
    different = list(dict.fromkeys(asked))
    scores = [Score.exact("requests", len(different), n=max(1, len(asked)), unit="requests", note="without repeats")]
    if len(different) < least:
        reasons = [f"{len(different)} different requests in {days:g} days, {least} are needed to tell"]
        return _write(run, "too few requests", reasons, scores, [], level)
    found = shift.measure(
        trained, different, run.modality, seed=run.seed, most=most, permutations=permutations, level=level
    )
    verdict, reasons = _verdict(found, level)
    return _write(run, verdict, reasons, [*scores, *found.scores], found.new_words, level, found.tests)


def _recent(requests: list[dict[str, Any]], days: float) -> list[str]:
    """The prompts of the last days before the newest request; the clock on the wall has no say."""
    from volant.stages.improve.harvest import request_turns

    times = [datetime.fromisoformat(str(row["at"])) for row in requests]
    start = max(times) - timedelta(days=days) if times else None
    prompts = []
    for row, at in zip(requests, times, strict=True):
        turns = request_turns(row.get("request") or {}) if start is not None and at >= start else []
        if turns:
            prompts.append(next(turn["content"] for turn in reversed(turns) if turn["role"] == "user"))
    return prompts


def _verdict(found: Shift, level: float) -> tuple[str, list[str]]:
    """`drift` where a corrected p is below the level; the size of it in words."""
    alarms = [
        f"{name}: p = {p:.3g}, corrected for {len(found.tests)} tests" for name, p in found.tests.items() if p < level
    ]
    auc = next(score for score in found.scores if score.name == "classifier_auc")
    if not alarms:
        return "stable", [f"no test finds a difference at {level:g}; a classifier reaches AUC {auc.value:.2f}"]
    size = "hardly" if auc.low < 0.6 else "often" if auc.low < 0.8 else "nearly always"
    reasons = [*alarms, f"a classifier can {size} tell the two sides apart (AUC {auc.value:.2f})"]
    reasons.append("collect or harvest data like these requests, and retrain" if auc.low >= 0.6 else "watch it")
    return "drift", reasons


def _write(
    run: Run,
    verdict: str,
    reasons: list[str],
    scores: Sequence[Score],
    new_words: Sequence[tuple[str, int]],
    level: float,
    tests: dict[str, float] | None = None,
) -> Report:
    """`report.json`, `index.html`, and the scores into the records."""
    from volant.store.page import Html, badge, bullets, page, paragraph, section, table

    body = {
        "kind": "drift",
        "verdict": verdict,
        "reasons": reasons,
        "level": level,
        "tests": tests or {},
        "scores": [score.model_dump() for score in scores],
        "new_words": [list(pair) for pair in new_words],
    }
    (run.out / "report.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    tone: Any = {"drift": "fail", "stable": "pass"}.get(verdict, "open")
    figures = [(s.name.replace("_", " "), s.of, f"{s.value:.3g} {'' if s.unit == '1' else s.unit}",
                f"{s.low:.3g} to {s.high:.3g}" if s.low != s.high else "", s.n, s.note) for s in scores]  # fmt: skip
    parts = [
        Html(f'<p class="lead">Verdict: {badge(verdict, tone)}</p>'),
        bullets(reasons),
        section("Figures", table(["figure", "of", "value", "95 % interval", "n", ""], figures, numeric=(2, 3, 4))),
    ]
    if new_words:
        said = paragraph("Words that several different requests have and no training prompt has.")
        parts.append(section("What is new", said, table(["word", "requests"], new_words, numeric=(1,))))
    (run.out / "index.html").write_text(page("Drift of the requests", "\n".join(parts), eyebrow="Report"), "utf-8")
    for score in scores:
        run.score(score)
    run.say(f"{verdict}: {reasons[0]}")
    return Report(run.out)
