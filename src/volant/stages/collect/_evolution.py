"""How a model is asked for something new: by examples, or by rewriting one (after Evol-Instruct, Xu et al., 2023).

Enters: records. Leaves: what the model is asked, and the new request or text taken out of what it said, or the reason
why it is none: nothing but the rewriting, another copy of what was there, a refusal, the question handed back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from volant.core import Sample

WAYS = {
    "deeper": "Rewrite it so that it takes more thought: ask for a reason, a comparison or an easily missed case.",
    "broader": "Write another one from the same field, about something rarer that it does not touch, about as long.",
    "constraints": "Rewrite it with one further condition that the answer has to keep.",
    "concretise": "Rewrite it with particular names, figures or cases in place of what it says in general.",
}
"""Each way of rewriting, and what the model is told."""

_REWRITE = """Here is a request:

{prompt}

{way} It must make sense on its own and be answered by text alone. Say the new request and nothing else."""
_NEXT = """Here are {count} {kind}:

{shown}

Write one further {one} of the same kind, about something else. Say it and nothing else."""
_LEAD = re.compile(
    r"^\s*(?:(?:here is|here's|sure|certainly)[^\n:]{0,80}:\s*)?(?:(?:new |rewritten )?(?:request|text|prompt)\s*:\s*)?"
    r"(?:\d+[.)]\s+)?",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^\s*```\w*\n(.*?)\n?```\s*$", re.DOTALL)
_REFUSAL = re.compile(
    r"^\W*(?:i(?:'m| am)? (?:sorry|afraid|cannot|can't|can not|unable)|as an ai\b|sorry\b)", re.IGNORECASE
)
_ECHO = ("say the new request", "say it and nothing else", "here is a request", "rewrite it so that", "the new request")


def rewriting(prompt: str, way: str) -> str:
    """What is asked for a request rewritten in a way."""
    return _REWRITE.format(prompt=prompt, way=WAYS[way])


def further(shown: Sequence[str], *, texts: bool) -> str:
    """What is asked for one more like these."""
    kind, one = ("texts", "text") if texts else ("requests", "request")
    listed = "\n\n".join(f"{number}. {text}" for number, text in enumerate(shown, 1))
    return _NEXT.format(count=len(shown), kind=kind, shown=listed, one=one)


def taken(said: str) -> str:
    """The request or text in what a model said: without a lead, a number, a fence or quotes around it."""
    fenced = _FENCE.match(said)
    text = _LEAD.sub("", fenced[1] if fenced else said, count=1).strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def malformed(text: str, shown: Sequence[str]) -> str:
    """Why what was taken is nothing new, as the reason of a drop; empty where it is."""
    plain = _plain(text)
    if not plain:
        return "malformed: nothing was said against a text"
    if _REFUSAL.match(text):
        return "malformed: the model refused against a text"
    if any(part in text.lower() and not any(part in old.lower() for old in shown) for part in _ECHO):
        return "malformed: what it was asked for handed back against a text"
    return "malformed: what it was shown handed back against a text" if plain in map(_plain, shown) else ""


def refused(answer: str) -> bool:
    """Whether an answer is a refusal."""
    return bool(_REFUSAL.match(answer))


def shown_text(sample: Sample) -> str:
    """What is shown of a record: the request of a pair, or the text."""
    from volant.scorers.measure import prompt_of

    return sample.content or "" if sample.shape == "text" else prompt_of(sample)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
