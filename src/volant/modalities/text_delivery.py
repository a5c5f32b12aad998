"""Text handed out: Markdown, HTML and JSON that people and `load` read, and previews for pages.

In go samples; out come bytes (`deliver`) or an escaped HTML fragment (`preview`). JSON and JSON
lines keep the shapes of the field, so they are read back as the same samples; Markdown and HTML
are for readers and come back as text.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

from volant.core.errors import SettingError, did_you_mean
from volant.core.sample import Sample
from volant.modalities.text_shapes import record_of

SUFFIXES = {"markdown": ".md", "html": ".html", "json": ".json", "jsonl": ".jsonl"}
PREVIEW_CHARS = 600


def deliver(samples: Sequence[Sample], form: str) -> bytes:
    """Samples in one of the forms of `SUFFIXES`, UTF-8.

    Raises:
        SettingError: an unknown form.
    """
    if form not in SUFFIXES:
        raise SettingError(f"text is not delivered as {form!r}.", where="form", fix=did_you_mean(form, SUFFIXES))
    if form == "json":
        text = json.dumps([record_of(sample) for sample in samples], ensure_ascii=False, indent=2)
    elif form == "jsonl":
        text = "\n".join(json.dumps(record_of(sample), ensure_ascii=False) for sample in samples)
    elif form == "markdown":
        text = "\n\n---\n\n".join(_markdown(sample) for sample in samples)
    else:
        text = _page(samples)
    return (text + "\n").encode("utf-8", "replace")


def preview(samples: Sequence[Sample]) -> str:
    """A few samples as an HTML fragment; everything from the data is escaped."""
    cards = []
    for sample in samples:
        parts = "".join(
            f"<dt>{html.escape(name)}</dt><dd><pre>{_short(text)}</pre></dd>" for name, text in _parts(sample)
        )
        cards.append(f'<dl class="sample">{parts}</dl>')
    return "\n".join(cards)


def _parts(sample: Sample) -> list[tuple[str, str]]:
    if sample.shape == "text":
        return [("text", sample.content or "")]
    parts = [(message["role"], message["content"]) for message in sample.messages]
    return [*parts, ("rejected", sample.rejected)] if sample.rejected else parts


def _short(text: str) -> str:
    more = f" … ({len(text):,} characters)" if len(text) > PREVIEW_CHARS else ""
    return html.escape(text[:PREVIEW_CHARS] + more)


def _markdown(sample: Sample) -> str:
    if sample.shape == "text":
        return sample.content or ""
    return "\n\n".join(f"**{name.capitalize()}**\n\n{_fenced(text, name)}" for name, text in _parts(sample))


def _fenced(text: str, name: str) -> str:
    """Prompts may hold code or Markdown of their own, so they go into a fence that they cannot close."""
    if name not in ("user", "system"):
        return text
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"


def _page(samples: Sequence[Sample]) -> str:
    articles = []
    for sample in samples:
        blocks = "".join(
            f"<h2>{html.escape(name)}</h2>\n<pre>{html.escape(text)}</pre>\n" if sample.shape != "text"
            else f"<pre>{html.escape(text)}</pre>\n"
            for name, text in _parts(sample)
        )  # fmt: skip
        articles.append(f"<article>\n{blocks}</article>")
    body = "\n".join(articles)
    head = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Text</title></head>\n'
    return f"{head}<body>\n{body}\n</body></html>"
