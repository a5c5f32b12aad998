"""The project file as values: goal, steps, loop. Parsing YAML is `project/spec_file.py`'s work.

The file has no templates, no expressions and no import strings: what is conditional is Python.
"""

from __future__ import annotations

import math
import operator
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_TARGET = re.compile(r"^\s*(>=|<=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*$")


class Target(BaseModel):
    """A bar that a figure has to clear: `>= 0.55`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sign: Literal[">=", "<=", ">", "<"]
    bar: float

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `>= 0.55`.

        Raises:
            ValueError: the text is no comparison with a number.
        """
        match = _TARGET.match(text)
        if not match:
            raise ValueError(f"{text!r} is no target; write a sign and a number, as in '>= 0.55'")
        return cls.model_validate({"sign": match[1], "bar": float(match[2])})

    def met_by(self, value: float) -> bool:
        """Whether `value` clears the bar."""
        return bool(_COMPARE[self.sign](value, self.bar))

    def __str__(self) -> str:
        return f"{self.sign} {self.bar:g}"


class Risk(BaseModel):
    """What may go wrong, who owns it, and what is done about it."""

    model_config = ConfigDict(extra="forbid")

    risk: str
    owner: str = "unassigned"
    mitigation: str = "none yet"


class Goal(BaseModel):
    """What is being built, for whom, and what counts as good.

    Attributes:
        accept: metric name to target (`{"relevance": ">= 0.55"}`).
        metric: the one fixed task metric that no step may make significantly worse; a project file of images or
            tables that names none takes the first gate of its modality.
        baseline: what a model has to beat; where none is named, the first of the modality's, for text the nearest
            neighbour.
        use: what the result is for; `collect` refuses licences that forbid it.
        generated: largest share (0 to 1) of the training records that models may have written; `collect` drops more.
    """

    model_config = ConfigDict(extra="forbid")

    problem: str = ""
    audience: str = ""
    modality: str = "text"
    metric: str = "relevance"
    accept: dict[str, str] = Field(default_factory=dict)
    baseline: str = "nearest_neighbour"
    use: Literal["commercial", "research", "personal"] = "commercial"
    generated: float = Field(default=1.0, ge=0, le=1)
    risks: list[Risk] = Field(default_factory=list)

    @field_validator("accept")
    @classmethod
    def _targets_parse(cls, accept: dict[str, str]) -> dict[str, str]:
        for text in accept.values():
            Target.parse(text)
        return accept

    @property
    def targets(self) -> dict[str, Target]:
        """The targets by metric, parsed."""
        return {name: Target.parse(text) for name, text in self.accept.items()}


class Searched(BaseModel):
    """What `volant tune` may choose a setting from: `{range: [4, 64], log: true}` or `{any: [cosine, linear]}`.

    Attributes:
        range: lowest and highest, both included; of a setting inside a mapping (`size.width`) whole numbers where both
            are written as such.
        log: equal factors are equally likely, as suits rates and sizes; needs a lowest above 0.
        step: distance between neighbours, counted from the lowest; 0 for any number between.
        any: the values themselves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    range: tuple[int | float, int | float] | None = None
    log: bool = False
    step: int | float = Field(default=0, ge=0)
    any: tuple[Any, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Searched:
        if (self.range is None) == (not self.any):
            raise ValueError("give either `range: [lowest, highest]` or `any: [one, another]`")
        if self.range is None:
            if self.log or self.step:
                raise ValueError("`log` and `step` belong to a `range`")
            if len(self.any) < 2:
                raise ValueError("`any` needs two values or more")
            return self
        low, high = self.range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"the range has to rise, and {low:g} to {high:g} does not")
        if self.log and (low <= 0 or self.step):
            raise ValueError("`log` needs a lowest above 0, and no `step`")
        if self.step > high - low:
            raise ValueError(f"a step of {self.step:g} is longer than the range")
        return self


class Step(BaseModel):
    """One step: which method, with which seed, and everything else by parameter name.

    Attributes:
        search: settings with what they may be; `volant tune` chooses, a run takes what stands beside it.
    """

    model_config = ConfigDict(extra="allow")

    use: str
    seed: int = Field(default=0, ge=0, lt=2**63)
    search: dict[str, Searched] = Field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, Any]:
        """Inputs (as step names) and settings, as written."""
        return dict(self.model_extra or {})


class Promote(BaseModel):
    """When a candidate becomes champion.

    Attributes:
        metric: compared on the sealed test split, paired by example; without one, other than for text, the goal's.
        p: the level of the paired test; the k-th opening of one test version needs p / k.
        gain: the smallest difference that counts, in the metric's unit.
        examples: most test examples that a turn compares on; 0 leaves it to `evaluate.compare` (192). More show
            smaller gains and take longer.
    """

    model_config = ConfigDict(extra="forbid")

    metric: str = "relevance"
    p: float = Field(default=0.05, gt=0, lt=1)
    gain: float = Field(default=0.0, ge=0)
    examples: int = Field(default=0, ge=0, le=100_000)


class Loop(BaseModel):
    """How the wheel turns: harvested data goes into a step's inputs; the result is compared and promoted.

    Attributes:
        source: the method that makes the new data (`from` in the file).
        into: the step whose inputs are extended with it.
        workload: the served workload to harvest (`*`: all).
        candidate: the step that makes the model which is compared; the model of `deploy.serve` by default.
        alias: which alias moves.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    source: str = Field(default="improve.harvest", alias="from")
    into: str
    workload: str = "*"
    candidate: str = ""
    alias: str = "champion"
    promote: Promote = Field(default_factory=Promote)


class Spec(BaseModel):
    """A whole project file.

    Attributes:
        lines: the line of each key path in the file (`("steps", "tuned", "rank")` to 8), for messages.
        file: the file's name as the user gave it.
    """

    model_config = ConfigDict(extra="forbid")

    volant: Literal[1] = 1
    name: str
    goal: Goal = Field(default_factory=Goal)
    steps: dict[str, Step] = Field(default_factory=dict)
    loop: Loop | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int = Field(default=0, ge=0, description="0: as many as the machine has cores")
    processes: int = Field(default=1, ge=1, le=1024, description="that share a training; started by torchrun")
    records: str = Field(default="", description="SQLAlchemy URL; empty for SQLite in .volant/")
    file: str = Field(default="", exclude=True)
    lines: dict[tuple[str, ...], int] = Field(default_factory=dict, exclude=True)

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise ValueError(f"name {name!r} has other characters than letters, digits, '.', '_' and '-'")
        return name

    @field_validator("steps")
    @classmethod
    def _plain_steps(cls, steps: dict[str, Step]) -> dict[str, Step]:
        for name in steps:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
                raise ValueError(f"step name {name!r} has other characters than letters, digits and '_'")
        return steps

    def where(self, *path: str) -> str:
        """`spec.yaml:8 tuned` for the key path, or its nearest known parent."""
        shown = path[1] if len(path) > 1 and path[0] == "steps" else ".".join(path)
        for depth in range(len(path), -1, -1):
            if path[:depth] in self.lines:
                return f"{self.file}:{self.lines[path[:depth]]} {shown}".rstrip()
        return f"{self.file} {shown}".strip()
