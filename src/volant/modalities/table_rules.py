"""Constraints and conditions made to work on rows: trees of `table_constraints` bound to columns.

In goes a text with what is known of the columns (`Known`: the kind, and the values of a categorical one);
out comes a `Rule`, a plain function of a row. Three answers are possible: a row holds it, breaks it, or
cannot tell, because a value is missing. A declared constraint is kept unless it is broken; a condition is
met only where it holds. Dates count as days, so that `end - start <= 30` means thirty days.

Rows are the JSON objects of the samples: numbers, ISO dates, texts, None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from volant.core.errors import DataError, did_you_mean
from volant.modalities.table_constraints import (
    Among,
    Arithmetic,
    Both,
    Compare,
    Missing,
    Negative,
    Node,
    Not,
    Number,
    Unique,
    Word,
    number_of,
    parse,
)  # fmt: skip

Row = Mapping[str, Any]
Value = Callable[[Row], float | None]
Truth = Callable[[Row], bool | None]
EPOCH = 719_163  # the ordinal of 1970-01-01
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


@dataclass(frozen=True)
class Known:
    """What is known of a column: its kind, and its values where they are known and few."""

    kind: str
    values: frozenset[str] | None = None

    @property
    def is_text(self) -> bool:
        """Whether it is compared as text."""
        return self.kind in ("categorical", "id")


@dataclass(frozen=True)
class Rule:
    """A bound constraint.

    Attributes:
        text: as it was written.
        truth: of a row; None where a value that decides is missing.
        columns: that it names.
        unique: the columns that no two rows may share, for `unique(...)`.
        target: a number column that the others determine (`a + b == total`); empty for none.
        value: what the target has to be.
    """

    text: str
    truth: Truth
    columns: frozenset[str]
    unique: tuple[str, ...] = ()
    target: str = ""
    value: Value | None = None

    def broken(self, row: Row) -> bool:
        """Whether the row breaks it."""
        return self.truth(row) is False

    def met(self, row: Row) -> bool:
        """Whether the row certainly holds it."""
        return self.truth(row) is True

    def said(self, row: Row) -> str:
        """The rule, and the values of the row that it is about: `age >= 18 (age = 12)`."""
        names = sorted(self.columns & row.keys())
        return f"`{self.text}` ({', '.join(f'{name} = {str(row[name])[:40]}' for name in names)})"


def bind(text: str, known: Mapping[str, Known], *, condition: bool = False) -> Rule:
    """A constraint or condition as a function of rows.

    Args:
        text: see `table_constraints`.
        known: the columns.
        condition: whether it is asked of one row; then `unique` means nothing.

    Raises:
        DataError: it cannot be read, or names a column or value that is not there.
    """
    tree = parse(text)
    try:
        if isinstance(tree, Unique):
            if condition:
                raise DataError("`unique` is a rule for a table, not for a row.", fix="Leave it out of the condition.")
            columns = tuple(_column(Word(name, "name"), known) for name in tree.columns)
            return Rule(text, lambda row: True, frozenset(columns), unique=columns)
        names: set[str] = set()
        truth = _truth(tree, known, names)
        target, value = _solved(tree, known)
    except DataError as error:
        raise error.at(f"condition {text!r}") from error
    return Rule(text, truth, frozenset(names), target=target, value=value)


def broken_by_row(rows: Sequence[Row], rules: Sequence[Rule]) -> list[list[str]]:
    """The constraints that each row breaks; of rows that share what has to be unique all but the first do."""
    found: list[list[str]] = [[] for _ in rows]
    for rule in rules:
        seen: set[tuple[Any, ...]] = set()
        for row, texts in zip(rows, found, strict=True):
            if rule.unique:
                key = tuple(row.get(name) for name in rule.unique)
                if None in key:
                    continue
                if key in seen:
                    texts.append(rule.text)
                seen.add(key)
            elif rule.broken(row):
                texts.append(rule.text)
    return found


@lru_cache(maxsize=65_536)
def days_of(text: str) -> float | None:
    """An ISO date or time as days since 1970 (a time of day is the fraction); None where it is none."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second + moment.microsecond / 1e6
    return moment.toordinal() - EPOCH + seconds / 86_400


