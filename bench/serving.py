"""What the HTTP server costs: our server against the same session in process, at concurrency 1 and 8.

    python bench/serving.py [--model DIRECTORY] [--requests 64] [--tokens 32] [--json FILE]

What enters: a Model directory; by default one of random weights (depth 4) is made, so the engine does real
arithmetic. What leaves: a table and JSON. Both sides run the same prompts with the same settings, whole
answers; CPU seconds are of this process, in which server and client both run, so the HTTP column bears the
client too. Times are of one run on a machine that may be shared: read the ratio, not the milliseconds.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from volant.core import Model
from volant.core.protocols import Request, Session
from volant.engines import open_model
from volant.serving.limits import Limits
from volant.serving.run import running
from volant.serving.service import Fixed, Service, opener

PATH = "/v1/chat/completions"


def random_model(folder: Path) -> Model:
    """A small transformer with random weights and a tokenizer of its own."""
    from volant.core.artifact import ModelAbout
    from volant.core.sample import Sample, Source
    from volant.core.spaces import space_json
    from volant.modalities import open_modality
    from volant.nets.transformer import family

    source = Source(uri="bench:words", licence="CC0-1.0")
    words = [f"def name_{i}(value): return value + {i}" for i in range(400)]
    samples = [Sample(id=str(i), shape="text", source=source, content=text) for i, text in enumerate(words)]
    codec: Any = open_modality("text").codec(samples, vocab=1024, length=512)
    net = family.build(codec.space, seed=0, depth=4, width=256, heads=4, eos=codec.eos_id)
    family.save(net, folder)
    codec.save(folder)
    about = ModelAbout(family="transformer", modality="text", space=space_json(codec.space))
    (folder / "volant.json").write_text(about.model_dump_json())
    return Model(folder)


def measured(work: Callable[[], list[tuple[float, int]]]) -> dict[str, float]:
    """Wall and CPU time of `work`, which gives (seconds, tokens) of each request."""
    wall, cpu = time.perf_counter(), time.process_time()
    answers = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    times = sorted(seconds for seconds, _ in answers)
    tokens = sum(count for _, count in answers)
    return {
        "p50_ms": statistics.median(times) * 1e3, "p95_ms": times[int(0.95 * (len(times) - 1))] * 1e3,
        "tokens_per_s": tokens / wall, "cpu_ms_per_request": cpu / len(answers) * 1e3, "tokens": tokens,
    }  # fmt: skip


def raw(session: Session, texts: list[str], tokens: int, together: int) -> list[tuple[float, int]]:
    """The session alone, `together` requests in each call."""
    found = []
    for at in range(0, len(texts), together):
        group = [
            Request(id=str(i), messages=({"role": "user", "content": t},), max_tokens=tokens)
            for i, t in enumerate(texts[at : at + together])
        ]
        began = time.perf_counter()
        for chunk in session.generate(group):
            if chunk.finish:
                found.append((time.perf_counter() - began, chunk.completion_tokens))
    return found


def http(url: str, texts: list[str], tokens: int, together: int) -> list[tuple[float, int]]:
    """The server, with `together` clients that each wait for their answer."""

    def ask(text: str) -> tuple[float, int]:
        began = time.perf_counter()
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens}
        answer = client.post(PATH, json=body).raise_for_status().json()
        return time.perf_counter() - began, answer["usage"]["completion_tokens"]

    with (
        httpx.Client(base_url=url, timeout=300, trust_env=False) as client,
        concurrent.futures.ThreadPoolExecutor(together) as pool,
    ):
        return list(pool.map(ask, texts))


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a Model directory; a random one by default")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the figures go")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = Model(asked.model) if asked.model else random_model(Path(scratch))
        texts = [f"def name_{i}(value): return value + {i}" for i in range(asked.requests)]
        limits = Limits(max_tokens=asked.tokens, queue=1000, batch=8, deadline_seconds=600)
        service = Service(Fixed(model), open=opener(asked.threads), limits=limits)
        session = open_model(model, threads=asked.threads)
        rows: dict[str, dict[str, float]] = {}
        with running(service) as url:
            raw(session, texts[:8], asked.tokens, 8)
            http(url, texts[:8], asked.tokens, 8)
            for together in (1, 8):
                rows[f"session, {together} together"] = measured(
                    lambda n=together: raw(session, texts, asked.tokens, n)
                )
                rows[f"HTTP, {together} clients"] = measured(lambda n=together: http(url, texts, asked.tokens, n))
        session.close()
    print(f"{asked.requests} requests of {asked.tokens} tokens, {asked.threads} threads, {os.cpu_count()} cores")
    print(f"{'':22}{'p50 ms':>9}{'p95 ms':>9}{'tokens/s':>10}{'CPU ms/request':>16}")
    for name, row in rows.items():
        print(
            f"{name:22}{row['p50_ms']:9.1f}{row['p95_ms']:9.1f}{row['tokens_per_s']:10.0f}{row['cpu_ms_per_request']:16.1f}"
        )
    for together in (1, 8):
        ours, alone = rows[f"HTTP, {together} clients"], rows[f"session, {together} together"]
        print(
            f"throughput over HTTP at {together}: {ours['tokens_per_s'] / alone['tokens_per_s']:.2f} of the session's"
        )
    if asked.json:
        asked.json.write_text(
            json.dumps({"threads": asked.threads, "tokens": asked.tokens, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
