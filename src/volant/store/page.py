"""The one shell of every HTML page that Volant writes: reports, plans, reviews, published content.

In comes a title and an HTML fragment; out goes one self-contained page: no script, no font, no image
from elsewhere, so that it opens from a disk, in ten years and without a network. It follows the
reader's light or dark setting and prints well. The pieces (`table`, `tiles`, `badge`, `section`)
escape what they are given; only text wrapped in `Html` is taken as markup.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Literal

_HEADING = re.compile(r'<h2 id="([^"]*)">(.*?)</h2>')
_CODE = re.compile(r"`([^`\n]+)`")
Tone = Literal["pass", "open", "fail", "plain"]

_CSS = """
:root{color-scheme:light dark;--ink:#1c1e22;--soft:#5d636e;--line:#dfe2e7;--paper:#fdfdfc;--card:#f4f5f6;
--accent:#1d5fa8;--pass:#1a7340;--passbg:#e3f3e8;--open:#8a5a00;--openbg:#fbf0d7;--fail:#b3261e;--failbg:#fbe5e3}
@media(prefers-color-scheme:dark){:root{--ink:#e6e7ea;--soft:#9aa1ad;--line:#33373e;--paper:#16181c;--card:#1e2126;
--accent:#7fb2ee;--pass:#7fd39b;--passbg:#173322;--open:#f0c369;--openbg:#3a2d10;--fail:#ff9d95;--failbg:#431c19}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:17px/1.55 "Iowan Old Style","Palatino Linotype",Palatino,
Georgia,serif;font-variant-numeric:oldstyle-nums;text-rendering:optimizeLegibility}
main{max-width:50rem;margin:0 auto;padding:3.2rem 1.4rem 5rem}
h1,h2,h3,th,.tile span,.badge,.eyebrow,footer,figcaption,nav{
font-family:system-ui,"Segoe UI",Roboto,Helvetica,sans-serif}
h1{font-size:2.05rem;line-height:1.18;letter-spacing:-.018em;margin:.1rem 0 1rem;text-wrap:balance}
h2{font-size:1.16rem;letter-spacing:-.006em;margin:2.6rem 0 .7rem;padding-top:1rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.5rem 0 .3rem}
p,ul,ol{margin:.55rem 0;max-width:41rem}
li{margin:.25rem 0}
a{color:var(--accent);text-underline-offset:.15em}
.eyebrow{font-size:.76rem;letter-spacing:.09em;text-transform:uppercase;color:var(--soft)}
.lead{font-size:1.16rem;color:var(--soft);margin-top:0}
.note{background:var(--card);border-left:3px solid var(--accent);padding:.7rem 1rem;border-radius:0 6px 6px 0}
.scroll{overflow-x:auto;margin:.9rem 0}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums lining-nums}
th{text-align:left;font-size:.74rem;font-weight:600;color:var(--soft);letter-spacing:.03em}
th,td{padding:.42rem .8rem .42rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;margin:1.2rem 0;font-size:.86rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem;margin:1.2rem 0}
.tile{background:var(--card);border-radius:8px;padding:.8rem .95rem}
.tile b{display:block;font-size:1.32rem;line-height:1.25;overflow-wrap:anywhere;
font-variant-numeric:tabular-nums lining-nums}
.tile span{font-size:.78rem;color:var(--soft)}
.badge{display:inline-block;font-size:.72rem;font-weight:650;line-height:1;padding:.3em .62em;border-radius:1em;
background:var(--card);color:var(--soft);white-space:nowrap}
.badge.pass{background:var(--passbg);color:var(--pass)}.badge.open{background:var(--openbg);color:var(--open)}
.badge.fail{background:var(--failbg);color:var(--fail)}
pre,code{font:.86em/1.5 ui-monospace,"SF Mono",Menlo,Consolas,monospace}
pre{background:var(--card);padding:.8rem 1rem;border-radius:8px;overflow-x:auto;
white-space:pre-wrap;overflow-wrap:anywhere}
code{background:var(--card);padding:.08em .3em;border-radius:4px}pre code{padding:0;background:none}
footer{margin-top:3.5rem;padding-top:.8rem;border-top:1px solid var(--line);font-size:.8rem;color:var(--soft)}
@media print{main{max-width:none;padding:0}h2{break-after:avoid}table,.tile{break-inside:avoid}}
"""


class Html(str):
    """Text that is markup already and is put in as it is."""

    __slots__ = ()


def escaped(value: object) -> Html:
    """`value` as markup: `Html` unchanged, anything else escaped."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def prose(value: object) -> Html:
    """`value` as markup, words between backticks set as code; `Html` unchanged."""
    return value if isinstance(value, Html) else Html(_CODE.sub(r"<code>\1</code>", escaped(value)))


def page(title: str, body_html: str, *, eyebrow: str = "", head: str = "", footer: str = "") -> str:
    """A whole self-contained page.

    Args:
        title: shown as the heading and in the window; escaped.
        body_html: the fragment between heading and footer, as markup.
        eyebrow: a few words above the heading that say what kind of page it is; escaped.
        head: further markup for `<head>` (meta tags); it must bring no outside resource.
        footer: a closing line, as markup.
    """
    name = html.escape(title)
    above = f'<div class="eyebrow">{html.escape(eyebrow)}</div>' if eyebrow else ""
    below = f"<footer>{footer}</footer>" if footer else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f'<meta name="generator" content="Volant">{head}<title>{name}</title><style>{_CSS}</style></head>\n'
        f"<body><main>{above}<h1>{name}</h1>\n{body_html}\n{below}</main></body></html>\n"
    )


