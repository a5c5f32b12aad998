"""Which data there is for the problem, before any of it is gathered: ranked, with licence, size and overlap.

Enters: the goal or a brief, a folder of data, the datasets that past runs of the project made, and the hub's list
where the user asked for it. Leaves: a Plan (`plan.json` for programs, `index.html` for people) that names each
dataset, why it stands where it stands, and the step that gathers it. The rank is relevance x what is new x size, and
all three are shown: relevance by the words of the brief that its records and its card have, the rare ones counting
more; overlap by runs of words that stand in `data` already; size by the logarithm of its bytes, full at 1 GB. What
cannot be used comes last, with the reason. Past runs are the project's own and do not make the step stale.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Dataset, Folder, Plan, Run
from volant.core.errors import SettingError

if TYPE_CHECKING:
    from volant.stages.collect._available import Found

_FULL = 9.0  # powers of ten of bytes at which size counts in full
_UNKNOWN = 0.5  # how much size counts where nobody states it
_TOLD = 0.7  # how much a word counts that only the card says, against one that all records have
_WORD = re.compile(r"[^\W\d_]{3,}")
_PLAIN = set(
    """and are but can for from has have how into its may not one our out that the their them then they this was were
    what when where which who why will with you your write make build create generate given""".split()  # noqa: SIM905
)


def candidates(
    run: Run,
    brief: Plan | None = None,
    data: Dataset | None = None,
    *,
    folder: Folder = "",
    online: bool = False,
    query: str = "",
    limit: Annotated[int, Field(ge=1, le=100)] = 10,
    sample: Annotated[int, Field(ge=1, le=10_000)] = 200,
) -> Plan:
    """Rank the data that is available for the problem.

    Args:
        run: brings the goal and the datasets of past runs.
        brief: its problem is what data is looked for; without one the goal's is.
        data: what is there already; candidates that repeat it rank lower.
        folder: a directory whose sub-folders and files are datasets; they are sampled, not gathered.
        online: ask the Hugging Face hub, too; opens a connection, and the answer changes with the hub.
        query: further words that data should have (`python docstring`).
        limit: how many datasets of the hub are listed for each of the three longest words, by downloads.
        sample: records of each candidate that are read, the first ones of up to 20 files; more is surer and slower.

    Returns:
        A Plan with the ranked list.

    Raises:
        SettingError: nothing says what data is looked for.
        RemoteError: `online` is set and the hub does not answer.
    """
    from volant.stages.collect import _available

    stated = brief.read_json("plan.json") if brief else {}
    problem = str(stated.get("problem") or run.goal.problem)
    words = _words(f"{problem} {query}")
    if not words:
        fix = "State the problem: goal: {problem: ...}, or words in `query`."
        raise SettingError("nothing says what data is looked for.", where=run.step, fix=fix)
    found: list[Found] = []
    if folder:
        found += _available.folders(run, folder, run.snapshot("folder").files, sample)
    found += _available.past(run, run.past(), data.digest if data else "", sample)
    if online:
        longest = sorted(sorted(words), key=len, reverse=True)[:3]
        found += _available.hub(run, longest, limit)
    _judge_relevance(found, words)
    if data is not None:
        _judge_overlap(run, found, data)
    ranked = _ranked(found)
    body = {
        "kind": "candidates", "problem": problem, "words": sorted(words),
        "searched": {"folder": folder, "past_runs": True, "hub": online, "held_against_data": data is not None},
        "candidates": [one.as_json() for one in ranked],
    }  # fmt: skip
    (run.out / "plan.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (run.out / "index.html").write_text(_page(body), encoding="utf-8")
    usable = [one for one in ranked if not one.hindrance]
    best = f"; first: {usable[0].name} ({usable[0].where})" if usable else ""
    run.say(f"{len(ranked):,} datasets, {len(usable):,} of them usable{best}")
    return Plan(run.out)


def _words(text: str) -> set[str]:
    """The telling words of a text, plurals as singulars."""
    return {_stem(word) for word in _WORD.findall(text.lower()) if word not in _PLAIN}


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _judge_relevance(found: Sequence[Found], wanted: set[str]) -> None:
    """Set `relevance`: the share of the wanted words that a candidate has, a word weighing by how rare it is.

    A word that is in the share s of a candidate's records counts sqrt(s), in its card `_TOLD`; it weighs
    ln(1 + N / n) where n of the N records and cards that were read have it.
    """
    said = [[_words(_text(sample)) & wanted for sample in one.samples] for one in found]
    cards = [_words(re.sub(r"[_/.-]+", " ", one.about)) & wanted for one in found]
    known = Counter(word for texts in (*said, cards) for text in texts for word in text)
    total = sum(map(len, said)) + len(cards)
    weight = {word: math.log(1 + total / (1 + known[word])) for word in sorted(wanted)}
    for one, texts, card in zip(found, said, cards, strict=True):
        share = Counter(word for text in texts for word in text)
        has = {
            word: max(math.sqrt(share[word] / len(texts)) if texts else 0.0, _TOLD if word in card else 0.0)
            for word in weight
        }
        one.relevance = sum(weight[word] * has[word] for word in weight) / (sum(weight.values()) or 1.0)
        one.found = sorted((word for word in has if has[word]), key=lambda word: (-weight[word] * has[word], word))


def _text(sample: Any) -> str:
    return f"{sample.text} {sample.condition or ''}"[:20_000]


def _judge_overlap(run: Run, found: Sequence[Found], data: Dataset) -> None:
    """Set `overlap`: the share of sampled records that stand in `data`, whole or in long runs of words."""
    from volant.core.sample import CONTENT_SHAPES
    from volant.modalities.leakage import Guard, parts_of
    from volant.modalities.words import words_of
    from volant.store.dataset import batches, count

    sampled = [(number, sample) for number, one in enumerate(found) for sample in one.samples]
    texts = [(number, sample) for number, sample in sampled if sample.shape not in CONTENT_SHAPES]
    guard = Guard([parts_of(sample) for _, sample in texts]) if texts else None
    where = {sample.id: set[int]() for _, sample in sampled}
    for at, (_, sample) in enumerate(sampled):
        where[sample.id].add(at)
    place = {id(sample): at for at, (_, sample) in enumerate(sampled)}
    there: set[int] = set()
    with run.progress("holding candidates against the data", count(data, "train"), "records") as bar:
        for batch in batches(data, "train", 2000) if sampled and count(data, "train") else ():
            run.check_stop()
            for sample in batch:
                there |= where.get(sample.id, set())
            if guard is not None:
                leaks = guard.scan(words_of([sample.text for sample in batch]))
                there |= {place[id(texts[leak.guarded][1])] for leak in leaks}
            bar.advance(len(batch))
    hits = Counter(sampled[at][0] for at in there)
    for number, one in enumerate(found):
        one.overlap = hits[number] / len(one.samples) if one.samples else None


def _ranked(found: Sequence[Found]) -> list[Found]:
    """Usable ones first, by relevance x what is new x size."""
    for one in found:
        size = min(1.0, math.log10(max(one.bytes, 1)) / _FULL) if one.bytes >= 0 else _UNKNOWN
        one.score = one.relevance * (1 - (one.overlap or 0.0)) * size
    return sorted(found, key=lambda one: (bool(one.hindrance), -round(one.score, 9), one.name))


def _page(body: dict[str, Any]) -> str:
    """The list for people."""
    from volant.store.page import badge, page, paragraph, section, table

    rows = [
        (
            one["name"], one["where"], one["licence"] or "none stated", _size(one), f"{one['relevance']:.2f}",
            "not looked at" if one["overlap"] is None else f"{one['overlap']:.0%}", f"{one['score']:.2f}",
            ", ".join(one["found"][:6]),
            badge("out: " + one["hindrance"], "fail") if one["hindrance"] else badge("usable", "pass"),
        )
        for one in body["candidates"]
    ]  # fmt: skip
    heads = ["dataset", "found in", "licence", "size", "relevance", "there already", "rank by", "words found", ""]
    steps = [
        (one["name"], json.dumps(one["take"], ensure_ascii=False), ", ".join(one["fields"]))
        for one in body["candidates"]
    ]
    places = {"a folder": body["searched"]["folder"], "past runs": True, "the hub": body["searched"]["hub"]}
    looked = [name for name, done in places.items() if done]
    note = (
        "The rank is relevance x what is new x size (by its logarithm, full at 1 GB). Relevance and overlap are those "
        "of the records that were read, the first ones of each file."
    )
    parts = [
        paragraph(body["problem"], kind="lead"),
        paragraph(f"Looked at: {', '.join(looked)}. Looked for: {', '.join(body['words'])}."),
        section("What there is", table(heads, rows, numeric=(4, 5, 6)) if rows else paragraph("Nothing was found."),
                paragraph(note, kind="note")),
        section("How to gather it", table(["dataset", "step", "its fields"], steps)) if rows else "",
    ]  # fmt: skip
    return page("Data that could be gathered", "\n".join(parts), eyebrow="Collect")


def _size(one: dict[str, Any]) -> str:
    known = f"{one['bytes'] / 1e6:,.1f} MB" if one["bytes"] >= 0 and one["where"] != "hub" else ""
    return ", ".join(filter(None, (known, f"{one['records']} records" if one["records"] else ""))) or "not stated"
