"""Rows counted for the page of a Dataset, a table at a time.

In go tables of the schema, or a written Dataset; out come `Facts`: counts, lengths, and for every rule that dropped
something its values, threshold and the records nearest to the threshold. Columns are read a row group at a time; no
Sample is made. Excerpts have their personal data masked: a page travels further than the data.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from heapq import nsmallest
from typing import Any

from volant.core import Dataset
from volant.core.sample import CONTENT_SHAPES, TEXT_FIELDS
from volant.stages.collect._facts import EXAMPLES, NUMBER, TWIN, Example, Facts, Rule, most_often

_EXCERPT = 400  # characters
_AHEAD = 200  # characters after an excerpt's end that a mask may need
_REASON = re.compile(r"(\w+): (.*) against (.*)", re.DOTALL)
# What names a record within its source: of a web page all but its host, of an archive or a repository a file, of
# a file a line, a part, a row.
_PLACE = (
    (r"^(https?://[^/]+)/.*", r"\1"),
    (r"(?i)(\.(?:zip|tar|tgz|tar\.\w+))/.*", r"\1"),
    (r"^(git:[^/]*@\w+)/.*", r"\1"),
    (r"[:#\[]\d[^/]*$", ""),
)


def facts_of(data: Dataset, passed: Facts | None = None) -> Facts:
    """Count a Dataset; its dropped records are read first, so that of what was kept oftenest a look can be had.

    Args:
        passed: what was counted of all records as they were written, which are then not read again.
    """
    from volant.store.dataset import parts, tables

    found = passed or Facts(str(data.about.get("modality", "text")))
    if passed is None:
        for table in _dropped(data):
            count_dropped(found, table)
    often = most_often(found.twins)
    if passed is None:
        for table in tables(data, columns=["id", "shape", "split", "source", "labels", "attrs", *TEXT_FIELDS]):
            count_kept(found, table, often)
    else:
        found.twin_texts = {name: text for name, text in found.twin_texts.items() if name in often}
        for part in parts(data) if set(often) - set(found.twin_texts) - found.sought else ():
            if len(_places(part.read(["id"]), often)):
                _look_at_twins(found, part.read(["id", "split", *TEXT_FIELDS]), often)
    _make_safe(found)
    return found


def _dropped(data: Dataset) -> Iterator[Any]:
    from volant.store.shards import parts_of

    for part in parts_of(sorted((data.path / "dropped").glob("dropped-*.parquet"))):
        yield part.read(["id", "split", "source", "drop", *TEXT_FIELDS])


def count_dropped(found: Facts, table: Any) -> None:
    """Count dropped rows; of each rule the values that it saw, and the rows nearest to its threshold."""
    found.dropped.update(table["split"].to_pylist())
    rules: dict[str, Rule] = {}
    near: dict[str, list[tuple[float, int, int, str]]] = {}  # by rule: how far away, which of those dropped, where
    for at, reason in enumerate(table["drop"].to_pylist()):
        parsed = _REASON.fullmatch(reason)
        name, value, bar = parsed.groups() if parsed else (reason.split(":")[0], reason.partition(":")[2].strip(), "")
        if name not in rules:
            rules[name], near[name] = Rule(name, bar), []
        rule = rules[name]
        rule.count += 1
        number, limit, far = NUMBER.match(value), _number_in(bar), 0.0
        if number:
            rule.values.append(float(number[0]))
            far = abs(rule.values[-1] - limit) if limit is not None else 0.0
        twin = TWIN.search(value)
        if twin:
            found.twins[twin[1]] += 1
        near[name].append((far, rule.count, at, value))
    for name, rule in rules.items():
        for far, order, at, value in nsmallest(EXAMPLES, near[name]):
            uri = table["source"][at]["uri"].as_py()
            shown = Example(table["id"][at].as_py(), uri, value, _beginning(table, at))
            rule.examples.append((far, order, shown))
        found.rules.setdefault(name, Rule(name, rule.bar)).add(rule)


@lru_cache(maxsize=256)
def _number_in(bar: str) -> float | None:
    number = NUMBER.search(bar)
    return float(number[0]) if number else None


def count_kept(found: Facts, table: Any, often: Sequence[str]) -> None:
    """Count kept rows of the schema; of the records of these ids an excerpt is taken."""
    import numpy as np

    from volant.store import arrow_functions as pc
    from volant.store.arrow_values import one, values

    source = table["source"]
    places = pc.struct_field(source, "uri")
    for pattern, instead in _PLACE:
        places = pc.replace_substring_regex(places, pattern, instead)
    known = [pc.struct_field(source, name) for name in ("licence", "consent", "origin")]
    _count_together(found.sources, [places, *known])
    words_N = _words(table)
    power_N = np.frexp(words_N.astype(np.float64))[1] - 1  # of the largest power of two in each
    for split in pc.unique(table["split"]).to_pylist():
        own_N = values(pc.equal(table["split"], one(split)))
        found.kept[split] += int(own_N.sum())
        found.words[split] += int(words_N[own_N].sum())
        powers, counts = np.unique(power_N[own_N & (words_N > 0)], return_counts=True)
        if len(powers):
            found.lengths.setdefault(split, Counter()).update(dict(zip(powers.tolist(), counts.tolist(), strict=True)))
    _count_attrs(found, table["attrs"])
    sizes = pc.list_value_length(table["labels"])
    some = pc.greater(sizes, one(0, sizes.type))
    for labels in pc.filter(table["labels"], some).to_pylist():
        found.labels.update((label["name"], label["value"]) for label in labels)
    _look_at_twins(found, table, often)


def _places(table: Any, ids: Sequence[str]) -> list[int]:
    from volant.store import arrow_functions as pc
    from volant.store.arrow_values import strings

    return list(pc.indices_nonzero(pc.is_in(table["id"], value_set=strings(ids))).to_pylist()) if ids else []


def _look_at_twins(found: Facts, table: Any, often: Sequence[str]) -> None:
    for at in _places(table, often):
        found.twin_texts[table["id"][at].as_py()] = _beginning(table, at)


def _count_together(counter: Counter[tuple[str, ...]], columns: Sequence[Any]) -> None:
    """Count what stands side by side in columns of text."""
    import numpy as np

    from volant.store import arrow_functions as pc
    from volant.store.arrow_values import values

    code_N: Any = np.zeros(len(columns[0]), np.int64)
    named, codes_of = [], []
    for column in columns:
        encoded = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
        named.append(np.array(encoded.dictionary.to_pylist(), object))
        codes_of.append(values(encoded.indices))
        code_N = np.unique(code_N, return_inverse=True)[1] * max(1, len(named[-1])) + codes_of[-1]
    _, first, counts = np.unique(code_N, return_index=True, return_counts=True)
    rows = zip(*(own[codes[first]].tolist() for own, codes in zip(named, codes_of, strict=True)), strict=True)
    for row, n in zip(rows, counts.tolist(), strict=True):
        counter[row] += n


def _words(table: Any) -> Any:
    """Runs of other than ASCII white space in all texts of each record; 0 for pictures and rows."""
    import numpy as np

    from volant.store import arrow_functions as pc
    from volant.store.arrow_values import strings, values

    total = np.zeros(table.num_rows, np.int64)
    for name in TEXT_FIELDS:
        if table[name].null_count < table.num_rows:
            total += np.concatenate([_words_of(chunk) for chunk in table[name].chunks])
    total[values(pc.is_in(table["shape"], value_set=strings(CONTENT_SHAPES)))] = 0
    return total


def _words_of(texts: Any) -> Any:
    """The same of one Arrow array, from its bytes: a word starts where white space, or the text, is left behind."""
    import numpy as np
    import pyarrow as pa

    offsets, count = texts.buffers()[1], len(texts)
    kind = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    ends = np.frombuffer(offsets, kind)[texts.offset : texts.offset + count + 1]
    sizes = np.diff(ends)
    found = np.zeros(count, np.int64)
    if not sizes.sum():
        return found
    raw = np.frombuffer(texts.buffers()[2], np.uint8)[ends[0] : ends[-1]]
    blank = (raw == 32) | (raw - np.uint8(9) < 5)
    starts = ~blank
    starts[1:] &= blank[:-1]
    own = np.flatnonzero(sizes)  # a null has no bytes
    first = ends[:-1][own] - ends[0]
    starts[first] = ~blank[first]
    found[own] = np.diff(np.searchsorted(np.flatnonzero(starts), np.append(first, len(raw))))
    return found


def _count_attrs(found: Facts, attrs: Any) -> None:
    from volant.store import arrow_functions as pc

    marked = pc.match_substring_regex(attrs, r'"(?:language|flags|masked|repaired)": ')
    for own in map(json.loads, pc.filter(attrs, marked).to_pylist()):
        if isinstance(code := own.get("language"), str):
            found.languages[code or "none"] += 1
        found.flags.update(own.get("flags", {}).keys())
        found.masked.update(own.get("masked", {}))
        found.changed.update(name for name in ("repaired", "masked") if own.get(name))


def _beginning(table: Any, at: int) -> str:
    """As much of a record's text as an excerpt is made of."""
    if table["split"][at].as_py() == "test":
        return "(in the sealed test split)"
    texts = [table[name][at].as_py() for name in TEXT_FIELDS]
    return "\n".join(text for text in texts if text)[: _EXCERPT + _AHEAD]


