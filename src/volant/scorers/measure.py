"""The one measuring loop: a session and samples enter, outputs, values and scores leave.

Every stage that makes a model asks here, so that a figure means the same wherever it stands: the same
requests, greedy decoding, the same scorer (pinned by its digest), the same intervals. `check_task` is
the watch over the one fixed task metric that no step may make significantly worse.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from volant.core.artifact import Dataset, Model
from volant.core.errors import DataError, RemoteError, SettingError
from volant.core.protocols import Output, Request, Scorer, Session
from volant.core.run import Run
from volant.core.sample import CONTENT_SHAPES as CONTENT_SHAPES
from volant.core.sample import Sample, Split, spread
from volant.core.score import Direction, Score
from volant.scorers.compare import Comparison, paired, resampled_means

MAX_TOKENS = 48
TEXT_PROMPT_WORDS = 24  # how much of a plain text is shown before the model continues it
TEXT_BYTES = 1000  # how much of a plain text is judged; fits the context of the smallest model
CONTENT_BATCH = 512
TRAINING = 20_000  # samples of the train split that scorers may measure against
TASK_SHAPES = ("completion", "messages", *CONTENT_SHAPES)


def request_of(sample: Sample, *, max_tokens: int = MAX_TOKENS, id: str = "") -> Request:
    """What a model is asked for a sample: its turns without the answer, the first words of a text, its condition.

    Content is drawn with a seed that follows from the sample's id: the same sample, the same draw.
    """
    if sample.shape in CONTENT_SHAPES:
        return Request(id=id, prompt=sample.condition or "", seed=zlib.crc32(sample.id.encode()))
    if sample.shape == "text":
        head = " ".join((sample.content or "").split()[:TEXT_PROMPT_WORDS])
        return Request(id=id, prompt=head, max_tokens=max_tokens)
    turns = sample.messages
    while turns and turns[-1].get("role") == "assistant":
        turns = turns[:-1]
    return Request(id=id, messages=tuple(turns), max_tokens=max_tokens)


def target_of(sample: Sample) -> str:
    """The reference answer: completion, last assistant turn, or what follows the first words of a text."""
    if sample.shape == "messages":
        last = sample.messages[-1] if sample.messages else {}
        return str(last.get("content", "")) if last.get("role") == "assistant" else ""
    if sample.shape == "text":
        return " ".join((sample.content or "").split()[TEXT_PROMPT_WORDS : TEXT_PROMPT_WORDS + MAX_TOKENS])
    return sample.target or ""


def answered(sample: Sample) -> bool:
    """Whether the sample holds what a model would have to give: an answer that is not a bad one, or content."""
    if sample.shape in CONTENT_SHAPES:
        return True
    return not sample.rated_down and sample.shape in TASK_SHAPES and bool(target_of(sample).strip())


def output_of(sample: Sample) -> Output:
    """The sample itself as an output: what a perfect model would say."""
    return Output(target_of(sample), request_of(sample), sample=sample if sample.shape in CONTENT_SHAPES else None)


def prompt_of(sample: Sample) -> str:
    """The text that the model is shown, without template."""
    request = request_of(sample)
    return request.prompt if request.prompt is not None else "\n".join(str(m["content"]) for m in request.messages)


def answers(
    session: Session,
    samples: Sequence[Sample],
    *,
    max_tokens: int = MAX_TOKENS,
    batch: int = 64,
    run: Run | None = None,
) -> list[Output]:
    """Greedy answers of a session to samples, in their order.

    Args:
        session: the opened model.
        samples: what is asked; their targets are not shown.
        max_tokens: the longest answer.
        batch: how many are handed over together; an engine refills its slots from them.
        run: shows a bar and hears Ctrl-C.

    Raises:
        DataError: there is no sample.
        RemoteError: the session reports an error for one of them.
    """
    if not samples:
        raise DataError("there is no sample to answer (n=0).", fix="Check the split and its shapes.")
    if samples[0].shape in CONTENT_SHAPES:
        batch = max(batch, CONTENT_BATCH)
    order = sorted(range(len(samples)), key=lambda i: (len(prompt_of(samples[i])), i))
    outputs: dict[int, Output] = {}
    if run is None:
        for start in range(0, len(order), batch):
            outputs.update(_generate(session, samples, order[start : start + batch], max_tokens))
    else:
        with run.progress("answers", len(samples), "answers") as bar:
            for start in range(0, len(order), batch):
                run.check_stop()
                outputs.update(_generate(session, samples, order[start : start + batch], max_tokens))
                bar.advance(len(order[start : start + batch]))
    return [outputs[i] for i in range(len(samples))]


def _generate(session: Session, samples: Sequence[Sample], chosen: list[int], max_tokens: int) -> dict[int, Output]:
    requests = {str(i): request_of(samples[i], max_tokens=max_tokens, id=str(i)) for i in chosen}
    outputs = {id: Output("", request, finish="") for id, request in requests.items()}
    for chunk in session.generate(list(requests.values())):
        output = outputs[chunk.id]
        output.text += chunk.text
        if chunk.finish == "error":
            raise RemoteError(f"the model failed on sample {samples[int(chunk.id)].id}: {chunk.error}")
        if chunk.finish:
            output.finish, output.sample = chunk.finish, chunk.sample
            output.prompt_tokens, output.completion_tokens = chunk.prompt_tokens, chunk.completion_tokens
    return {int(id): output for id, output in outputs.items()}


def worth(scorers: Mapping[str, Scorer], outputs: Sequence[Output], samples: Sequence[Sample]) -> list[float]:
    """The mean of the scorers' values for each output, those that are better low turned round."""
    told = [
        [value if scorer.direction == "higher" else -value for value in scorer.values(outputs, samples)]
        for scorer in scorers.values()
    ]
    return [sum(values) / len(values) for values in zip(*told, strict=True)]


