"""The little language of constraints and conditions on rows: text in, a syntax tree out. Nothing is evaluated.

    age >= 18                     income > 50K              0 <= share <= 1
    hours between 1 and 99        state in (CA, NY)         city not in ("New York", Rome)
    a + b == total                start <= end              end - start <= 30
    grade is missing              unique(id)                not (age < 18 and married = yes)

A word is a column where one has that name, else a value; quotes ('..', "..") make it a value, back quotes
(`hours per week`) a column. A minus needs blanks around it, because names and values may hold hyphens.
`50K` and `2M` are numbers, `2024-01-31` is a date. What the words mean is settled by `table_rules`, which
knows the columns. Texts are bounded in length, signs and brackets, so that no text can exhaust the machine.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TypeAlias

from volant.core.errors import DataError

MOST_CHARS = 2000
DEEPEST = 40
MOST_SIGNS = 100

_BLANK = re.compile(r"\s*")
_TOKEN = re.compile(
    r"""(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")
    |(?P<name>`[^`]+`)
    |(?P<date>\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)?(?![\w-]))
    |(?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?[kKmM]?(?![\w.]))
    |(?P<word>\w[\w.]*(?:-\w[\w.]*)*)
    |(?P<sign><=|>=|==|!=|<>|[=<>+\-*/(),])""",
    re.VERBOSE,
)
_ITEM = re.compile(r"""\s*(?:'((?:[^']|'')*)'|"((?:[^"]|"")*)"|([^,)'"]*[^,)'"\s]))\s*""")
_KEYWORDS = {"and", "or", "not", "in", "between", "is", "missing", "unique"}
_FIX = "Write it like `age >= 18`, `hours between 1 and 99`, `state in (CA, NY)` or `a + b == total`."
_COMPARE = {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "=": "==", "==": "==", "!=": "!=", "<>": "!="}


@dataclass(frozen=True)
class Number:
    """A number; `text` is how it was written."""

    value: float
    text: str


@dataclass(frozen=True)
class Word:
    """A column, or a value. `kind`: `word` may be either, `name` is a column, `quoted` and `date` are values."""

    text: str
    kind: str = "word"


@dataclass(frozen=True)
class Negative:
    """Minus something."""

    inner: Node


@dataclass(frozen=True)
class Arithmetic:
    """`left op right`, op one of + - * /."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Compare:
    """`left op right`, op one of < <= > >= == !=."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Among:
    """`column in (values)`, as they were written, without quotes."""

    column: Node
    values: tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    """`column is missing`."""

    column: Node


@dataclass(frozen=True)
class Unique:
    """`unique(columns)`: no two rows have the same values there."""

    columns: tuple[str, ...]


@dataclass(frozen=True)
class Not:
    """Negation."""

    inner: Node


@dataclass(frozen=True)
class Both:
    """`and` or `or`."""

    op: str
    left: Node
    right: Node


Node: TypeAlias = Number | Word | Negative | Arithmetic | Compare | Among | Missing | Unique | Not | Both


def parse(text: str) -> Node:
    """A constraint or condition as a tree.

    Raises:
        DataError: it is none; the message shows where.
    """
    if len(text) > MOST_CHARS:
        raise DataError(f"a condition of {len(text):,} characters is too long.", fix=f"Use at most {MOST_CHARS:,}.")
    parser = _Parser(text)
    found = parser.alternatives()
    if parser.peek() != ("end", ""):
        raise parser.wrong("a sign or the end")
    if not _is_truth(found) or not _sound(found):
        raise DataError(f"{text!r} is no condition: it compares nothing, or compares what is true or false.", fix=_FIX)
    return found


def _is_truth(node: Node) -> bool:
    return isinstance(node, Compare | Among | Missing | Unique | Not | Both)


def _sound(node: Node) -> bool:
    """Whether signs stand between values and `and`, `or`, `not` between conditions."""
    if isinstance(node, Both):
        return all(_is_truth(n) and _sound(n) for n in (node.left, node.right))
    if isinstance(node, Not):
        return _is_truth(node.inner) and _sound(node.inner)
    if isinstance(node, Compare | Arithmetic):
        return not any(_is_truth(n) or not _sound(n) for n in (node.left, node.right))
    if isinstance(node, Negative):
        return not _is_truth(node.inner) and _sound(node.inner)
    return not _is_truth(node.column) if isinstance(node, Among | Missing) else True


class _Parser:
    """Recursive descent; reads tokens as it goes, because `in (...)` holds raw text."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth, self._signs = text, 0, 0, 0
        self._kind, self._next, self._end = "", "", 0
        self._read()

    def peek(self) -> tuple[str, str]:
        """The kind and text of the next token; keywords are lower case."""
        return self._kind, self._next

    def wrong(self, wanted: str) -> DataError:
        """What cannot be read, and where."""
        seen = f"{self._text[self._at : self._at + 20]!r}" if self._at < len(self._text) else "the end"
        return DataError(
            f"{self._text!r} is no condition: {wanted} has to stand where {seen} is.",
            fix=_FIX,
        )

    def _read(self) -> None:
        blank = _BLANK.match(self._text, self._end)
        self._at = blank.end() if blank else self._end
        if self._at >= len(self._text):
            self._kind, self._next, self._end = "end", "", self._at
            return
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise self.wrong("a column, a value or a sign")
        self._kind, self._next, self._end = str(match.lastgroup), match.group(), match.end()
        if self._kind == "word" and self._next.lower() in _KEYWORDS:
            self._kind, self._next = "keyword", self._next.lower()

    def _take(self, *wanted: str) -> bool:
        """Whether one of these keywords or signs is next; it is passed if so."""
        if self._kind in ("keyword", "sign") and self._next in wanted:
            self._read()
            return True
        return False

    def _count(self) -> None:
        """Trees are walked recursively, so they stay small."""
        self._signs += 1
        if self._signs > MOST_SIGNS:
            raise DataError("the condition is too long.", fix=f"Use at most {MOST_SIGNS} signs, or several conditions.")

    def _need(self, wanted: str) -> None:
        if not self._take(wanted):
            raise self.wrong(repr(wanted))

    def alternatives(self) -> Node:
        """`... or ...`."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise DataError("the condition is nested too deeply.", fix=f"Use at most {DEEPEST} levels of brackets.")
        found = self._conjunction()
        while self._take("or"):
            self._count()
            found = Both("or", found, self._conjunction())
        self._depth -= 1
        return found

    def _conjunction(self) -> Node:
        found = self._negation()
        while self._take("and"):
            self._count()
            found = Both("and", found, self._negation())
        return found

    def _negation(self) -> Node:
        odd = False
        while self._take("not"):
            odd = not odd
        found = self._comparison()
        return Not(found) if odd else found

    def _comparison(self) -> Node:
        if self._take("unique"):
            return self._unique()
        left = self._sum()
        if self._take("is"):
            negated = self._take("not")
            self._need("missing")
            return Not(Missing(left)) if negated else Missing(left)
        negated = self._take("not")
        if self._take("between"):
            low = self._sum()
            self._need("and")
            inside = Both("and", Compare(">=", left, low), Compare("<=", left, self._sum()))
            return Not(inside) if negated else inside
        if self._kind == "keyword" and self._next == "in":
            among = Among(left, self._items())
            return Not(among) if negated else among
        if negated:
            raise self.wrong("'in' or 'between'")
        return self._chain(left)

    def _chain(self, left: Node) -> Node:
        """`a < b`, or `0 <= a <= 10`; something in brackets may stand alone."""
        found: Node | None = None
        while self._kind == "sign" and self._next in _COMPARE:
            op = _COMPARE[self._next]
            self._read()
            self._count()
            right = self._sum() if op not in ("==", "!=") else self._value()
            link = Compare(op, left, right)
            found, left = link if found is None else Both("and", found, link), right
        return left if found is None else found

    def _value(self) -> Node:
        """What follows `=`; `income = >50K` names a value that begins with a sign."""
        if self._kind == "sign" and self._next in ("<", "<=", ">", ">="):
            start = self._at
            self._read()
            if self._kind not in ("number", "word"):
                raise self.wrong("a value")
            text = self._text[start : self._end]
            self._read()
            return Word(text, "quoted")
        return self._sum()

    def _unique(self) -> Node:
        self._need("(")
        columns = []
        while True:
            if self._kind not in ("word", "name", "quoted", "keyword"):
                raise self.wrong("a column")
            columns.append(self._plain())
            self._read()
            if not self._take(","):
                break
        self._need(")")
        return Unique(tuple(columns))

    def _plain(self) -> str:
        """The token without its quotes."""
        if self._kind == "quoted":
            quote = self._next[0]
            return self._next[1:-1].replace(quote * 2, quote)
        return self._next[1:-1] if self._kind == "name" else self._next

    def _items(self) -> tuple[str, ...]:
        """The raw values of `in (...)`: `in (11th, HS-grad, >50K, "a, b")`."""
        self._read()
        if (self._kind, self._next) != ("sign", "("):
            raise self.wrong("'('")
        values, at = [], self._end
        while True:
            match = _ITEM.match(self._text, at)
            if match is None or match.end() >= len(self._text):
                self._at = at
                raise self.wrong("a list of values and ')'")
            single, double, raw = match.groups()
            quoted = single.replace("''", "'") if single is not None else (double or "").replace('""', '"')
            values.append(quoted if raw is None else raw)
            at = match.end() + 1
            if self._text[match.end()] == ")":
                break
            if self._text[match.end()] != ",":
                self._at = match.end()
                raise self.wrong("',' or ')'")
        self._end = at
        self._read()
        return tuple(values)

    def _sum(self) -> Node:
        found = self._product()
        while self._kind == "sign" and self._next in ("+", "-"):
            op = self._next
            self._read()
            self._count()
            found = Arithmetic(op, found, self._product())
        return found

    def _product(self) -> Node:
        found = self._atom()
        while self._kind == "sign" and self._next in ("*", "/"):
            op = self._next
            self._read()
            self._count()
            found = Arithmetic(op, found, self._atom())
        return found

    def _atom(self) -> Node:
        kind, token = self.peek()
        if (kind, token) == ("sign", "-"):
            self._read()
            self._count()
            return Negative(self._leaf())
        if (kind, token) == ("sign", "("):
            self._read()
            inner = self.alternatives()
            self._need(")")
            return inner
        return self._leaf()

    def _leaf(self) -> Node:
        kind, token = self.peek()
        if kind not in ("number", "word", "name", "quoted", "date"):
            raise self.wrong("a column or a value")
        plain = self._plain()
        self._read()
        return Number(number_of(token), token) if kind == "number" else Word(plain, kind)


def number_of(text: str) -> float:
    """`50K` as 50000; NaN where the text is no number.

    Raises:
        DataError: it is beyond what a float holds.
    """
    factor = {"k": 1e3, "m": 1e6}.get(text[-1:].lower(), 1.0)
    try:
        value = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        return math.nan
    if math.isinf(value):
        raise DataError(f"{text} is no finite number.", fix="Write a smaller one.")
    return value
