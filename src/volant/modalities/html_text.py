"""The main text of a web page, with the standard library alone.

In goes HTML of any quality; out come its title and the text a reader would read: no scripts,
navigation, headers, footers or forms, and only what stands in `<main>` or `<article>` where the
page has one. `html.parser` never fails on broken markup, which is why no faster parser is used.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

_SKIPPED = {
    "script", "style", "noscript", "template", "nav", "header", "footer", "aside", "form", "button", "select",
    "svg", "iframe", "object", "title",
}  # fmt: skip
_BLOCKS = {
    "p", "div", "section", "article", "main", "ul", "ol", "li", "table", "tr", "blockquote", "pre", "br", "hr",
    "h1", "h2", "h3", "h4", "h5", "h6", "dl", "dt", "dd", "figure", "figcaption", "details", "summary",
}  # fmt: skip
_VOID = {"br", "hr", "img", "input", "meta", "link", "wbr", "area", "base", "col", "embed", "source", "track"}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self.everything: list[str] = []
        self.main: list[str] = []
        self._skipped: list[str] = []
        self._main_depth = 0
        self._pre_depth = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title":
            self._in_title = True
        # A <header> inside an <article> holds its headline, which is part of the text.
        if tag in _SKIPPED and tag not in _VOID and not (tag == "header" and self._main_depth):
            self._skipped.append(tag)
        if tag in ("main", "article"):
            self._main_depth += 1
        if tag == "pre":
            self._pre_depth += 1
        if tag in _BLOCKS:
            self._add("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if tag in self._skipped:
            # Close everything that was opened inside and never closed.
            while self._skipped.pop() != tag:
                pass
        if tag in _BLOCKS:
            self._add("\n")
        if tag in ("main", "article"):
            self._main_depth = max(0, self._main_depth - 1)
        if tag == "pre":
            self._pre_depth = max(0, self._pre_depth - 1)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        self._add(data if self._pre_depth else re.sub(r"\s+", " ", data))

    def _add(self, piece: str) -> None:
        if not self._skipped:
            self.everything.append(piece)
            if self._main_depth:
                self.main.append(piece)


def main_text(page: str) -> tuple[str, str]:
    """Title and main text of a page; the text is empty where the page shows none.

    >>> main_text("<title>A</title><nav>menu</nav><p>One <b>two</b>.<p>Three")
    ('A', 'One two.\\nThree')
    """
    reader = _Reader()
    reader.feed(page)
    reader.close()
    main = _tidy("".join(reader.main))
    everything = _tidy("".join(reader.everything))
    # A <main> that holds next to nothing is an empty shell; the text is elsewhere then.
    text = main if len(main) * 10 > len(everything) else everything
    return " ".join("".join(reader.title).split()), text


def _tidy(text: str) -> str:
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^ (?! )", "", text, flags=re.MULTILINE)  # a lone space is collapsed markup; more is code
    return re.sub(r"\n{3,}", "\n\n", text).strip()