# --- binding -----------------------------------------------------------------------------------


def _column(node: Node, known: Mapping[str, Known]) -> str:
    if isinstance(node, Word) and node.kind in ("word", "name"):
        if node.text in known:
            return node.text
        hint = " Put blanks around a minus." if "-" in node.text else ""
        raise DataError(f"there is no column {node.text!r}.{hint}", fix=did_you_mean(node.text, known))
    raise DataError("a column has to stand there.", fix=did_you_mean("", known))


def _truth(node: Node, known: Mapping[str, Known], names: set[str]) -> Truth:
    if isinstance(node, Both):
        left, right = _truth(node.left, known, names), _truth(node.right, known, names)
        return _either(left, right) if node.op == "or" else _all(left, right)
    if isinstance(node, Not):
        inner = _truth(node.inner, known, names)
        return lambda row: None if (found := inner(row)) is None else not found
    if isinstance(node, Missing):
        name = _column(node.column, known)
        names.add(name)
        return lambda row: row.get(name) is None
    if isinstance(node, Among):
        return _among(node, known, names)
    if isinstance(node, Compare):
        for text_side, other, op in ((node.left, node.right, node.op), (node.right, node.left, _FLIPPED[node.op])):
            if isinstance(text_side, Word) and _names_text(text_side, known):
                return _compare_text(text_side.text, op, other, known, names)
        return _compare_numbers(node, known, names)
    raise DataError("`unique` stands alone.", fix="Declare it as a constraint of its own.")


def _names_text(word: Word, known: Mapping[str, Known]) -> bool:
    return word.kind in ("word", "name") and word.text in known and known[word.text].is_text


def _all(left: Truth, right: Truth) -> Truth:
    def both(row: Row) -> bool | None:
        first = left(row)
        if first is False:
            return False
        second = right(row)
        return second if first or second is False else None

    return both


def _either(left: Truth, right: Truth) -> Truth:
    def either(row: Row) -> bool | None:
        first = left(row)
        if first:
            return True
        second = right(row)
        return second if first is False or second else None

    return either


def _among(node: Among, known: Mapping[str, Known], names: set[str]) -> Truth:
    name = _column(node.column, known)
    names.add(name)
    about = known[name]
    if about.is_text:
        allowed = {_category(name, text, about) for text in node.values}
        return lambda row: None if (value := row.get(name)) is None else str(value) in allowed
    read = _reader(name, about)
    numbers = {_literal(name, Word(text, "quoted"), about) for text in node.values}
    return lambda row: None if (value := read(row)) is None else value in numbers


def _category(name: str, text: str, about: Known) -> str:
    if about.values is not None and text not in about.values:
        raise DataError(f"{name} has no value {text!r}.", fix=_nearest(text, about.values))
    return text


def _nearest(text: str, values: frozenset[str]) -> str:
    by_lower = {value.lower(): value for value in values}
    if text.lower() in by_lower:
        return f"Did you mean {by_lower[text.lower()]!r}?"
    near = did_you_mean(text, values)
    return near if len(near) <= 300 else f"It has {len(values)} values, such as {sorted(values)[0]!r}."


def _compare_text(name: str, op: str, other: Node, known: Mapping[str, Known], names: set[str]) -> Truth:
    """A text column against a value or another text column."""
    about = known[name]
    names.add(name)
    if isinstance(other, Word) and other.kind in ("word", "name") and other.text in known:
        if not known[other.text].is_text or op not in ("==", "!="):
            raise DataError(f"{name} holds text; it can be == or != another text column only.", fix="Compare numbers.")
        second = other.text
        names.add(second)
        wanted = op == "=="

        def same(row: Row) -> bool | None:
            left, right = row.get(name), row.get(second)
            return None if left is None or right is None else (left == right) is wanted

        return same
    if (isinstance(other, Word) and other.kind != "name") or isinstance(other, Number):
        text = other.text
    elif isinstance(other, Negative) and isinstance(other.inner, Number):
        text = f"-{other.inner.text}"
    else:
        raise DataError(f"{name} holds text; it cannot be reckoned with.", fix=f"Compare it with a value: {name} = ...")
    if op in ("==", "!="):
        value = _category(name, text, about)
    else:
        # `income > 50K` where the values are `<=50K` and `>50K` asks for one of them.
        spelt = [f"{op}{text}", f"{op} {text}"]
        value = next((s for s in spelt if about.values is None or s in about.values), "")
        if not value:
            what = f"{name} holds text and has no value {spelt[0]!r}"
            raise DataError(f"{what}; text has no order.", fix=_nearest(spelt[0], about.values or frozenset()))
    positive = op != "!="
    return lambda row: None if (found := row.get(name)) is None else (found == value) is positive


