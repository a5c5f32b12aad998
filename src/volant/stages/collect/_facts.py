"""What a Dataset holds, counted for its page: by split, source, licence, origin and language, and what was dropped why.

Enters: a written Dataset. Leaves: counts, lengths, and for every rule that dropped something its values, threshold and
the records nearest to the threshold. Columns are read a row group at a time; no Sample is made, and no more than a few
excerpts of text are held. Excerpts have their personal data masked: a page travels further than the data.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from volant.core import Dataset
from volant.core.sample import CONTENT_SHAPES

TEXTS = ("condition", "content", "target", "rejected")
EXAMPLES = 3  # records shown of each rule
_EXCERPT = 400  # characters
_AHEAD = 200  # characters after an excerpt's end that a mask may need
_BINS = 24
_REASON = re.compile(r"(\w+): (.*) against (.*)", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_TWIN = re.compile(r"\(of (\S+?)\)")
# What names a record within its source: of a web page all but its host, of an archive or a repository a file, of
# a file a line, a part, a row.
_PLACE = (
    (r"^(https?://[^/]+)/.*", r"\1"),
    (r"(?i)(\.(?:zip|tar|tgz|tar\.\w+))/.*", r"\1"),
    (r"^(git:[^/]*@\w+)/.*", r"\1"),
    (r"[:#\[]\d[^/]*$", ""),
)


@dataclass(frozen=True)
class Example:
    """A dropped record: where it came from, what the rule saw, and how it begins."""

    record: str
    uri: str
    value: str
    text: str


@dataclass
class Rule:
    """What one rule dropped."""

    name: str
    bar: str
    count: int = 0
    values: list[float] = field(default_factory=list)
    examples: list[tuple[float, int, Example]] = field(default_factory=list)

    @property
    def limit(self) -> float | None:
        """The threshold as a number, where it is one."""
        return float(self.bar) if _NUMBER.fullmatch(self.bar) else None


@dataclass
class Facts:
    """What was counted."""

    modality: str
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    sources: Counter[tuple[str, ...]] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    lengths: dict[str, Counter[int]] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)
    twins: Counter[str] = field(default_factory=Counter)
    twin_texts: dict[str, str] = field(default_factory=dict)


def facts_of(data: Dataset, passed: Facts | None = None) -> Facts:
    """Count a Dataset; its dropped records are read first, so that of what was kept oftenest a look can be had.

    Args:
        passed: what was counted of all kept records already (`count_kept`), which are then not read again.
    """
    from volant.store.dataset import parts, tables

    found = passed or Facts(str(data.about.get("modality", "text")))
    for table in _dropped(data):
        _count_dropped(found, table)
    _make_safe(found)
    often = _most_often(found.twins)
    if passed is None:
        for table in tables(data, columns=["id", "shape", "split", "source", "labels", "attrs", *TEXTS]):
            count_kept(found, table, often)
        return found
    found.twin_texts = {name: text for name, text in found.twin_texts.items() if name in often}
    for part in parts(data) if set(often) - set(found.twin_texts) else ():
        if len(_places(part.read(["id"]), often)):
            _look_at_twins(found, part.read(["id", "split", *TEXTS]), often)
    return found


def twins_in(drops: Iterable[str]) -> list[str]:
    """The records that most of these drops say to stand for the dropped one; of some of them an excerpt is shown."""
    return _most_often(Counter(twin[1] for twin in map(_TWIN.search, drops) if twin))


def _most_often(twins: Counter[str]) -> list[str]:
    return [name for name, _ in sorted(twins.items(), key=lambda item: (-item[1], item[0]))[:8]]


def histogram(values: Sequence[float], limit: float | None) -> tuple[list[int], float, float]:
    """Counts in bins of one width between the smallest and the largest value, the limit among them."""
    ends = [*values, *([] if limit is None else [limit])]
    low, high = min(ends), max(ends)
    if high <= low:
        return [len(values)], low, low
    counts = [0] * min(_BINS, max(2, len(set(ends))))
    for value in values:
        counts[min(len(counts) - 1, int((value - low) / (high - low) * len(counts)))] += 1
    return counts, low, high


def _dropped(data: Dataset) -> Iterator[Any]:
    from volant.store.shards import parts_of

    for part in parts_of(sorted((data.path / "dropped").glob("dropped-*.parquet"))):
        yield part.read(["id", "split", "source", "drop", *TEXTS])


def _count_dropped(found: Facts, table: Any) -> None:
    import pyarrow.compute as pc

    found.dropped.update(table["split"].to_pylist())
    uris = pc.struct_field(table["source"], "uri")
    for at, (record, reason) in enumerate(zip(table["id"].to_pylist(), table["drop"].to_pylist(), strict=True)):
        parsed = _REASON.fullmatch(reason)
        name, value, bar = parsed.groups() if parsed else (reason.split(":")[0], reason.partition(":")[2].strip(), "")
        rule = found.rules.setdefault(name, Rule(name, bar))
        rule.count += 1
        number, limit = _NUMBER.match(value), _NUMBER.search(bar)
        if number:
            rule.values.append(float(number[0]))
        twin = _TWIN.search(value)
        if twin:
            found.twins[twin[1]] += 1
        far = abs(float(number[0]) - float(limit[0])) if number and limit else 0.0
        if len(rule.examples) < EXAMPLES or far < rule.examples[-1][0]:
            shown = Example(record, uris[at].as_py(), value, _beginning(table, at))
            rule.examples = sorted([*rule.examples, (far, rule.count, shown)], key=lambda e: e[:2])[:EXAMPLES]


def count_kept(found: Facts, table: Any, often: Sequence[str]) -> None:
    """Count kept rows of the schema; of the records of these ids an excerpt is taken."""
    import numpy as np
    import pyarrow.compute as pc

    source = table["source"]
    places = pc.struct_field(source, "uri")
    for pattern, instead in _PLACE:
        places = pc.replace_substring_regex(places, pattern, instead)
    known = [pc.struct_field(source, name) for name in ("licence", "consent", "origin")]
    _count_together(found.sources, [places, *known])
    _count(found.shapes, table["shape"])
    words_N = _words(table)
    power_N = np.frexp(words_N.astype(np.float64))[1] - 1  # of the largest power of two in each
    for split in pc.unique(table["split"]).to_pylist():
        own_N = np.asarray(pc.equal(table["split"], split))
        found.kept[split] += int(own_N.sum())
        found.words[split] += int(words_N[own_N].sum())
        powers, counts = np.unique(power_N[own_N & (words_N > 0)], return_counts=True)
        if len(powers):
            found.lengths.setdefault(split, Counter()).update(dict(zip(powers.tolist(), counts.tolist(), strict=True)))
    _count_attrs(found, table["attrs"])
    for labels in table["labels"].filter(pc.greater(pc.list_value_length(table["labels"]), 0)).to_pylist():
        found.labels.update((label["name"], label["value"]) for label in labels)
    _look_at_twins(found, table, often)


def _places(table: Any, ids: Sequence[str]) -> list[int]:
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(ids, pa.string())
    return list(pc.indices_nonzero(pc.is_in(table["id"], value_set=wanted)).to_pylist()) if ids else []


def _look_at_twins(found: Facts, table: Any, often: Sequence[str]) -> None:
    for at in _places(table, often):
        found.twin_texts[table["id"][at].as_py()] = _excerpt(table, at)


def _count(counter: Counter[Any], values: Any) -> None:
    import pyarrow.compute as pc

    for found in pc.value_counts(values).to_pylist():
        counter[found["values"]] += found["counts"]


def _count_together(counter: Counter[tuple[str, ...]], columns: Sequence[Any]) -> None:
    """Count what stands side by side in columns of text."""
    import numpy as np

    code_N: Any = np.zeros(len(columns[0]), np.int64)
    values = []
    for column in columns:
        encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
        values.append(encoded.dictionary.to_pylist())
        code_N = np.unique(code_N, return_inverse=True)[1] * max(1, len(values[-1])) + np.asarray(encoded.indices)
    _, first, counts = np.unique(code_N, return_index=True, return_counts=True)
    rows = [[column[at].as_py() for column in columns] for at in first.tolist()]
    for row, n in zip(rows, counts.tolist(), strict=True):
        counter[tuple(row)] += n


def _words(table: Any) -> Any:
    """Runs of other than ASCII white space in all texts of each record; 0 for pictures and rows."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    total = np.zeros(table.num_rows, np.int64)
    for name in TEXTS:
        if table[name].null_count < table.num_rows:
            total += np.concatenate([_words_of(chunk) for chunk in table[name].chunks])
    total[np.asarray(pc.is_in(table["shape"], value_set=pa.array(CONTENT_SHAPES)))] = 0
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
    import pyarrow.compute as pc

    marked = pc.match_substring_regex(attrs, r'"(?:language|flags|masked|repaired)": ')
    for own in map(json.loads, attrs.filter(marked).to_pylist()):
        if isinstance(code := own.get("language"), str):
            found.languages[code or "none"] += 1
        found.flags.update(own.get("flags", {}).keys())
        found.masked.update(own.get("masked", {}))
        found.changed.update(name for name in ("repaired", "masked") if own.get(name))


