"""Figures of one server: Prometheus text for a scraper, a snapshot for the page and the records.

Latency, time to first token, tokens, errors by cause, queue, CPU, memory, and which model answers.
Each server has a registry of its own, so that two in one process do not share counters. Percentiles in
a snapshot are exact over the last `WINDOW` requests; the histograms are for a scraper.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

WINDOW = 2_048
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; 0 for no values.

    >>> percentile([3.0, 1.0, 2.0], 0.95)
    3.0
    """
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else 0.0


class Meter:
    """Counts what a server does. Safe from any thread.

    Args:
        queue: tells how many generations wait.
        running: tells how many run.
    """

    def __init__(self, *, queue: Callable[[], int], running: Callable[[], int]) -> None:
        self.registry = registry = CollectorRegistry()
        self._queue, self._running = queue, running
        self._process = psutil.Process()
        self._lock = threading.Lock()
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._firsts: deque[float] = deque(maxlen=WINDOW)
        self._totals: Tally[str] = Tally()
        self._errors: Tally[str] = Tally()
        self._started = time.monotonic()
        self._requests = Counter("volant_requests", "Answered requests", ["route", "status"], registry=registry)
        self._causes = Counter("volant_errors", "Requests that failed, by cause", ["cause"], registry=registry)
        self._tokens = Counter("volant_tokens", "Tokens", ["kind"], registry=registry)
        self._seconds = Histogram("volant_request_seconds", "Latency", buckets=SECONDS, registry=registry)
        self._first = Histogram("volant_first_token_seconds", "To first token", buckets=SECONDS, registry=registry)
        self._swaps = Counter("volant_swaps", "Changes of the model", ["result"], registry=registry)
        self._feedback = Counter("volant_feedback", "Feedback taken", ["rating"], registry=registry)
        self._lost = Counter("volant_unrecorded", "Requests not kept because records lag", registry=registry)
        self._model = Gauge(
            "volant_model_info", "The model that answers", ["name", "digest", "engine", "prompt"], registry=registry
        )
        live: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("volant_queue_length", "Generations that wait", queue),
            ("volant_running", "Generations that run", running),
            ("volant_cpu_seconds", "CPU time of the process", self._cpu_seconds),
            ("volant_memory_bytes", "Resident memory", self._memory_bytes),
        )
        for name, text, read in live:
            Gauge(name, text, registry=registry).set_function(read)

    def request(
        self,
        route: str,
        status: int,
        *,
        seconds: float,
        first: float | None = None,
        prompt: int = 0,
        completion: int = 0,
    ) -> None:
        """Count one answered request; times in seconds, tokens of prompt and completion."""
        self._requests.labels(route, str(status)).inc()
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("completion").inc(completion)
        with self._lock:
            self._totals.update(requests=1, prompt_tokens=prompt, completion_tokens=completion)
            if status < 400:
                self._latencies.append(seconds * 1e3)
                if first is not None:
                    self._firsts.append(first * 1e3)
        if status < 400:
            self._seconds.observe(seconds)
            if first is not None:
                self._first.observe(first)

    def error(self, cause: str) -> None:
        """Count a failure by its cause (`queue_full`, `invalid_api_key`, `engine`, `disconnected` ...)."""
        self._causes.labels(cause).inc()
        with self._lock:
            self._errors[cause] += 1

    def swap(self, result: str, *, name: str, digest: str, engine: str, prompt: str) -> None:
        """The model changed (`done`) or a change failed (`refused`)."""
        self._swaps.labels(result).inc()
        if result != "refused":
            self._model.clear()
            self._model.labels(name, digest, engine, prompt).set(1)

    def feedback(self, rating: int | None) -> None:
        """Count a rating (-1, 0, 1) or a bare correction."""
        self._feedback.labels("correction" if rating is None else str(rating)).inc()
        with self._lock:
            self._totals["feedback"] += 1

    def lost(self, n: int) -> None:
        """Requests that could not be recorded."""
        self._lost.inc(n)

    def text(self) -> bytes:
        """The Prometheus page."""
        return generate_latest(self.registry)

    def snapshot(self) -> dict[str, Any]:
        """Counts since the start; exact percentiles over the last requests, in milliseconds."""
        with self._lock:
            latencies, firsts = list(self._latencies), list(self._firsts)
            totals, errors = dict(self._totals), dict(self._errors)
        return {
            "requests": totals.get("requests", 0),
            "feedback": totals.get("feedback", 0),
            "prompt_tokens": totals.get("prompt_tokens", 0),
            "completion_tokens": totals.get("completion_tokens", 0),
            "errors": errors,
            "latency_ms": {"p50": percentile(latencies, 0.5), "p95": percentile(latencies, 0.95), "n": len(latencies)},
            "first_token_ms": {"p50": percentile(firsts, 0.5), "p95": percentile(firsts, 0.95), "n": len(firsts)},
            "queue": self._queue(),
            "running": self._running(),
            "cpu_seconds": self._cpu_seconds(),
            "memory_bytes": self._memory_bytes(),
            "up_seconds": time.monotonic() - self._started,
        }

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _memory_bytes(self) -> float:
        return float(self._process.memory_info().rss)