def _make_safe(found: Facts) -> None:
    """Take personal data out of all excerpts; at once, since to look for it begins with some forty patterns."""
    rules = list(found.rules.values())
    shown = [(text, _EXCERPT) for text in found.twin_texts.values()]
    for one in (one for rule in rules for _, _, one in rule.examples):
        shown += [(one.value, 600), (one.text, _EXCERPT)]
    made = iter(_all_safe(shown))
    found.twin_texts = {name: next(made) for name in found.twin_texts}
    for rule in rules:
        rule.examples = [
            (far, number, replace(one, value=next(made), text=next(made))) for far, number, one in rule.examples
        ]


def safe(text: str, most: int) -> str:
    """The beginning of a text without personal data; what a mask may need is looked at before it is cut."""
    return _all_safe([(text, most)])[0]


def _all_safe(shown: Sequence[tuple[str, int]]) -> list[str]:
    import pyarrow as pa

    from volant.modalities.personal import masked_all
    from volant.store.arrow_values import strings

    beginnings = [text[: most + _AHEAD].encode("utf-8", "replace").decode() for text, most in shown]
    texts = masked_all(strings(beginnings, pa.large_string()))[0].to_pylist()
    return [
        text if len(text) <= most else f"{text[:most].rstrip()} ..."
        for text, (_, most) in zip(texts, shown, strict=True)
    ]