def _excerpt(table: Any, at: int) -> str:
    return safe(_beginning(table, at), _EXCERPT)


def _beginning(table: Any, at: int) -> str:
    """As much of a record's text as an excerpt is made of."""
    if table["split"][at].as_py() == "test":
        return "(in the sealed test split)"
    texts = [table[name][at].as_py() for name in TEXTS]
    return "\n".join(text for text in texts if text)[: _EXCERPT + _AHEAD]


def _make_safe(found: Facts) -> None:
    """The examples of all rules without personal data; all at once, so that few texts are looked at closely."""
    examples = [(rule, at) for rule in found.rules.values() for at in range(len(rule.examples))]
    shown = [rule.examples[at][2] for rule, at in examples]
    values, texts = _all_safe([one.value for one in shown], 600), _all_safe([one.text for one in shown], _EXCERPT)
    for (rule, at), one, value, text in zip(examples, shown, values, texts, strict=True):
        far, number, _ = rule.examples[at]
        rule.examples[at] = far, number, Example(one.record, one.uri, value, text)


def safe(text: str, most: int) -> str:
    """The beginning of a text without personal data; what a mask may need is looked at before it is cut."""
    return _all_safe([text], most)[0]


def _all_safe(texts: Sequence[str], most: int) -> list[str]:
    import pyarrow as pa

    from volant.modalities.personal import masked_all

    beginnings = [text[: most + _AHEAD].encode("utf-8", "replace").decode() for text in texts]
    shown = masked_all(pa.array(beginnings, pa.large_string()))[0].to_pylist()
    return [text if len(text) <= most else f"{text[:most].rstrip()} ..." for text in shown]
