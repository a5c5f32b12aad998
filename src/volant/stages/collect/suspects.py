"""Labels that are probably wrong, found by what the other records say: confident learning.

Enters: a Dataset whose records have a class. Leaves: the same records; one whose label the others contradict carries
what it is taken for in `attrs.suspect`, or is dropped. `volant label --adjudicate` offers the suspects to a person,
whose word is final. The classifier is a simple one over the modality's features, fitted on the other folds
(`scorers/classifier.py`); the rule is that of Northcutt, Jiang and Chuang 2021 (`scorers/confident.py`).
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Dataset, Run, Sample, Score
from volant.core.errors import DataError

if TYPE_CHECKING:
    from volant.scorers.confident import Verdict

RULE = "wrong_label"
_FEW = 100  # suspects in the report; all of them are marked


def suspects(
    run: Run,
    data: Dataset,
    *,
    name: str = "",
    folds: Annotated[int, Field(ge=2, le=20)] = 5,
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    drop: bool = False,
) -> Dataset:
    """Mark, or drop, the records whose label the other records contradict.

    Args:
        data: every split that is there is judged; records without the label pass as they are.
        name: the label, `class` for that of pictures, `target` for the answer to a prompt, or a column of rows; empty
            takes the only label there is.
        folds: into how many parts the records are dealt; each is judged by what the others teach. More take longer,
            and are worth it where records are few.
        margin: how much likelier (in probability, 0 to 1) another class has to be. Higher finds fewer, and is right
            more often.
        drop: leave the suspects out, with the reason kept, in place of marking them.

    Returns:
        A Dataset of the same splits, with `suspects.json`: how many labels of each class are really of another.

    Raises:
        DataError: there is no such label, or fewer than two classes that have as many records as there are folds.
    """
    from volant.stages.collect._classes import chosen, class_of
    from volant.store.dataset import dropped, rows, writer

    samples = list(rows(data))
    named = chosen(samples, name, run.step)
    classes = [class_of(sample, named) for sample in samples]
    counts = Counter(value for value, _ in classes if value is not None)
    told_apart = sorted(value for value, count in counts.items() if count >= folds)
    if len(told_apart) < 2:
        what = f"{len(told_apart)} classes of {named!r} have {folds} records or more; two are needed."
        raise DataError(what, where=run.step, fix="Label more records, or take fewer `folds`.")
    judged = [number for number, (value, _) in enumerate(classes) if value in told_apart]
    verdict = _judged(run, [samples[n] for n in judged], [str(classes[n][0]) for n in judged], named, folds, margin)
    found = {
        judged[int(at)]: {
            "given": str(classes[judged[int(at)]][0]),
            "suggested": told_apart[int(verdict.suggested[at])],
            "margin": round(float(verdict.margins[at]), 4),
        }
        for at in verdict.suspects
        if not classes[judged[int(at)]][1]  # what a person decided stands
    }
    with writer(run.out, modality=run.modality) as out:
        for number, sample in enumerate(samples):
            out.write(_marked(sample, named, found.get(number), margin, drop))
        out.write_all(dropped(data))
    _report(run, named, counts, told_apart, judged, verdict, {samples[n].id: one for n, one in found.items()})
    return Dataset(run.out)


def _judged(run: Run, samples: list[Sample], values: list[str], name: str, folds: int, margin: float) -> Verdict:
    import numpy as np

    from volant.modalities import open_modality
    from volant.scorers.classifier import features_of, held_out
    from volant.scorers.confident import judge
    from volant.stages.collect._classes import without

    names, labels = np.unique(values, return_inverse=True)
    with run.progress("judging labels", len(samples), "records") as bar:
        seen = features_of(open_modality(run.modality), [without(sample, name) for sample in samples])
        run.check_stop()
        chances = held_out(seen, labels, len(names), folds=folds, seed=run.seed)
        bar.advance(len(samples))
    return judge(chances, labels, margin=margin)


def _marked(sample: Sample, name: str, found: dict[str, Any] | None, margin: float, drop: bool) -> Sample:
    marks = {other: mark for other, mark in sample.attrs.get("suspect", {}).items() if other != name}
    if found and not drop:
        marks[name] = found
    attrs = {key: value for key, value in sample.attrs.items() if key != "suspect"} | (
        {"suspect": marks} if marks else {}
    )
    reason = ""
    if found and drop:
        reason = f"{RULE}: {found['margin']} ({found['given']}, rather {found['suggested']}) against {margin:g}"
    return sample.model_copy(update={"attrs": attrs, "drop": reason})


def _report(
    run: Run, name: str, counts: Counter[str], told_apart: list[str], judged: list[int], verdict: Verdict,
    found: dict[str, dict[str, Any]],
) -> None:  # fmt: skip
    """Write `suspects.json` and the page, score the noise, and say it."""
    from volant.stages.collect._data_page import data_page
    from volant.store.page import paragraph, section, table

    aside = {value: count for value, count in sorted(counts.items()) if value not in told_apart}
    run.score(Score.exact("label_suspects", len(found) / len(judged), n=len(judged), direction="lower"))
    note = "estimated share of wrong labels"
    run.score(Score.exact("label_noise", verdict.noise, n=len(judged), direction="lower", note=note))
    run.say(f"{len(found):,} of {len(judged):,} labels are probably wrong; about {verdict.noise:.1%} may be")
    if aside:
        run.say(f"classes with too few records to judge were left aside: {', '.join(aside)}")
    joint = {
        value: {other: round(float(verdict.joint[i, j]), 6) for j, other in enumerate(told_apart)}
        for i, value in enumerate(told_apart)
    }
    body = {
        "name": name, "judged": len(judged), "suspects": len(found), "noise": round(verdict.noise, 6), "joint": joint,
        "thresholds": {c: round(float(t), 6) for c, t in zip(told_apart, verdict.thresholds, strict=True)},
        "left_aside": aside, "first": [{"id": id, **one} for id, one in list(found.items())[:_FEW]],
    }  # fmt: skip
    (run.out / "suspects.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    pairs = Counter((one["given"], one["suggested"]) for one in found.values())
    shown = [(given, other, n) for (given, other), n in pairs.most_common(_FEW)]
    lead = paragraph(f"{len(found):,} of {len(judged):,} labels {name!r} are contradicted by the other records.")
    listed = [table(("labelled", "rather", "records"), shown, numeric=(2,))] if shown else []
    data_page(run, Dataset(run.out), more=[section("Suspected labels", lead, *listed)])