def measured(
    outputs: Sequence[Output], samples: Sequence[Sample], scorers: Mapping[str, Scorer], *, of: str = "model"
) -> tuple[list[Score], dict[str, list[float]]]:
    """Scores (marked with whose they are) and the values an example, by scorer name.

    Raises:
        DataError: there is no output.
    """
    scores: list[Score] = []
    values: dict[str, list[float]] = {}
    for name, scorer in scorers.items():
        scores += [s.model_copy(update={"of": of}) for s in scorer.score(outputs, samples)]
        values[name] = list(scorer.values(outputs, samples))
    return scores, values


def bits_per_byte(session: Session, samples: Sequence[Sample], *, batch: int = 16) -> list[float]:
    """Bits that the session needs for each byte of the answer (or of a plain text), one value a sample.

    Comparable between any two tokenisers; lower is better. Plain texts are cut at `TEXT_BYTES`.

    Raises:
        DataError: no sample, or one with an empty answer.
        NotImplementedError: the engine gives no log-probabilities.
    """
    if not samples:
        raise DataError("there is no sample to measure (n=0).", fix="Check the split and its shapes.")
    if any(sample.shape in CONTENT_SHAPES for sample in samples):
        raise NotImplementedError("content has no bytes of an answer")
    pairs = [_scored_pair(sample) for sample in samples]
    for sample, (_, continuation) in zip(samples, pairs, strict=True):
        if not continuation:
            raise DataError("the sample has an empty answer.", where=f"sample {sample.id}", fix="Drop it in `clean`.")
    order = sorted(range(len(pairs)), key=lambda i: (len(prompt_of(samples[i])) + len(pairs[i][1]), i))
    bits = [0.0] * len(pairs)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        for i, logps in zip(chosen, session.logprobs([pairs[i] for i in chosen]), strict=True):
            bits[i] = -sum(logps) / math.log(2) / len(pairs[i][1].encode())
    return bits


def _scored_pair(sample: Sample) -> tuple[Request, str]:
    if sample.shape == "text":
        return Request(prompt=""), (sample.content or "").encode()[:TEXT_BYTES].decode(errors="ignore")
    return request_of(sample), target_of(sample)


def interval(values: Sequence[float], seed: int = 0, *, binary: bool = False) -> tuple[float, float, float]:
    """Mean and 95 % interval: Wilson's for yes/no values, else the bootstrap's.

    Wilson's, because the bootstrap of ten zeros is [0, 0], which claims what ten zeros cannot show.

    Args:
        values: one an example.
        seed: of the bootstrap.
        binary: the values can only be 0 or 1; without it that is inferred where both occur.

    Raises:
        DataError: there is no value, or one that is not finite.
    """
    if not len(values):
        raise DataError("there is no value to average (n=0).", fix="Give at least one example.")
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise DataError("a value is not finite.", fix="Look for an example without a value.")
    mean, n = float(array.mean()), len(array)
    kinds = set(np.unique(array))
    if kinds == {0.0, 1.0} or (binary and kinds <= {0.0, 1.0}):
        z = 1.959964
        centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
        reach = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        low, high = max(0.0, centre - reach), min(1.0, centre + reach)
    else:
        low, high = (float(q) for q in np.quantile(resampled_means(array, seed), (0.025, 0.975)))
    return mean, min(low, mean), max(high, mean)


def mean_score(
    name: str,
    values: Sequence[float],
    *,
    unit: str = "1",
    direction: Direction = "higher",
    of: str = "model",
    note: str = "",
    seed: int = 0,
    binary: bool = False,
) -> Score:
    """The mean of values as a Score with its interval."""
    mean, low, high = interval(values, seed, binary=binary)
    n = len(values)
    return Score(name=name, value=mean, low=low, high=high, n=n, unit=unit, direction=direction, of=of, note=note)


def task_samples(data: Dataset, split: Split, limit: int) -> list[Sample]:
    """At most `limit` samples of a split that ask for an answer, spread evenly over it; empty where there is none."""
    from volant.store.dataset import rows

    try:
        return spread(filter(answered, rows(data, split)), limit)
    except DataError:
        return []


