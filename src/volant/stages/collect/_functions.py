"""(function without its docstring, the docstring's first line), out of Python's source text.

Enters: the text of a module and where it comes from. Leaves: Samples of shape `completion`, one for every function
that has code and a telling first line.
"""

from __future__ import annotations

import ast
import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator

from volant.core import Sample
from volant.core.sample import Source, sample_id, split_of

_SIGNATURE = re.compile(r"^[\w.]+\(.*\)|->|^\s*[-=*#:>]|^(TODO|XXX|FIXME)\b")


def pairs(text: str, max_chars: int, *, group: str, source: Callable[[int], Source]) -> Iterator[Sample]:
    """The pairs of one module.

    Args:
        text: its source.
        max_chars: longest function; longer ones are left out.
        group: what keeps its records in one split.
        source: of the function that begins at a line.

    Raises:
        SyntaxError: it is no Python that this interpreter reads.
    """
    # As the parser counts them: a form feed, at which `splitlines` cuts as well, begins no line.
    lines = io.StringIO(text, newline="").readlines()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in other people's strings
        tree = ast.parse(text)
    for node in _functions(tree):
        docstring = ast.get_docstring(node)
        target = _first_line(docstring or "")
        body = _without_docstring(node, lines) if target else ""
        if not body or len(body) > max_chars:
            continue
        yield Sample(
            id=sample_id("completion", body, target), shape="completion", condition=body, target=target,
            source=source(node.lineno), group=group, split=split_of(group),
            attrs={"function": node.name},
        )  # fmt: skip


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _first_line(docstring: str) -> str:
    """The first line, where it is a sentence of sensible length; else nothing."""
    line = docstring.strip().split("\n")[0].strip()
    words = line.split()
    if not 3 <= len(words) <= 25 or not 12 <= len(line) <= 120 or _SIGNATURE.search(line):
        return ""
    return line if line[0].isalpha() and line.isascii() else ""


def _without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    """The function's source, dedented, its docstring taken out; nothing where no code is left."""
    if len(node.body) < 2:
        return ""
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    last = node.end_lineno or node.lineno
    documented = node.body[0]
    begin, end = documented.lineno - 1, documented.end_lineno or documented.lineno
    # A docstring that shares its line with other code is left alone: cutting it would cut that code.
    if lines[begin].split('"', 1)[0].split("'", 1)[0].strip(" \trRuU") or node.body[1].lineno - 1 < end:
        return ""
    return textwrap.dedent("".join(lines[first:begin] + lines[end:last])).strip("\n").rstrip()
