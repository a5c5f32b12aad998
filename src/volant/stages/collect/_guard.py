"""What every step that guards evaluation sets does: texts held against them, drops with evidence, a report.

In go evaluation sets and the records to be trained on; out come the drops in the records, `leakage.json` beside
the samples and one score a set (the share of its items that were found), which the artifact's card carries on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from volant.core import Run, Sample, Score
from volant.core.sample import CONTENT_SHAPES

SHOWN = 100  # pieces of evidence a set in the report; all of them stand in the drops
BATCH = 2000


@dataclass
class EvaluationSet:
    """A set whose items no training record may hold, and what was found of it.

    Attributes:
        guard: the index of its items (`volant.modalities.leakage.Guard`).
        found: items of which something was found, by index.
        records: how many records held something of it.
    """

    name: str
    ids: list[str]
    guard: Any
    found: set[int] = field(default_factory=set)
    records: int = 0
    evidence: list[dict[str, Any]] = field(default_factory=list)


def evaluation_set(name: str, samples: Iterable[Sample]) -> EvaluationSet:
    """A set of the texts among these samples; pictures and rows have no words to guard."""
    from volant.modalities.leakage import Guard, parts_of

    texts = [sample for sample in samples if sample.shape not in CONTENT_SHAPES]
    return EvaluationSet(name, [sample.id for sample in texts], Guard([parts_of(sample) for sample in texts]))


def hold(run: Run, samples: Sequence[Sample], sets: Sequence[EvaluationSet]) -> None:
    """Drop what shares words with a set, with the longest run as evidence; what is dropped already is left alone."""
    from volant.modalities.leakage import RUN, WIDTH
    from volant.modalities.words import words_of

    kept = [sample for sample in samples if not sample.drop and sample.shape not in CONTENT_SHAPES]
    guarding = [one for one in sets if one.ids]
    for first in range(0, len(kept) if guarding else 0, BATCH):
        run.check_stop()
        part = kept[first : first + BATCH]
        texts = [sample.text for sample in part]
        words = words_of(texts)
        for one in guarding:
            leaking: set[int] = set()
            for leak in sorted(one.guard.scan(words), key=lambda leak: (leak.text, -leak.longest, leak.guarded)):
                one.found.add(leak.guarded)
                if leak.text in leaking:
                    continue
                leaking.add(leak.text)
                shared = leak.words(texts[leak.text])[:200]
                place = f"at word {leak.at}"
                record, item = part[leak.text], one.ids[leak.guarded]
                if len(one.evidence) < SHOWN:
                    found = {"item": item, "record": record.id, "words": leak.longest, "share": round(leak.share, 3)}
                    one.evidence.append({**found, "at": leak.at, "item_at": leak.guarded_at, "text": shared})
                bar = RUN if leak.longest >= RUN else min(WIDTH, leak.longest)
                told = f'{leak.longest} words shared with {one.name} {item} {place} ("{shared}") against {bar}'
                record.drop = record.drop or f"leakage: {told}"
            one.records += len(leaking)


def report(run: Run, sets: Sequence[EvaluationSet]) -> None:
    """Write `leakage.json` and score each set: which share of its items was found in the training records."""
    from volant.modalities.leakage import RUN, SHARE, WIDTH

    for one in sets:
        if one.ids:
            share = len(one.found) / len(one.ids)
            note = f"{len(one.found):,} of {len(one.ids):,} items in {one.records:,} records, which were dropped"
            score = Score.exact(f"leaked_{one.name}", share, n=len(one.ids), direction="lower", note=note)
            run.score(score)
            run.say(f"leakage: {one.name}: {note}")
    body = {
        "rules": {"run": RUN, "width": WIDTH, "share": SHARE},
        "sets": [
            {
                "name": one.name, "items": len(one.ids), "found": len(one.found), "records": one.records,
                "template_runs": one.guard.templates, "evidence": one.evidence,
            }
            for one in sets
        ],
    }  # fmt: skip
    run.out.mkdir(parents=True, exist_ok=True)
    (run.out / "leakage.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
