"""Rows of a file as samples: two passes, one that finds each column's kind and one that yields the rows.

In goes a table file with what is declared of it; out come samples of shape `row`, or Refusals that name the
place, the rule and the value. Memory does not grow with the file, but for the keys that have to be unique
(32 bytes each, bounded). What is declared (kinds, key, constraints) travels in each row's `attrs["table"]`.

Equal rows of a real table are different people, so none is lost: a row without a key has the file's name and
its number in its id. All rows of one group (or with one key, or with the same content) are in one split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from volant.core.errors import DataError, SettingError, did_you_mean
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.core.sample import Sample, Source, sample_id, split_of
from volant.modalities.reading_options import OF_TEXT, check_options
from volant.modalities.table_files import open_table
from volant.modalities.table_kinds import MISSING, Guess, check_kinds, text_of, value_of
from volant.modalities.table_rules import Known, Rule, bind
from volant.modalities.table_source import Table, Unreadable

MOST_KEYS = 5_000_000


@dataclass(frozen=True)
class Declared:
    """What the user says of a table, as `load` takes it.

    Attributes:
        types: column to kind (`numeric`, `integer`, `categorical`, `date`, `id`), where the found one is wrong.
        key: the columns that name a row; no two rows share them.
        constraints: what every row keeps, see `table_constraints`.
        columns: names for a file without a header.
        group: a column whose rows belong in one split (a patient, a shop).
        condition: a column that is asked for when rows are generated; each row says `column = value`.
        fields: new names for columns, as in {income: "Income per year"}.
        missing: texts that mean a missing value.
    """

    types: Mapping[str, Any] = field(default_factory=dict)
    key: Sequence[str] = ()
    constraints: Sequence[str] = ()
    columns: Sequence[str] = ()
    group: str = ""
    condition: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    encoding: str = ""
    delimiter: str = ""
    missing: Sequence[str] = MISSING


def declared_from(options: Mapping[str, Any]) -> Declared:
    """The options of `load`, checked.

    Raises:
        SettingError: there is no such option, or it is of another type.
    """
    names = Declared.__dataclass_fields__
    check_options(options, names, "a table")
    given = {name: value for name, value in options.items() if value and name not in OF_TEXT}
    for name, value in given.items():
        if name in ("key", "constraints", "columns", "missing") and isinstance(value, str):
            given[name] = [value]
        elif name in ("types", "fields") and not isinstance(value, Mapping):
            raise SettingError(f"`{name}` is no mapping.", where=name, fix="Write {column: ...}.")
        elif name in ("key", "constraints", "columns", "missing") and not _texts(value):
            raise SettingError(f"`{name}` is no list of texts.", where=name, fix=f"Write {name}: [...].")
        elif name in ("condition", "delimiter") and not isinstance(value, str):
            raise SettingError(f"`{name}` is a text, not {value!r}.", where=name, fix=f"Write {name}: '{value}'.")
    if len(given.get("delimiter", ",")) != 1:
        raise SettingError(f"{given['delimiter']!r} is no delimiter.", where="delimiter", fix="Give one character.")
    return Declared(**given)


def _texts(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(one, str) for one in value)


def row_of(sample: Sample) -> dict[str, Any]:
    """The row of a sample.

    Raises:
        DataError: its content is no JSON object.
    """
    try:
        row = json.loads(sample.content or "")
    except (ValueError, RecursionError) as error:
        raise DataError(f"sample {sample.id} holds no row: {error}.", fix="Run `collect.files` again.") from error
    if not isinstance(row, dict):
        raise DataError(f"sample {sample.id} holds no JSON object.", fix="Run `collect.files` again.")
    return row


def content_of(row: Mapping[str, Any]) -> str:
    """A row as the content of a sample."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def load(file: OutsideFile, source: Source, declared: Declared) -> Iterator[Sample | Refusal]:
    """Samples of one file, in order; a bad row becomes a Refusal and the rest goes on.

    Raises:
        SettingError: what is declared names a column that is not there.
        DataError: a column has no value at all, or more keys are to be remembered than memory allows.
    """
    try:
        table = open_table(
            file, encoding=declared.encoding, delimiter=declared.delimiter, columns=declared.columns,
            missing=declared.missing,
        )  # fmt: skip
    except Unreadable as error:
        yield error.refusal
        return
    yield from _Loader(file.name, source, table, declared).samples()


