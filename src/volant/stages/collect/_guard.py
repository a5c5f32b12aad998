"""What every step that guards evaluation sets does: texts held against them, drops with evidence, a report.

In go evaluation sets and the records to be trained on; out come the drops in the records, `leakage.json` beside
the samples and one score a set (the share of its items that were found), which the artifact's card carries on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from volant.core import Run, Score

SHOWN = 100  # pieces of evidence a set in the report; all of them stand in the drops


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


def evaluation_set(name: str, tables: Iterable[Any]) -> EvaluationSet:
    """A set of the texts among these rows; pictures and rows of tables have no words to guard."""
    import numpy as np

    from volant.modalities.leakage import Guard, parts_of
    from volant.modalities.record_columns import contents, plain_texts
    from volant.store import arrow_functions as pc
    from volant.store.arrow_values import numbers
    from volant.store.dataset import from_table

    ids: list[str] = []
    items: list[list[str]] = []
    for table in tables:
        texts = pc.take(table, numbers(np.flatnonzero(~contents(table))))
        ids += texts["id"].to_pylist()
        if plain_texts(texts).all():
            items += [[text] for text in texts["content"].to_pylist()]
        else:
            items += [parts_of(sample) for sample in from_table(texts)]
    return EvaluationSet(name, ids, Guard(items))


@dataclass(frozen=True)
class Shared:
    """What a text shares with an item of a set.

    Attributes:
        number: of the set.
        leak: where, and how much (`volant.modalities.leakage.Leak`).
        words: the shared words; of the longest run of a text alone.
    """

    number: int
    leak: Any
    words: str


def look(sets: Sequence[EvaluationSet], texts: Any) -> list[Shared]:
    """What an Arrow array of texts shares with the sets; see `look_at`."""
    from volant.modalities.text_features import likeness

    return look_at(sets, likeness(texts).words, lambda number: str(texts[number]))


def look_at(sets: Sequence[EvaluationSet], words: Any, text_of: Callable[[int], str]) -> list[Shared]:
    """What texts share with the sets; changes nothing, so that several threads may look.

    Args:
        words: of likeness, of all texts.
        text_of: gives a text by its number; only those that share something are asked for.
    """
    found: list[Shared] = []
    for number, one in enumerate(sets):
        leaking: set[int] = set()
        leaks = one.guard.scan(words) if one.ids else []
        for leak in sorted(leaks, key=lambda leak: (leak.text, -leak.longest, leak.guarded)):
            new = leak.text not in leaking
            leaking.add(leak.text)
            found.append(Shared(number, leak, leak.words(text_of(leak.text))[:200] if new else ""))
    return found


def told(sets: Sequence[EvaluationSet], found: Sequence[Shared]) -> dict[int, str]:
    """Why each of the texts that were looked at is dropped, by its place; changes nothing."""
    from volant.modalities.leakage import RUN, WIDTH

    drops: dict[int, str] = {}
    for shared in found:
        one, leak = sets[shared.number], shared.leak
        if leak.text not in drops:
            bar = RUN if leak.longest >= RUN else min(WIDTH, leak.longest)
            where = f'{one.name} {one.ids[leak.guarded]} at word {leak.at} ("{shared.words}")'
            drops[leak.text] = f"leakage: {leak.longest} words shared with {where} against {bar}"
    return drops


def noted(sets: Sequence[EvaluationSet], ids: Sequence[str], found: Sequence[Shared]) -> None:
    """The sets keep count of what was found, and evidence: of one table after another, in their order."""
    known: set[tuple[int, int]] = set()
    for shared in found:
        one, leak = sets[shared.number], shared.leak
        one.found.add(leak.guarded)
        if (shared.number, leak.text) in known:
            continue
        known.add((shared.number, leak.text))
        one.records += 1
        if len(one.evidence) < SHOWN:
            case = {"item": one.ids[leak.guarded], "record": ids[leak.text], "words": leak.longest}
            case |= {"share": round(leak.share, 3), "at": leak.at, "item_at": leak.guarded_at, "text": shared.words}
            one.evidence.append(case)


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
