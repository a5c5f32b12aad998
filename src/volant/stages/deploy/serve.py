"""Describe a service, and prove that it answers: start it, ask every route, measure it, stop it.

What enters: a Model (perhaps not sealed yet), a Prompt, a Report, a Dataset. What leaves: an Endpoint
with `endpoint.json`: alias, digests, engine, limits, routes, and a receipt without times. Latency is a
score of the run, because it belongs to the machine and not to the artifact.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from volant.core import Dataset, Endpoint, Model, Prompt, Report, Run, Sample, Score
from volant.core.sample import CONTENT_SHAPES

TEXTS = ("Hello", "What can you do?", "def add(a, b):\n    return a + b")


def serve(
    run: Run,
    model: Model,
    *,
    report: Report | None = None,
    prompt: Prompt | None = None,
    data: Dataset | None = None,
    alias: str = "champion",
    engine: str = "",
    max_tokens: Annotated[int, Field(ge=1, le=32_768)] = 512,
    default_tokens: Annotated[int, Field(ge=1, le=32_768)] = 64,
    queue: Annotated[int, Field(ge=1, le=10_000)] = 64,
    batch: Annotated[int, Field(ge=1, le=256)] = 8,
    deadline_seconds: Annotated[float, Field(gt=0, le=3_600)] = 60.0,
    requests: Annotated[int, Field(ge=1, le=1_000)] = 20,
    tokens: Annotated[int, Field(ge=1, le=4_096)] = 32,
) -> Endpoint:
    """Describe a service of `model`, start it on a free loopback port, ask every route once, and stop it.

    Args:
        run: where and with what.
        model: what is served.
        report: cited in the endpoint with its verdict; a verdict other than `ship` is said, and does not stop it.
        prompt: instructions and examples that the server puts before every request.
        data: its validation prompts (of content: the conditions) are asked in the smoke test, so that the latency is
            that of the task.
        alias: the name that clients use as `model`, and that the running server follows.
        engine: runs the model in place of the one that it names (`torch`, `ctranslate2`); empty for its own.
        max_tokens: of one answer; a request for more is refused with 400.
        default_tokens: length of an answer, in tokens, where a request says nothing.
        queue: requests that may wait; more are refused with 429 and a time to come again.
        batch: requests that run together; more serves more people in sum and each of them more slowly.
        deadline_seconds: from a request's arrival to its last token; then it ends with 504.
        requests: of the smoke test, one after the other; the 95th percentile is taken over them.
        tokens: length of the smoke test's answers, in tokens; latency grows with it.

    Raises:
        RemoteError: a route did not answer.
        ArtifactError: the engine cannot open the model.
    """
    from volant.serving import smoke
    from volant.serving.limits import Limits
    from volant.serving.run import running
    from volant.serving.service import Fixed, Service, kinds, opener, speaks

    limits = Limits(
        max_tokens=max(max_tokens, tokens), default_tokens=min(default_tokens, max_tokens), queue=queue, batch=batch,
        deadline_seconds=deadline_seconds,
    )  # fmt: skip
    source = Fixed(model, prompt, name=alias)
    service = Service(source, open=opener(run.threads, run.device, engine), limits=limits, engine=engine)
    with running(service) as url:
        digest = service.served.digest
        texts = [text[: limits.max_characters] for text in _texts(data)] or (TEXTS if speaks(service.routes) else ("",))
        receipt = smoke.receipt(url, service.routes, text=texts[0], max_tokens=tokens, digest=digest)
        path, kind = next(iter(service.routes.items()))
        times = smoke.latencies(url, path, kind, texts, requests=requests, max_tokens=tokens)
    run.score(_p95(times, run.seed))
    endpoint: dict[str, Any] = {
        "alias": alias, "model": digest, "prompt": prompt.digest if prompt else "", "engine": service.served.engine,
        "modality": model.about.modality, "limits": limits.model_copy(update={"max_tokens": max_tokens}).model_dump(),
        "routes": kinds(service.routes), **_cited(run, report), "receipt": receipt,
    }  # fmt: skip
    (run.out / "endpoint.json").write_text(json.dumps(endpoint, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    run.say(f"{len(receipt)} routes answered as {alias!r}; `volant serve` runs it")
    return Endpoint(run.out)


def _texts(data: Dataset | None) -> Sequence[str]:
    """Up to 32 prompts of the validation split, or conditions of content; empty where there is no such data."""
    from itertools import islice

    from volant.core.errors import DataError
    from volant.store.dataset import rows

    try:
        samples = list(islice(rows(data, "validation"), 256)) if data else []
    except DataError:  # no validation split: the smoke test needs none
        samples = []
    return [text for text in map(_asked, samples) if text.strip()][:32]


def _asked(sample: Sample) -> str:
    """What a sample was asked with; empty for a text that nobody asked for."""
    if sample.shape in CONTENT_SHAPES:
        return sample.condition or ""
    return sample.messages[0]["content"] if sample.shape != "text" and sample.messages else ""


def _cited(run: Run, report: Report | None) -> dict[str, str]:
    if report is None:
        return {"report": "", "verdict": ""}
    word = str(report.read_json("report.json").get("verdict", ""))
    if word != "ship":
        run.say(f"the report's verdict is {word or 'missing'!r}, not 'ship': deployed for trial")
    return {"report": report.digest, "verdict": word}


def _p95(times: Sequence[float], seed: int) -> Score:
    """The 95th percentile with a bootstrap interval."""
    draw = random.Random(seed)

    def p95(values: Sequence[float]) -> float:
        return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]

    again = sorted(p95(draw.choices(times, k=len(times))) for _ in range(400))
    value = p95(times)
    return Score(
        name="latency_p95_ms", value=value, low=min(again[9], value), high=max(again[389], value), n=len(times),
        unit="ms", direction="lower", note="one client, whole answers over HTTP on this machine",
    )  # fmt: skip
