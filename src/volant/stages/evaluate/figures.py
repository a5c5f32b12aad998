"""Who is measured, on what, and what came out: the measuring that `suite` and `compare` share.

A dataset enters, then one session after another (the model, what it stands against, the baselines);
scores with intervals and values an example leave, by whose they are.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from volant.core.artifact import Dataset, Model, Prompt
from volant.core.errors import DataError
from volant.core.method import Scorers
from volant.core.protocols import Output, Scorer, Session
from volant.core.run import Run
from volant.core.sample import Sample, Split, spread
from volant.core.score import Score
from volant.scorers import build
from volant.scorers.bias import counterfactuals
from volant.scorers.measure import answered, answers, bits_per_byte, mean_score, measured, output_of

TRAINING_SAMPLES = 20_000  # of the training data, searched for copies and known words
BASELINE_SAMPLES = 8_000  # of the training data, that a baseline is fitted on
BITS = "bits_per_byte"


@dataclass
class Figures:
    """What was measured of one candidate.

    Attributes:
        of: `model`, `previous`, `champion`, `baseline:<name>` or `reference`.
        values: by metric, one value an example.
    """

    of: str
    outputs: list[Output] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def score(self, name: str) -> Score | None:
        """The figure of that name, if it was measured."""
        return next((s for s in self.scores if s.name == name), None)


def task_samples(data: Dataset, split: Split, limit: int) -> list[Sample]:
    """`limit` samples with answers, spread evenly over the split (a split is sorted by its sources).

    Raises:
        DataError: the split is empty, or no sample in it has a prompt and an answer.
    """
    from volant.store.dataset import rows

    found = spread((s for s in rows(data, split) if answered(s)), limit)
    if not found:
        raise DataError(
            f"no sample of the {split} split has a prompt and an answer, or content.",
            fix="Evaluate on a dataset of prompt and completion pairs, messages, images or rows.",
        )
    return found


def training_samples(data: Dataset, corpus: Dataset | None, run: Run) -> list[Sample]:
    """What the model was trained on, as far as it is searched; a cut is said."""
    from volant.store.dataset import count, rows

    found: list[Sample] = []
    for source in [data, *([corpus] if corpus else [])]:
        there = count(source, "train")
        if there > TRAINING_SAMPLES:
            run.say(f"only the first {TRAINING_SAMPLES:,} of {there:,} training samples are searched for copies")
        found += islice(rows(source, "train"), TRAINING_SAMPLES) if there else []
    return found


def scorers_for(
    names: Scorers, metric: str, training: Sequence[Sample], judge: Model | None = None
) -> dict[str, Scorer]:
    """The scorers asked for and that of the task metric, knowing the training data where they need it."""
    chosen: dict[str, dict[str, Any]] = dict(names) if isinstance(names, dict) else {name: {} for name in names}
    if metric not in chosen and metric != BITS:
        chosen = {metric: {}, **chosen}
    if not training:  # without it the references would be taken for it, and every answer for a copy
        chosen.pop("memorisation", None)
    return build(chosen, {"judge": judge, "training": training or None})


def guards_of(modality: str, scorers: Mapping[str, Scorer]) -> dict[str, str]:
    """The scorers that gate together, by name, each with its bar where the goal states no target (or none)."""
    from volant.modalities import open_modality

    names = open_modality(modality).gates()
    return {name: str(getattr(scorers[name], "bar", "")) for name in names if name in scorers}


@contextmanager
def opened(run: Run, model: Model, prompt: Prompt | None) -> Iterator[Session]:
    """A model's session, closed at the end."""
    from volant.engines import open_model

    session = open_model(model, prompt=prompt, threads=run.threads, device=run.device)
    try:
        yield session
    finally:
        session.close()


def measure(
    run: Run, session: Session, samples: Sequence[Sample], scorers: Mapping[str, Scorer], *, of: str, max_tokens: int
) -> Figures:
    """Answers, their figures, and bits per byte where the session can tell."""
    plain = {name: s for name, s in scorers.items() if name != "bias_gap"}
    outputs = answers(session, samples, max_tokens=max_tokens, run=run)
    scores, values = measured(outputs, samples, plain, of=of)
    figures = Figures(of, outputs, scores, values)
    try:
        bits = bits_per_byte(session, samples)
    except NotImplementedError:
        if outputs[0].sample is None:
            run.say(f"{of} gives no log-probabilities: no bits per byte")
        return figures
    figures.values[BITS] = bits
    figures.scores.insert(0, mean_score(BITS, bits, unit="bits", direction="lower", of=of, note="of the answers"))
    return figures


def measure_references(samples: Sequence[Sample], scorers: Mapping[str, Scorer]) -> Figures:
    """What the reference answers themselves get, where that is not 1 by definition."""
    outputs = [output_of(s) for s in samples]
    telling = {name: scorer for name, scorer in scorers.items() if getattr(scorer, "of_references", False)}
    scores, values = measured(outputs, samples, telling, of="reference")
    return Figures("reference", outputs, scores, values)


def bias_score(
    run: Run, session: Session, samples: Sequence[Sample], scorer: Scorer, *, of: str, pairs: int, max_tokens: int
) -> Score:
    """The bias gap over `pairs` prompts, each asked in both forms."""
    forms = counterfactuals(samples[:pairs])
    outputs = answers(session, forms, max_tokens=max_tokens, run=run)
    return scorer.score(outputs, forms)[0].model_copy(update={"of": of})


def baselines(run: Run, data: Dataset, modality: str) -> Iterator[tuple[str, Session]]:
    """The modality's trivial rivals, fitted on the training split; one that cannot be fitted is said."""
    from volant.modalities import open_modality
    from volant.store.dataset import count, rows

    if not count(data, "train"):
        run.say("no baseline was measured: the dataset has no training split to fit one on")
        return
    for name, (family, size) in open_modality(modality).baselines().items():
        training = islice((s for s in rows(data, "train") if not s.rated_down), BASELINE_SAMPLES)
        try:
            yield f"baseline:{name}", importlib.import_module(f"volant.nets.{family}").fit(training, **size)
        except DataError as error:
            run.say(f"baseline {name} was not measured: {error}")


def rounded(value: Any) -> Any:
    """Floats at six digits after the point, everywhere inside: noise of summation is no result."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value
