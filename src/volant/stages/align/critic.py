"""A model as critic: it says what is wrong with an answer, and which of two answers keeps a principle better.

Enters: any opened model (our own, or one behind an OpenAI-compatible address), prompts, answers, a principle in words.
Leaves: critiques, and verdicts that hold when the two answers change places: models favour what they read first
(Zheng et al., "Judging LLM-as-a-judge", 2023), so a verdict that turns with the order is a tie.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from volant.core import Run

CRITIQUE = """Here is a request and an answer to it.

Request:
{prompt}

Answer:
{answer}

The answer should keep this principle: {says}
In one or two sentences, say how the answer falls short of it."""
REVISE = "{critique} Answer the request again, and better: {says}"
VERDICT = """Here is a request and two answers to it.

Request:
{prompt}

Answer A:
{a}

Answer B:
{b}

Which answer keeps this principle better: {says}
Say A or B, and nothing else."""
_LETTER = re.compile(r"\b([AB])\b|^\W*([ab])\W*$")  # an `a` within a sentence is an article


class Critic:
    """A model that judges in words; answers are drawn greedily, so the same question has the same answer."""

    def __init__(self, run: Run, session: Any, *, max_tokens: int) -> None:
        self.run, self.session, self.max_tokens = run, session, max_tokens
        self.unread = 0

    def _ask(self, questions: Sequence[str], title: str, room: int) -> list[str]:
        from volant.core.protocols import Request
        from volant.scorers.drawn import drawn

        requests = {
            str(n): Request(
                id=str(n), messages=({"role": "user", "content": question},), max_tokens=room, seed=self.run.seed
            )
            for n, question in enumerate(questions)
        }
        made = drawn(self.run, self.session, requests, title=title)
        return [made[id].text.strip() if id in made else "" for id in requests]

    def critiques(self, asked: Sequence[tuple[str, str, str]]) -> list[str]:
        """What is wrong with each (prompt, answer, principle); empty where the critic said nothing."""
        questions = [CRITIQUE.format(prompt=p, answer=a, says=says) for p, a, says in asked]
        return self._ask(questions, "critiques", self.max_tokens)

    def verdicts(self, asked: Sequence[tuple[str, str, str, str]]) -> list[int]:
        """For each (prompt, first, second, principle): 1 where the first is better, -1 the second, 0 a tie.

        Each is asked twice, with the answers in both orders. What is neither A nor B counts in `unread`.
        """
        questions = []
        for prompt, first, second, says in asked:
            questions.append(VERDICT.format(prompt=prompt, a=first, b=second, says=says))
            questions.append(VERDICT.format(prompt=prompt, a=second, b=first, says=says))
        letters = [self._letter(text) for text in self._ask(questions, "verdicts", 8)]
        found = []
        for straight, turned in zip(letters[::2], letters[1::2], strict=True):
            found.append({("A", "B"): 1, ("B", "A"): -1}.get((straight, turned), 0))
        return found

    def _letter(self, text: str) -> str:
        letters = {(large or small).upper() for large, small in _LETTER.findall(text)}
        if len(letters) == 1:
            return str(letters.pop())
        self.unread += 1
        return ""
