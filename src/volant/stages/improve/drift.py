"""Does the world still ask for, or look like, what the model was trained on?

Enters: a dataset, and either the requests in the records up to the snapshot's mark or a second dataset of fresh
data (`recent`). Leaves: a Report. Exact tests decide, corrected for being several, so that a false alarm comes as
often as `level` says: on the maximum mean discrepancy of the features (permutations); for text on lengths
(Kolmogorov-Smirnov); for other content on each part that the modality names (the columns of a row). How far apart
the two sides are is told by a classifier that tries to tell them apart (AUC 0.5: it cannot). A repeated request for
text counts once: a client that sends the same one a hundred times has not changed the world. Requests for other
content are compared by what they ask for, the condition, each time that it is asked: there how often something is
asked for is the news. The report quotes no request.

Shape legend: N training examples, M recent ones, D features, P permutations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Records, Report, Run, Score
from volant.core.errors import DataError
from volant.core.sample import CONTENT_SHAPES

if TYPE_CHECKING:
    from volant.scorers.shift import Shift


def drift(
    run: Run,
    data: Dataset,
    *,
    recent: Dataset | None = None,
    judge: Model | None = None,
    workload: Records = "*",
    days: Annotated[float, Field(gt=0)] = 7.0,
    level: Annotated[float, Field(gt=0, lt=0.5)] = 0.02,
    least: Annotated[int, Field(ge=5)] = 20,
    most: Annotated[int, Field(ge=20, le=4000)] = 500,
    permutations: Annotated[int, Field(ge=99, le=20_000)] = 999,
) -> Report:
    """Compare the requests of the last days, or fresh data, with the training data.

    Args:
        run: brings records and seed.
        data: what the model was trained on; its train split is read.
        recent: fresh data, compared in the place of the requests, whatever its splits.
        judge: gives the features that `recent` is compared by; without one they are the modality's own.
        workload: which served workload; `*` is all of them.
        days: how far back from the newest request, in days.
        level: how often a false alarm is accepted (0.02: once in fifty looks); lower misses more.
        least: with fewer different requests (or fresh examples) than this the report says that they are too few,
            and no more.
        most: at most so many of each side are compared, drawn by the seed; cost grows with its square.
        permutations: of the discrepancy test; the smallest p is 1 over this plus 1.

    Raises:
        DataError: the dataset has no prompts, conditions or examples to compare with.
        SettingError: the judge is a model that judges nothing.
    """
    from volant.modalities import open_modality
    from volant.scorers import shift

    sides = _sides(run, data, recent, days, most)
    if len(sides.left) < least:
        what = f"the dataset has {len(sides.left)} {sides.kind}"
        fix = "Name the dataset that the model was trained on, or give fresh data as `recent`."
        raise DataError(f"{what}, {least} are needed.", where=run.step, fix=fix)
    note = "without repeats" if sides.repeats else ""
    n = len(sides.right) + sides.repeats
    scores = [Score.exact(sides.unit, len(sides.right), n=max(1, n), unit=sides.unit, note=note)]
    if len(sides.right) < least:
        when = f" in {days:g} days" if recent is None else ""
        reasons = [f"{len(sides.right)} different {sides.unit}{when}, {least} are needed to tell"]
        return _write(run, f"too few {sides.unit}", reasons, scores, [], level)
    modality = open_modality(run.modality)
    settings = {"seed": run.seed, "most": most, "permutations": permutations}
    if sides.whole:
        found = shift.of_samples(sides.left, sides.right, modality, judge=judge, **settings)
    else:
        if judge is not None:
            run.say("the judge is not used: words are compared by features of their own")
        features = shift.word_features if sides.content else modality.features
        found = shift.of_texts(sides.left, sides.right, features, **settings)
    verdict, reasons = _verdict(found, level)
    return _write(run, verdict, reasons, [*scores, *found.scores], found.new_words, level, found.tests)


@dataclass(frozen=True)
class Sides:
    """What is compared.

    Attributes:
        left: texts, or samples, of the training data.
        right: the same of what came since.
        unit: what those are.
        kind: what the left ones are, for a message.
        content: whether the data is no text.
        whole: whether samples are compared, and not texts.
        repeats: how many of the right side were left out since they say the same again.
    """

    left: Sequence[Any]
    right: Sequence[Any]
    unit: str
    kind: str
    content: bool
    whole: bool = False
    repeats: int = 0


def _sides(run: Run, data: Dataset, recent: Dataset | None, days: float, most: int) -> Sides:
    """Training and recent side: samples of content where there is fresh data, else prompts or conditions."""
    from volant.scorers import shift
    from volant.store.dataset import rows

    content = next(rows(data, "train")).shape in CONTENT_SHAPES
    if content and recent is not None:
        left, right = (shift.sampled(samples, most, run.seed) for samples in (rows(data, "train"), rows(recent)))
        return Sides(left, right, "examples", "training examples", content, whole=True)
    word = shift.condition_of if content else shift.prompt_of
    trained = list(filter(None, map(word, rows(data, "train"))))
    said = _asked(run, days) if recent is None else list(filter(None, map(word, rows(recent))))
    unit = "requests" if recent is None else "prompts"
    if content:  # of classes and conditions the shares are the news
        return Sides(trained, said, unit, "training examples with a condition", content)
    left_side, right_side = (list(dict.fromkeys(side)) for side in (trained, said))
    kind = "different training prompts"
    return Sides(left_side, right_side, unit, kind, content, repeats=len(said) - len(right_side))


def _asked(run: Run, days: float) -> list[str]:
    """What was asked for in the last days before the newest request; the clock on the wall has no say."""
    requests = [] if run.records is None else list(run.records.requests(run.snapshot("workload")))
    times = [datetime.fromisoformat(str(row["at"])) for row in requests]
    start = max(times) - timedelta(days=days) if times else None
    late = (row for row, at in zip(requests, times, strict=True) if start is not None and at >= start)
    return list(filter(None, (_asked_in(row, run.modality) for row in late)))


def _asked_in(row: Mapping[str, Any], modality: str) -> str:
    """The condition of a request for content, or the last thing that the person said; empty where it has neither."""
    from volant.stages.improve.content import condition_of, route_of
    from volant.stages.improve.harvest import request_turns

    route = route_of(modality, row)
    if route is not None:
        return condition_of(route, row["request"]) or ""
    turns = request_turns(row.get("request") or {})
    return next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), "")


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
    reasons.append("collect or harvest data like this, and retrain" if auc.low >= 0.6 else "watch it")
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
    (run.out / "index.html").write_text(page("Drift", "\n".join(parts), eyebrow="Report"), "utf-8")
    for score in scores:
        run.score(score)
    run.say(f"{verdict}: {reasons[0]}")
    return Report(run.out)