def check_task(
    run: Run,
    after: Session,
    data: Dataset,
    *,
    before: Model | None = None,
    before_session: Session | None = None,
    judge: Model | None = None,
    limit: int = 0,
    max_tokens: int = MAX_TOKENS,
    back: Callable[[str], bool] = lambda _: False,
) -> Comparison | None:
    """The project's fixed task metric after a step, against before it; a significant fall is mended or said.

    Writes `validation.json` (metric, scorer digest, ids, values) into the artifact. The next step reads
    it there instead of generating the same answers again.

    Args:
        run: gives the metric (`run.goal.metric`), takes the scores.
        after: the model that the step made, opened.
        data: whose validation split is used.
        before: the model that the step started from.
        before_session: the same, opened already; used where `before` holds no fitting `validation.json`.
        judge: a model that the metric asks, where it needs one.
        limit: how many examples, spread over the split; 0: 64 of text, 256 of content, whose metrics are often those
            of a whole set.
        max_tokens: the longest answer.
        back: hears of a significant fall and takes part of the step back (`nets.nearness.Start.back`), then what is
            left is measured; it answers False where it cannot.

    Returns:
        The comparison, or None where nothing is before it or the data holds no task samples.
    """
    content = bool(set(CONTENT_SHAPES) & set(data.about["shapes"]))
    samples = task_samples(data, "validation", limit or (256 if content else 64))
    if not samples:
        run.say(f"{run.goal.metric} was not measured: the validation split has no prompts with answers.")
        return None
    try:
        scorer = None if run.goal.metric == "bits_per_byte" else _scorer(run.goal.metric, data, judge)
    except SettingError as error:  # it asks for a judge that this step was not given
        run.say(f"{run.goal.metric} was not measured: {error}")
        return None
    metric = run.goal.metric
    key, direction, unit = _task_key(scorer, samples, max_tokens)
    earlier = _stored_values(before.path, key) if before else None
    if earlier is None and before_session is not None:
        earlier = _task_values(scorer, before_session, samples, max_tokens, run)
    if earlier is None and before is not None:
        from volant.engines import open_model

        session = open_model(before, threads=run.threads, device=run.device)
        try:
            earlier = _task_values(scorer, session, samples, max_tokens, run)
        finally:
            session.close()
    comparison = None
    while True:
        values = _task_values(scorer, after, samples, max_tokens, run)
        if earlier is not None:
            comparison = paired(metric, earlier, values, direction=direction, unit=unit)
        if comparison is None or comparison.verdict != "worse" or not back(f"by the task metric, {comparison}"):
            break
    record = {**key, "values": values}
    (run.out / "validation.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    run.score(mean_score(metric, values, direction=direction, unit=unit, note="validation, the fixed task metric"))
    if comparison is None:
        return None
    run.score(comparison.change)
    if comparison.verdict == "worse":
        run.say(f"WARNING: this step made the task metric significantly worse: {comparison}")
    else:
        run.say(str(comparison))
    return comparison


def _task_key(
    scorer: Scorer | None, samples: Sequence[Sample], max_tokens: int
) -> tuple[dict[str, Any], Direction, str]:
    """What must be equal for two lists of values to be comparable; and the metric's direction and unit."""
    key: dict[str, Any] = {"ids": [s.id for s in samples], "max_tokens": max_tokens}
    if scorer is None:
        return {**key, "metric": "bits_per_byte", "scorer": "bits_per_byte:1"}, "lower", "bits"
    return {**key, "metric": scorer.name, "scorer": digest_of(scorer)}, scorer.direction, scorer.unit


def _task_values(
    scorer: Scorer | None, session: Session, samples: Sequence[Sample], max_tokens: int, run: Run
) -> list[float]:
    """Values an example; without a scorer the bits per byte."""
    if scorer is None:
        found = bits_per_byte(session, samples)
    else:
        found = scorer.values(answers(session, samples, max_tokens=max_tokens, run=run), samples)
    return [round(v, 6) for v in found]


def _scorer(metric: str, data: Dataset, judge: Model | None) -> Scorer:
    """The metric's scorer; for content it knows the training samples, which such metrics measure against."""
    from volant.scorers import build
    from volant.store.dataset import count, rows

    content = set(CONTENT_SHAPES) & set(data.about["shapes"])
    # A dataset of pairs has them in the train split beside the samples.
    real = (s for s in rows(data, "train") if s.shape in content) if content and count(data, "train") else ()
    training = list(islice(real, TRAINING)) or None
    return build([metric], {"judge": judge, "training": training})[metric]


def digest_of(scorer: Scorer) -> str:
    """What pins a scorer: its `digest` where it has one, else name and version."""
    return str(getattr(scorer, "digest", f"{scorer.name}:{scorer.version}"))


def _stored_values(folder: Path, key: Mapping[str, Any]) -> list[float] | None:
    try:
        stored = json.loads((folder / "validation.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(stored, dict) or any(stored.get(name) != value for name, value in key.items()):
        return None
    return [float(v) for v in stored["values"]]
