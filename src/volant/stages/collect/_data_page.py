"""The data report: what a Dataset holds, what was dropped from it and why, as one self-contained page.

Enters: a written Dataset, and sections of others (the bias of its texts). Leaves: `index.html` beside the data, which
`volant show STEP --page` opens. It holds no time and no path, so the same data have the same page.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from heapq import nsmallest
from typing import TYPE_CHECKING

from volant.core import Dataset, Run
from volant.core.protocols import Refusal
from volant.core.sample import SPLITS
from volant.stages.collect._counting import facts_of, safe
from volant.stages.collect._facts import Facts, Rule, histogram

if TYPE_CHECKING:
    from volant.store.page import Html

Place = tuple[str, ...]  # source, licence, consent, origin
_MOST = 20  # rows of a table; the rest is summed up
_ABOUT = {
    "near_duplicate": "similarity to the record that was kept",
    "exact_duplicate": "equal to the record that was kept",
    "leakage": "runs of words shared with a record that is held out",
    "personal_data": "findings in the record",
    "client_cap": "rows of one client",
    "check": "what the modality refuses",
    "language": "languages that were asked for",
    "language_sure": "how sure the model is of the language",
}


def data_page(run: Run, data: Dataset, *, more: Sequence[str] = (), passed: Facts | None = None) -> None:
    """Write `index.html` into the run's folder.

    Args:
        data: what was written there.
        more: sections that stand after those on the data.
        passed: what was counted of the records while they were written.
    """
    from volant.store.page import contents, page
    from volant.store.plots import STYLE

    found = facts_of(data, passed)
    sections = [*_sections(found), *more]
    parts = [*_head(found), contents(sections), *sections]
    name = f"{sum(found.kept.values()):,} records of {found.modality}"
    text = page(name, "\n".join(parts), eyebrow="data report", head=STYLE)
    (run.out / "index.html").write_text(text, encoding="utf-8")


def refused(total: int, refusals: Sequence[Refusal]) -> Html:
    """A section on what did not arrive: every reason with how often it was given, and where first."""
    from volant.store.page import paragraph, section, table

    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for refusal in refusals:
        reason = safe(re.sub(r"\d[\d.,_]*", "…", refusal.reason), 200)
        counts[reason] += 1
        first.setdefault(reason, refusal.where)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    told = f"{total:,} records could not be read or may not be used. `refused.jsonl` beside this page names each"
    told += "." if total == len(refusals) else f" of the first {len(refusals):,}, which are counted here."
    rows = [(reason, f"{n:,}", first[reason]) for reason, n in ranked[:_MOST]]
    if ranked[_MOST:]:
        rows.append((f"{len(ranked) - _MOST:,} other reasons", f"{sum(n for _, n in ranked[_MOST:]):,}", ""))
    return section("What was refused", paragraph(told), table(("reason", "records", "first"), rows, numeric=(1,)))


def _head(found: Facts) -> list[str]:
    from volant.store.page import paragraph, tiles

    kept, gone = sum(found.kept.values()), sum(found.dropped.values())
    words = sum(found.words.values())
    if gone:
        often = max(found.rules.values(), key=lambda r: (r.count, r.name))
        told = (
            f"{kept:,} of {kept + gone:,} records are kept; `{often.name}` dropped most of the rest ({often.count:,})."
        )
    else:
        told = f"{kept:,} records; nothing was dropped."
    shown: list[tuple[str, object]] = [
        ("records kept", f"{kept:,}"),
        ("dropped", f"{gone:,} ({gone / max(1, kept + gone):.1%})"),
    ]
    if words:
        shown.append(("words kept", f"{words:,}"))
    licences = len({source[1] for source in found.sources})
    under = f"sources under {licences:,} licence{'s' if licences != 1 else ''}"
    shown.append((under, f"{len({source[0] for source in found.sources}):,}"))
    return [paragraph(told, kind="lead"), tiles(shown)]


def _sections(found: Facts) -> list[str]:
    from volant.store.page import section

    parts: list[str] = [
        section("Where it comes from", _sources(found)),
        section("Splits", _splits(found), *_lengths(found)),
    ]
    if found.languages:
        parts.append(section("Languages", _counted(found.languages, "language")))
    if found.labels:
        named = Counter({f"{name}: {value}": n for (name, value), n in found.labels.items()})
        parts.append(section("Labels", _counted(named, "label")))
    if found.rules:
        parts.append(section("What was dropped", *_rules(found)))
    parts += [section("Duplicates", *_duplicates(found))] if found.twins else []
    parts += [section("Leakage", *_leakage(found.rules["leakage"]))] if "leakage" in found.rules else []
    if found.masked or found.flags or found.changed:
        parts.append(section("Personal data, flags and repair", *_marks(found)))
    return parts


_OWN = ("leakage", "exact_duplicate", "near_duplicate")  # rules with a section of their own


def _splits(found: Facts) -> str:
    from volant.store.page import table

    rows = [
        (split, f"{found.kept[split]:,}", f"{found.dropped[split]:,}", f"{found.words[split]:,}")
        for split in SPLITS
        if found.kept[split] or found.dropped[split]
    ]
    return table(("split", "kept", "dropped", "words"), rows, numeric=(1, 2, 3))


def _lengths(found: Facts) -> list[str]:
    from volant.store.charts import columns
    from volant.store.page import Html

    plots = []
    for split in SPLITS:
        counts = found.lengths.get(split)
        if counts:
            low, high = min(counts), max(counts)
            names = [f"{2**power:,}" for power in range(low, high + 2)]
            values = [counts[power] for power in range(low, high + 1)]
            plots.append(columns(f"Length, {split}", "words a record, doubling", values, names))
    return [Html(f'<div class="plots">{"".join(plots)}</div>')] if plots else []


def _sources(found: Facts) -> str:
    from volant.store.page import table
    from volant.store.plots import meter

    named = _by_folder(found.sources)
    ranked = nsmallest(_MOST, named.items(), key=lambda item: (-item[1][0], item[0]))
    rows: list[Sequence[object]] = [
        (f"{place} ({files:,} files)" if files > 1 else place, *terms, f"{n:,}", meter(n / ranked[0][1][0]))
        for (place, *terms), (n, files) in ranked
    ]
    if len(named) > _MOST:
        rest = found.sources.total() - sum(n for _, (n, _) in ranked)
        rows.append((f"{len(named) - _MOST:,} more", "", "", "", f"{rest:,}", ""))
    return table(("source", "licence", "consent", "origin", "records", ""), rows, numeric=(4,))


def _by_folder(sources: Counter[Place]) -> dict[Place, tuple[int, int]]:
    """Records and files of each source; where there are too many, those of one folder and terms are one."""
    found = {source: (n, 1) for source, n in sources.items()}
    while len(found) > _MOST and (deepest := max(_depth(place) for place, *_ in found)):
        merged: dict[Place, tuple[int, int]] = {}
        for (place, *terms), (n, files) in found.items():
            folder = f"{place.rstrip('/').rpartition('/')[0]}/" if _depth(place) == deepest else place
            key = (folder, *terms)
            before = merged.get(key, (0, 0))
            merged[key] = (before[0] + n, before[1] + files)
        found = merged
    return found


def _depth(place: str) -> int:
    return place.split("://")[-1].rstrip("/").count("/") if "/" in place else 0


def _counted(counts: Counter[str], name: str) -> str:
    from volant.store.page import table
    from volant.store.plots import meter

    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    total = sum(counts.values())
    rows = [(what, f"{n:,}", f"{n / total:.1%}", meter(n / ranked[0][1])) for what, n in ranked[:_MOST]]
    if ranked[_MOST:]:
        rest = sum(n for _, n in ranked[_MOST:])
        rows.append((f"{len(ranked) - _MOST:,} more", f"{rest:,}", f"{rest / total:.1%}", meter(0)))
    return table((name, "records", "share", ""), rows, numeric=(1, 2))


def _rules(found: Facts) -> list[str]:
    """Every rule with its count; then the values that it saw, and the records nearest to its threshold."""
    from volant.store.page import Html, table
    from volant.store.plots import meter

    ranked = sorted(found.rules.values(), key=lambda rule: (-rule.count, rule.name))
    total = sum(found.kept.values()) + sum(found.dropped.values())
    rows = [
        (f"`{r.name}`", f"{r.count:,}", f"{r.count / total:.2%}", r.bar, meter(r.count / ranked[0].count))
        for r in ranked
    ]
    own = [rule for rule in ranked if rule.name not in _OWN]
    plots = "".join(_values(rule) for rule in own)
    return [
        table(("rule", "dropped", "of all", "threshold", ""), rows, numeric=(1, 2)),
        Html(f'<div class="plots">{plots}</div>' if plots else ""),
        *map(_examples, own),
    ]


def _values(rule: Rule) -> str:
    from volant.store.charts import columns
    from volant.store.plots import short

    if len(set(rule.values)) < 3:
        return ""
    counts, low, high = histogram(rule.values, rule.limit)
    what = _ABOUT.get(rule.name, "values that it saw")
    at = -1.0 if rule.limit is None else (rule.limit - low) / (high - low)
    return columns(_title(rule.name), f"{what}; threshold {rule.bar}", counts, [short(low), short(high)], limit=at)


def _examples(rule: Rule, *, shown: bool = False) -> str:
    from volant.store.page import Html, escaped

    cases = "".join(
        f"<div class=case><dl><dt>value</dt><dd class=own>{escaped(e.value)}</dd><dt>threshold</dt>"
        f"<dd>{escaped(rule.bar)}</dd><dt>from</dt><dd>{escaped(e.uri)}</dd>"
        f"<dt>record</dt><dd class=digest>{escaped(e.record)}</dd></dl><pre>{escaped(e.text)}</pre></div>"
        for _, _, e in rule.examples
    )
    which = "nearest to the threshold" if rule.values else "the first"
    if rule.count <= len(rule.examples):
        which = "all"
    tag = "details open" if shown else "details"
    return Html(f"<{tag}><summary><code>{escaped(rule.name)}</code>, examples: {which}</summary>{cases}</details>")


def _duplicates(found: Facts) -> list[str]:
    from volant.store.page import Html, escaped, paragraph

    exact, near = (found.rules.get(name) for name in ("exact_duplicate", "near_duplicate"))
    told = f"{exact.count if exact else 0:,} records equal another one, {near.count if near else 0:,} nearly do."
    often = [(name, n) for name, n in found.twins.most_common() if name in found.twin_texts][:3]
    cases = "".join(
        f"<div class=case><dl><dt>copies dropped</dt><dd class=own>{n:,}</dd><dt>kept record</dt>"
        f"<dd class=digest>{escaped(name)}</dd></dl><pre>{escaped(found.twin_texts[name])}</pre></div>"
        for name, n in often
    )
    parts: list[str] = [paragraph(told)]
    if near:
        parts.append(Html(f'<div class="plots">{_values(near)}</div>'))
    parts += [_examples(rule) for rule in (exact, near) if rule]
    return [*parts, Html(f"<h3>What was copied most often</h3>{cases}")] if cases else parts


def _leakage(rule: Rule) -> list[str]:
    from volant.store.page import Html, paragraph

    told = (
        f"{rule.count:,} training records share runs of words with records that are held out, and were dropped. "
        "The value says with which record, and which words."
    )
    return [paragraph(told), Html(f'<div class="plots">{_values(rule)}</div>'), _examples(rule, shown=True)]


def _marks(found: Facts) -> list[str]:
    from volant.store.page import paragraph

    parts: list[str] = []
    if found.masked:
        told = f"{found.changed['masked']:,} records had personal data in them, which is masked."
        parts += [paragraph(told), _found(found.masked, "personal data", "found")]
    if found.changed["repaired"]:
        parts.append(paragraph(f"{found.changed['repaired']:,} records had broken Unicode, which is mended."))
    if found.flags:
        told = "A flag says look, not drop: lists of bad words take away texts by and about minorities first. "
        told += "`toxic` are threats, insults and hate in plain phrases; what is subtle is not seen."
        parts += [paragraph(told), _found(found.flags, "flag", "records with a word of it")]
    return parts


def _found(counts: Counter[str], name: str, what: str) -> str:
    from volant.store.page import table

    rows = [(kind.replace("_", " "), f"{n:,}") for kind, n in sorted(counts.items(), key=lambda i: (-i[1], i[0]))]
    return table((name, what), rows, numeric=(1,))


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