def _compare_numbers(node: Compare, known: Mapping[str, Known], names: set[str]) -> Truth:
    dated = _dated(node.left, known) or _dated(node.right, known)
    left, right = (_value(side, known, names, dated) for side in (node.left, node.right))
    if not names:
        raise DataError("it names no column.", fix=did_you_mean("", known))
    compare = _COMPARED[node.op]

    def compared(row: Row) -> bool | None:
        first = left(row)
        if first is None:
            return None
        second = right(row)
        return None if second is None else compare(first, second)

    return compared


def _close(left: float, right: float) -> bool:
    return left == right or math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)


_COMPARED: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b or _close(a, b), "==": _close,
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b or _close(a, b), "!=": lambda a, b: not _close(a, b),
}  # fmt: skip


def _dated(node: Node, known: Mapping[str, Known]) -> bool:
    """Whether a side is about dates, so that `"2024-01-31"` is read as one."""
    if isinstance(node, Word):
        return node.text in known and known[node.text].kind == "date"
    if isinstance(node, Arithmetic):
        return _dated(node.left, known) or _dated(node.right, known)
    return False


def _value(node: Node, known: Mapping[str, Known], names: set[str], dated: bool) -> Value:
    if isinstance(node, Number):
        constant = node.value
        return lambda row: constant
    if isinstance(node, Negative):
        inner = _value(node.inner, known, names, dated)
        return lambda row: None if (found := inner(row)) is None else -found
    if isinstance(node, Arithmetic):
        return _reckoned(node.op, *(_value(side, known, names, dated) for side in (node.left, node.right)))
    if isinstance(node, Word) and node.kind in ("quoted", "date"):
        number = _literal("", node, Known("date" if dated or node.kind == "date" else "numeric"))
        return lambda row: number
    name = _column(node, known)
    if known[name].is_text:
        raise DataError(f"{name} holds text; it cannot be reckoned with.", fix=f"Compare it with a value: {name} = ...")
    names.add(name)
    return _reader(name, known[name])


def _literal(name: str, node: Word, about: Known) -> float:
    found = days_of(node.text) if about.kind == "date" else number_of(node.text.strip())
    if found is None or math.isnan(found):
        wanted = "a date like 2024-01-31" if about.kind == "date" else "a number"
        raise DataError(f"{node.text!r} is no {wanted.split()[1]}.", fix=f"{name or 'It'} is compared with {wanted}.")
    return found


def _reader(name: str, about: Known) -> Value:
    if about.kind == "date":
        return lambda row: days_of(value) if isinstance(value := row.get(name), str) else None

    def number(row: Row) -> float | None:
        value = row.get(name)
        return value if isinstance(value, int | float) else None

    return number


def _reckoned(op: str, left: Value, right: Value) -> Value:
    reckon = _RECKONED[op]

    def found(row: Row) -> float | None:
        first, second = left(row), right(row)
        if first is None or second is None or (op == "/" and second == 0):
            return None
        value = reckon(first, second)
        return value if math.isfinite(value) else None

    return found


_RECKONED: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
}  # fmt: skip


def _solved(tree: Node, known: Mapping[str, Known]) -> tuple[str, Value | None]:
    """The number column that an equation determines, and how: `a + b == total` gives total."""
    if not isinstance(tree, Compare) or tree.op != "==":
        return "", None
    for side, other in ((tree.right, tree.left), (tree.left, tree.right)):
        if isinstance(side, Word) and side.text in known and known[side.text].kind in ("numeric", "integer"):
            names: set[str] = set()
            value = _value(other, known, names, False)
            if names and side.text not in names:
                return side.text, value
    return "", None