def section(title: str, *parts: str) -> Html:
    """A heading and what stands under it; the parts are markup."""
    return Html(f'<h2 id="{_anchor(title)}">{html.escape(title)}</h2>\n' + "\n".join(parts))


def contents(sections: Iterable[str]) -> Html:
    """Links to the headings of sections on the same page."""
    found = [match.groups() for part in sections for match in _HEADING.finditer(part)]
    links = " ".join(f'<a href="#{anchor}">{title}</a>' for anchor, title in found)
    return Html(f"<nav>{links}</nav>")


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def paragraph(text: object, *, kind: Literal["", "lead", "note"] = "") -> Html:
    """A paragraph; `lead` is larger, `note` is set off by a bar."""
    return Html(f'<p class="{kind}">{prose(text)}</p>' if kind else f"<p>{prose(text)}</p>")


def bullets(items: Iterable[object]) -> Html:
    """An unordered list; empty where there is nothing to list."""
    inner = "".join(f"<li>{prose(item)}</li>" for item in items)
    return Html(f"<ul>{inner}</ul>" if inner else "")


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Sequence[int] = ()) -> Html:
    """A table; the columns whose index is in `numeric` are set right, in figures of one width."""

    def cell(tag: str, column: int, value: object) -> str:
        return f"<{tag}{' class=n' if column in numeric else ''}>{prose(value)}</{tag}>"

    head = "".join(cell("th", i, name) for i, name in enumerate(headers))
    body = "".join("<tr>" + "".join(cell("td", i, v) for i, v in enumerate(row)) + "</tr>" for row in rows)
    return Html(f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def tiles(items: Iterable[tuple[str, object]]) -> Html:
    """Large figures side by side: (label, figure)."""
    inner = "".join(f'<div class="tile"><b>{escaped(v)}</b><span>{html.escape(k)}</span></div>' for k, v in items)
    return Html(f'<div class="tiles">{inner}</div>')


def badge(text: str, tone: Tone = "plain") -> Html:
    """A short word in a coloured capsule: pass, open, fail."""
    return Html(f'<span class="badge {tone}">{html.escape(text)}</span>')