class _Loader:
    """One file's rows as samples."""

    def __init__(self, name: str, source: Source, table: Table, declared: Declared) -> None:
        self._name, self._source, self._table, self._declared = name, source, table, declared
        own = {own: new for new, own in declared.fields.items()}
        if unknown := [column for column in own if column not in table.header]:
            what = f"there is no column {unknown[0]!r} in {name}."
            raise SettingError(what, where="fields", fix=did_you_mean(unknown[0], table.header))
        self._header = tuple(own.get(column, column) for column in table.header)
        types = {own.get(column, column): kind for column, kind in table.kinds.items() if column in table.header}
        self._types = {**check_kinds(types, self._header), **check_kinds(declared.types, self._header)}
        for setting, columns in (
            ("key", declared.key),
            ("group", [declared.group]),
            ("condition", [declared.condition]),
        ):
            for column in filter(None, columns):
                if column not in self._header:
                    what = f"there is no column {column!r} in {name}."
                    raise SettingError(what, where=setting, fix=did_you_mean(column, self._header))

    def samples(self) -> Iterator[Sample | Refusal]:
        """The second pass."""
        guesses = self._guesses()
        if not any(guess.count + guess.missing for guess in guesses):
            refusals = [found for found in self._table.rows() if isinstance(found, Refusal)]
            yield from refusals or [Refusal(self._name, "the file has a header and no row")]
            return
        kinds = self._kinds(guesses)
        # Text ids stay texts even where some look like numbers; ids that all are whole numbers are ints.
        whole = {n: kinds[n] == "id" and g.kind == "integer" for n, g in zip(self._header, guesses, strict=True)}
        timed = {n: g.timed for n, g in zip(self._header, guesses, strict=True)}
        known = {name: Known(kind) for name, kind in kinds.items()}
        rules = [bind(text, known) for text in self._declared.constraints]
        unique = _Unique(self._declared.key, rules)
        about = self._about(kinds)
        for number, found in enumerate(self._table.rows()):
            if isinstance(found, Refusal):
                yield found
                continue
            place, cells = found
            row: dict[str, Any] = {}
            problem = ""
            for name, cell in zip(self._header, cells, strict=True):
                try:
                    row[name] = value_of(cell, kinds[name], whole_ids=whole[name], timed=timed[name])
                except ValueError as reason:
                    problem = problem or f"{name} {reason}"
            problem = problem or _problem(row, rules) or unique.problem(row)
            yield Refusal(place, problem) if problem else self._sample(row, place, number, about)

    def _guesses(self) -> list[Guess]:
        guesses = [Guess() for _ in self._header]
        for found in self._table.rows():
            if not isinstance(found, Refusal):
                for guess, cell in zip(guesses, found[1], strict=True):
                    guess.see(cell, self._table.typed)
        return guesses

    def _kinds(self, guesses: Sequence[Guess]) -> dict[str, str]:
        kinds = {}
        for name, guess in zip(self._header, guesses, strict=True):
            if not guess.count and name not in self._types:
                raise DataError(
                    f"column {name!r} has no value in any of {guess.missing:,} rows.", where=self._name,
                    fix=f"Remove it, or declare its kind to keep it empty: types: {{{name}: categorical}}.",
                )  # fmt: skip
            only_key = name in self._declared.key and len(self._declared.key) == 1
            kinds[name] = self._types.get(name, "id" if only_key else guess.kind)
        return kinds

    def _about(self, kinds: Mapping[str, str]) -> dict[str, Any]:
        """What is declared, for `attrs`; a single key column is an id, declared or not."""
        declared = self._declared
        types = {**self._types, **{name: kinds[name] for name in declared.key if kinds[name] == "id"}}
        parts = {"types": types, "key": list(declared.key), "constraints": list(declared.constraints)}
        found = {name: value for name, value in parts.items() if value}
        return {"table": found} if found else {}

    def _sample(self, row: dict[str, Any], place: str, number: int, about: dict[str, Any]) -> Sample:
        declared, content = self._declared, content_of(row)
        keyed = "\x1f".join(text_of(row[name]) for name in declared.key)
        grouped = row.get(declared.group) if declared.group else None
        group = text_of(grouped) if grouped is not None else keyed or sample_id(content)
        asked = row.get(declared.condition) if declared.condition else None
        return Sample(
            id=sample_id(content) if keyed else sample_id(content, self._name, str(number)),
            shape="row",
            source=self._source.model_copy(update={"uri": f"{self._source.uri}{place}"}),
            content=content,
            condition=None if asked is None else condition_of(declared.condition, asked),
            split=split_of(group),
            group=group,
            attrs=about,
        )


def condition_of(column: str, value: Any) -> str:
    """`column = value` in the language of `table_constraints`."""
    text = text_of(value)
    quoted = text if isinstance(value, int | float) else "'" + text.replace("'", "''") + "'"
    return f"`{column}` = {quoted}"


def _problem(row: Mapping[str, Any], rules: Sequence[Rule]) -> str:
    if all(value is None for value in row.values()):
        return "has no value in any column"
    broken = next((rule for rule in rules if rule.broken(row)), None)
    return f"breaks {broken.said(row)}" if broken else ""


class _Unique:
    """What no two rows of a file may share: the key, and each `unique(...)`."""

    def __init__(self, key: Sequence[str], rules: Sequence[Rule]) -> None:
        self._key = tuple(key)
        sets = [tuple(key)] if key else []
        self._seen: dict[tuple[str, ...], set[bytes]] = {
            columns: set() for columns in [*sets, *(rule.unique for rule in rules if rule.unique)]
        }

    def problem(self, row: Mapping[str, Any]) -> str:
        """What the row repeats; a value that is missing is like no other, but a key has none."""
        for columns, seen in self._seen.items():
            values = [row[name] for name in columns]
            said = ", ".join(f"{name} = {str(value)[:40]}" for name, value in zip(columns, values, strict=True))
            if None in values:
                if columns == self._key:
                    return f"has no key ({said})"
                continue
            digest = hashlib.blake2b(content_of({"": values}).encode("utf-8", "surrogatepass"), digest_size=12).digest()
            if digest in seen:
                return f"repeats `unique({', '.join(columns)})` of an earlier row ({said})"
            if len(seen) >= MOST_KEYS:
                raise DataError(
                    f"more than {MOST_KEYS:,} keys are not remembered.", where=", ".join(columns),
                    fix="Check uniqueness in your database, and leave the key out here.",
                )  # fmt: skip
            seen.add(digest)
        return ""
