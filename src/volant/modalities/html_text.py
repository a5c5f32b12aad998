"""The main text of a web page, with the standard library alone.

In goes HTML of any quality; out come its title and the text a reader would read: no scripts,
navigation, headers, footers or forms, and only what stands in `<main>` or `<article>` where the
page has one. `html.parser` never fails on broken markup, which is why no faster parser is used.
Which encoding the bytes are in, a page says itself; which licence, too, where it links to one.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

from volant.core.protocols import Refusal
from volant.modalities.text_entry import BOMS, Found, Record, decoded
from volant.modalities.zip_archive import BadFile

MAX_PAGE = 20_000_000
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{2,40})""", re.IGNORECASE)
_LICENCE = re.compile(
    r"""<(?:a|link)\b[^>]{0,400}?\brel\s*=\s*["']?[^"'>]{0,60}\blicense\b[^>]{0,400}?>""", re.IGNORECASE
)
_COMMONS = re.compile(r"creativecommons\.org/(?:licenses/([a-z-]{2,12})/(\d\.\d)|publicdomain/(zero|mark)/1\.0)")

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


def page_record(raw: bytes, place: str, *, encoding: str = "", uri: str = "", collected_at: str = "") -> Found:
    """A page's bytes as one document, with the Creative Commons licence that the page itself links to.

    Args:
        raw: the bytes.
        place: for messages.
        encoding: what its server or the user says; else a byte-order mark, its `<meta charset>`, or UTF-8.
        uri: the page's address.
        collected_at: ISO date.

    Raises:
        BadFile: it is in no encoding that is named.
    """
    declared = _CHARSET.search(raw[:4096])
    marked = any(raw.startswith(bom) for bom, _ in BOMS)
    page = _in_one_of(raw, [encoding, "" if marked or not declared else declared[1].decode(), ""])
    title, text = main_text(page)
    if not text:
        return Refusal(place, "the page shows no text")
    fields = {"text": text, "title": title}
    return Record(place, fields, document=True, uri=uri, collected_at=collected_at, licence=linked_licence(page))


def _in_one_of(raw: bytes, encodings: list[str]) -> str:
    problem: BadFile | None = None
    for encoding in dict.fromkeys(encodings):
        try:
            return decoded(raw, encoding)
        except BadFile as error:
            problem = problem or error
    assert problem is not None
    raise problem


def linked_licence(page: str) -> str:
    """The SPDX name of the Creative Commons licence that a page links to as its own; empty for none.

    >>> linked_licence('<a rel="license" href="https://creativecommons.org/licenses/by-nc/4.0/">CC</a>')
    'CC-BY-NC-4.0'
    """
    for link in _LICENCE.finditer(page):
        found = _COMMONS.search(link[0].lower())
        if found:
            if found[3]:
                return "CC0-1.0" if found[3] == "zero" else "CC-PDDC"
            return f"CC-{found[1].upper()}-{found[2]}"
    return ""


def _tidy(text: str) -> str:
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^ (?! )", "", text, flags=re.MULTILINE)  # a lone space is collapsed markup; more is code
    return re.sub(r"\n{3,}", "\n\n", text).strip()
