"""Base against few-shot against LoRA against full, in one step: quality, cost and time, and whether one of them wins.

Enters: a model, a dataset of prompts with answers. Leaves: a `Tournament`. Each way is a step of its own
(`tournament-lora`, ...), kept, resumed and fresh like any other; its cost is what the records say of its run. Quality
is measured on validation samples, the same for all, never on the test split.

A way wins where a paired test against each other one says so, at a level divided by the number of those tests.
Otherwise there is no difference between it and those that it does not beat, and the cheapest of them is named.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volant.core.artifact import Dataset, Model, Prompt
from volant.core.errors import SettingError
from volant.core.method import method_named
from volant.core.run import Run
from volant.core.score import Direction, Score

if TYPE_CHECKING:
    from volant.project.project import Project
    from volant.scorers.compare import Comparison

WAYS = {"few-shot": "prompt.few_shot", "lora": "finetune.lora", "full": "finetune.full", "qlora": "finetune.qlora"}
BASE = "base"
LEVEL = 0.05


@dataclass(frozen=True)
class Entrant:
    """One way and what came of it.

    Attributes:
        digest: of the Model, or of the Prompt that the base is used with.
        scores: of the validation samples, with intervals; by metric.
        values: by metric, one a sample.
        cpu_seconds, seconds, peak_bytes: of making it, as the records have them; 0 for the base.
        kept_bytes: what has to be kept beside the base to use it.
        answer_cpu_seconds: of answering and judging one sample.
    """

    name: str
    digest: str
    scores: dict[str, Score]
    values: dict[str, list[float]]
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    peak_bytes: int = 0
    kept_bytes: int = 0
    answer_cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Tournament:
    """All ways side by side.

    Attributes:
        metric: what decides.
        n: validation samples.
        best: of the highest mean; whether it wins says `winner`.
        against: the best one compared with each other one.
        winner: empty where no way is shown to be better than all others.
        level: below which p a comparison counts.
        choice: the winner, or the one that costs least of those that are not shown to be worse than the best.
    """

    metric: str
    n: int
    entrants: list[Entrant]
    best: str
    against: dict[str, Comparison]
    winner: str
    level: float
    choice: str
    said: str = field(default="")

    def as_json(self) -> dict[str, Any]:
        """Everything but the single values."""
        rows = []
        for one in self.entrants:
            told = {name: value for name, value in asdict(one).items() if name != "values"}
            rows.append({**told, "scores": [score.model_dump() for score in one.scores.values()]})
        against = {name: c.as_json() for name, c in self.against.items()}
        return {
            "metric": self.metric, "split": "validation", "n": self.n, "entrants": rows, "best": self.best,
            "against": against, "level": self.level, "winner": self.winner, "choice": self.choice, "said": self.said,
        }  # fmt: skip


def tournament(
    project: Project,
    model: Model,
    data: Dataset,
    *,
    ways: Sequence[str] = ("few-shot", "lora", "full"),
    metric: str = "bits_per_byte",
    epochs: float = 1.0,
    limit: int = 96,
    seed: int = 0,
) -> Tournament:
    """Make every way, measure them on the same samples, and compare.

    Args:
        project: keeps the steps.
        model: the base.
        data: to learn from (train) and to be measured on (validation).
        ways: of `WAYS`; the base itself always takes part.
        metric: what decides: `bits_per_byte` or a scorer. The goal's metric is shown beside it.
        epochs: passes of each training over the data.
        limit: validation samples, spread evenly.
        seed: of every way.

    Raises:
        SettingError: a way that is not known, or none.
        DataError: there is nothing to learn from or to measure on.
    """
    from volant.stages.evaluate.figures import task_samples

    ways = list(dict.fromkeys(ways))
    if not ways:
        raise SettingError("there is nothing to compare.", where="tournament", fix=f"Choose of {', '.join(WAYS)}.")
    unknown = [way for way in ways if way not in WAYS]
    if unknown:
        raise SettingError(f"there is no way {unknown[0]!r}.", where="tournament", fix=f"Choose of {', '.join(WAYS)}.")
    samples = task_samples(data, "validation", limit)
    entrants = [_measured(project, BASE, model, None, samples, metric)]
    for way in ways:
        settings: dict[str, Any] = {} if way == "few-shot" else {"epochs": epochs}
        _forget_peak()
        step = f"tournament-{way}"
        done = project.call(step, method_named(WAYS[way]), {"model": model, "data": data, **settings}, seed=seed)
        prompt = done.artifact if isinstance(done.artifact, Prompt) else None
        used = done.artifact if isinstance(done.artifact, Model) else model
        row = project.records.run(done.run)
        cost = {"cpu_seconds": row.cpu_seconds, "seconds": row.seconds, "peak_bytes": row.peak_bytes}
        entrants.append(_measured(project, way, used, prompt, samples, metric, **cost))
    return decided(entrants, metric, entrants[0].scores[metric].direction)


def decided(entrants: Sequence[Entrant], metric: str, direction: Direction) -> Tournament:
    """Who wins, by paired tests of the best one against each other one."""
    from volant.scorers.compare import paired

    sign = 1 if direction == "higher" else -1
    best = max(entrants, key=lambda e: sign * e.scores[metric].value)
    level = LEVEL / max(1, len(entrants) - 1)
    against = {
        other.name: paired(metric, other.values[metric], best.values[metric], direction=direction, level=level)
        for other in entrants
        if other is not best
    }
    open_ = [name for name, compared in against.items() if compared.verdict != "better"]
    winner = "" if open_ or not against else best.name
    level_with = [e for e in entrants if e is best or e.name in open_]
    choice = min(level_with, key=lambda e: (e.cpu_seconds, e.kept_bytes)).name
    if winner:
        said = f"{winner} wins: it is better than each other way by {metric} (p < {level:.3g} each)."
    else:
        said = f"No difference between {best.name} and {', '.join(open_)} by {metric}; {choice} costs least of them."
    n = len(best.values[metric])
    return Tournament(metric, n, list(entrants), best.name, against, winner, level, choice, said)


def _measured(
    project: Project, name: str, model: Model, prompt: Prompt | None, samples: Sequence[Any], metric: str, **cost: Any
) -> Entrant:
    """One way's figures on the samples."""
    from volant.scorers.measure import mean_score
    from volant.stages.evaluate.figures import BITS, measure, opened, scorers_for

    shown = project.goal.metric
    scorers = {n: s for m in {metric, shown} for n, s in scorers_for([], m, ()).items()}
    with tempfile.TemporaryDirectory() as place:
        run = Run(
            step="tournament", out=Path(place), work=Path(place), device=project.device, threads=project.threads,
            modality=model.about.modality, goal=project.goal, watcher=project.watcher, stop=project.stop,
        )  # fmt: skip
        with opened(run, model, prompt) as session:
            start = time.process_time()
            found = measure(run, session, samples, scorers, of=name, max_tokens=48)
            spent = (time.process_time() - start) / len(samples)
    scores: dict[str, Score] = {}
    for wanted in dict.fromkeys((metric, shown, BITS)):
        stated = found.score(wanted)
        if stated is not None and wanted in found.values:
            unit, toward = stated.unit, stated.direction
            scores[wanted] = mean_score(wanted, found.values[wanted], unit=unit, direction=toward, of=name)
    if metric not in scores:
        what = f"{metric} has no value for each sample of {name}, so the ways cannot be paired by it."
        raise SettingError(what, where="tournament", fix="Choose another metric.")
    kept = _kept(model, prompt, base=name == BASE)
    digest = prompt.digest if prompt else model.digest
    return Entrant(name, digest, scores, found.values, kept_bytes=kept, answer_cpu_seconds=spent, **cost)


def _kept(model: Model, prompt: Prompt | None, *, base: bool) -> int:
    """Bytes beside the base: the adapter alone where there is one, else the weights."""
    if base:
        return 0
    if prompt is not None:
        return sum(file.stat().st_size for file in prompt.path.rglob("*") if file.is_file())
    folder = model.path / "adapter" if (model.path / "adapter").is_dir() else model.path
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _forget_peak() -> None:
    """Begin the process's peak of memory anew, where the system can (Linux), so that each way's is its own."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def as_rows(found: Tournament) -> list[Mapping[str, Any]]:
    """A row a way for a table, in the order in which they were made."""
    rows: list[Mapping[str, Any]] = []
    for one in found.entrants:
        compared = found.against.get(one.name)
        verdict = "best mean" if compared is None else f"p = {compared.p:.2g}"
        rows.append({"entrant": one, "score": one.scores[found.metric], "verdict": verdict})
    return rows
