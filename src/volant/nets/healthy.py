"""Healthy ranges of the figures of reinforcement learning, and what it means that one leaves its own.

Enters: the figures of each draw of answers. Leaves: metrics of the run, and a red flag, said once, for each range that
is left. The limits are rules of thumb, not findings: far enough out that healthy runs do not reach them (docs/align.md
has what was measured). That a policy far from its reference earns more by the reward and less by what it stands for
is Gao et al. 2023, "Scaling laws for reward model overoptimization"; that groups which earn the same teach GRPO nothing
is Yu et al. 2025, "DAPO", section 3.2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from volant.core.run import Run

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Range:
    """A figure and its healthy range.

    Attributes:
        name: of the metric.
        healthy: the range in words, for the documentation.
        left: whether the range is left, from the figures of a draw and those of the first one.
        flag: what is said then, and what to do.
    """

    name: str
    healthy: str
    left: Callable[[Figures, Figures], bool]
    flag: str


RANGES = (
    Range(
        "kl", "at most 0.5 nats a token from the reference", lambda now, _: now["kl"] > 0.5,
        "the divergence from the reference is above 0.5 nats a token; raise `beta` or lower `lr`",
    ),
    Range(
        "entropy", "at least a tenth of what it is at the first draw",
        lambda now, first: now["entropy"] < 0.1 * first["entropy"],
        "the entropy is below a tenth of its start: answers become one; raise `temperature` or `beta`",
    ),
    Range(
        "answer_tokens", "at most twice as long as at the first draw",
        lambda now, first: now["answer_tokens"] > 2 * max(1.0, first["answer_tokens"]),
        "answers are twice as long as at the start: look for a reward of length",
    ),
    Range(
        "answer_tokens", "at least half as long as at the first draw",
        lambda now, first: now["answer_tokens"] < 0.5 * first["answer_tokens"],
        "answers are half as long as at the start: look for a reward of saying little",
    ),
    Range(
        "reward_spread", "at least a tenth of what it is at the first draw",
        lambda now, first: now["reward_spread"] <= 0.1 * first["reward_spread"],
        "all answers earn almost the same: little can be learnt from them; does the reward still tell them apart?",
    ),
    Range(
        "flat_groups", "at most four prompts in five whose answers all earn the same",
        lambda now, _: now["flat_groups"] > 0.8,
        "the answers to more than four prompts in five earn the same, which teaches nothing: raise `group_size` or "
        "`temperature`, or take prompts that are neither too easy nor too hard",
    ),
)  # fmt: skip


class Watch:
    """Keeps the figures of reinforcement learning as metrics, and says once when one leaves its healthy range.

    The figures of the first draw lie in the run's scratch folder, so that a run that is carried on knows them.

    Args:
        run: keeps and hears.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._said = run, set[str]()
        self._first: Figures = {}
        self._kept = run.work / "first_draw.json"

    def __call__(self, told: Figures, step: int) -> None:
        """Figures of one draw."""
        for name, value in told.items():
            self._run.metric(name, value, step)
        if not self._first:
            self._begin(told, step)
        for one in RANGES:
            if one.flag not in self._said and one.left(told, self._first):
                self._said.add(one.flag)
                self._run.say(f"RED FLAG at draw {step}: {one.flag}")

    def _begin(self, told: Figures, step: int) -> None:
        if step and self._kept.is_file():
            self._first = json.loads(self._kept.read_text(encoding="utf-8"))
        else:
            self._first = dict(told)
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            self._kept.write_text(json.dumps(self._first), encoding="utf-8")
