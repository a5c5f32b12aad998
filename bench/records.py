"""Does the record store meet its bars? `python bench/records.py` prints a table and writes JSON.

Enters: nothing (a temporary directory is made). Leaves: one line a figure with its bar, `records.json`
beside the current directory or where `--out` says, exit code 1 if a bar is missed. Wall times depend on
what else the machine does, so each time stands beside the process's CPU seconds and the load.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from volant.core.artifact import Dataset
from volant.core.errors import GateRefused
from volant.store import lineage
from volant.store.blobs import Store
from volant.store.records import Records

RUNS, EDGES = 10_000, 4


@dataclass
class Figure:
    """One measured figure and the bar that it has to clear."""

    name: str
    value: float
    unit: str
    bar: str
    met: bool
    cpu_seconds: float = 0.0


def timed(call: Callable[[], Any], repeats: int = 1) -> tuple[float, float]:
    """The median wall seconds and the CPU seconds of one call."""
    walls, start = [], time.process_time()
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        walls.append(time.perf_counter() - began)
    return statistics.median(walls), (time.process_time() - start) / repeats


def fill(records: Records) -> None:
    """10,000 done runs; each takes the artifacts of four earlier ones, so that all hang together."""
    runs, edges = [], []
    for i in range(RUNS):
        parents = sorted({max(0, i - 1 - j * j) for j in range(EDGES)} - {i})
        runs.append({"id": f"run-{i}", "step": f"s{i % 10}", "key": f"key-{i}", "artifact": f"{i:064x}"})
        edges += [{"run": f"run-{i}", "parent": f"{p:064x}", "child": f"{i:064x}", "role": "data"} for p in parents]
        edges += [{**edges[-1], "role": f"r{k}"} for k in range(EDGES - len(parents))] if edges else []
    with records.database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO runs (id, step, method, inputs_key, code_key, settings, seed, status, artifact, "
                "started_at, parents, facts) "
                "VALUES (:id, :step, 'm', :key, '', '{}', 0, 'done', :artifact, '2026', '{}', '{}')"
            ),
            runs,
        )
        connection.execute(
            text("INSERT INTO edges (run, parent, child, role) VALUES (:run, :parent, :child, :role)"), edges
        )


def write_rows(url: str, who: int, rows: int, gate: Any, results: Any) -> None:
    """One writer: as many transactions as it is told, with the longest wait that it had."""
    records, slowest = Records.open(url), 0.0
    gate.wait()
    began = time.perf_counter()
    for i in range(rows):
        start = time.perf_counter()
        records.add_metrics(f"run-{who}", [("loss", float(i), i)])
        slowest = max(slowest, time.perf_counter() - start)
    results.put((who, rows / (time.perf_counter() - began), slowest))
    records.close()


def write_for(url: str, who: int, seconds: float, gate: Any, results: Any) -> None:
    """One writer for a given time: how many transactions did it get through?"""
    records, done = Records.open(url), 0
    gate.wait()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        records.event("fair", {"who": who})
        done += 1
    results.put((who, done, 0.0))
    records.close()


def race(url: str, who: int, turns: int, gate: Any, results: Any) -> None:
    """One racer: tries each turn's promotion from what it believes to be the champion."""
    records, won = Records.open(url), 0
    gate.wait()
    for turn in range(turns):
        expected = f"digest-{turn - 1}" if turn else None
        with contextlib.suppress(GateRefused):
            made = records.promote("champion", f"digest-{turn}", expected=expected, key=f"turn-{turn}", evidence={})
            won += not made.repeated
    results.put((who, won, 0.0))
    records.close()


def eight(target: Callable[..., None], url: str, amount: float, folder: Path) -> list[tuple[int, float, float]]:
    """Run eight processes that start together; their answers."""
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(8), context.Queue()
    workers = [context.Process(target=target, args=(url, who, amount, gate, results)) for who in range(8)]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    return answers


def measure(folder: Path) -> list[Figure]:
    """All figures, each from a fresh database where that matters."""
    figures: list[Figure] = []

    def add(name: str, value: float, unit: str, bar: float, *, cpu: float = 0.0, least: bool = False) -> None:
        met = value >= bar if least else value <= bar
        figures.append(Figure(name, round(value, 4), unit, f"{'>=' if least else '<'} {bar:g}", met, round(cpu, 4)))

    url = f"sqlite:///{folder / 'a.db'}"
    records = Records.open(url)
    points = [("loss", 1.0 / (i + 1), i) for i in range(10_000)]
    wall, cpu = timed(lambda: records.add_metrics("run-x", points))
    add("10,000 metric points, one batch", wall, "s", 0.5, cpu=cpu)
    wall, cpu = timed(lambda: [records.add_metrics("run-y", points[i : i + 100]) for i in range(0, 10_000, 100)])
    add("10,000 metric points, batches of 100", wall, "s", 0.5, cpu=cpu)
    fill(records)
    records.close()
    wall, cpu = timed(lambda: Records.open(url).close(), 5)
    add("open a store of 10,000 runs", wall * 1e3, "ms", 50, cpu=cpu)
    records = Records.open(url)
    last, first = f"{RUNS - 1:064x}", f"{0:064x}"
    wall, cpu = timed(lambda: lineage.ancestors(records, last), 3)
    add(f"all ancestors ({len(lineage.ancestors(records, last)):,} edges)", wall * 1e3, "ms", 250, cpu=cpu)
    wall, cpu = timed(lambda: lineage.descendants(records, first), 3)
    add(f"all descendants ({len(lineage.descendants(records, first)):,} edges)", wall * 1e3, "ms", 250, cpu=cpu)
    wall, cpu = timed(lambda: records.fresh("key-7"), 50)
    add("fresh(inputs key)", wall * 1e3, "ms", 2, cpu=cpu)
    wall, cpu = timed(lambda: records.latest("s3"), 50)
    add("latest(step)", wall * 1e3, "ms", 2, cpu=cpu)
    payload = {"messages": [{"role": "user", "content": "x" * 500}]}
    wall, cpu = timed(
        lambda: records.add_request("w", "c", payload, payload, model="m", status=200, milliseconds=1.0), 100
    )
    add("keep one request", wall * 1e3, "ms", 5, cpu=cpu)
    records.close()

    store = Store(folder / "blobs")
    draft = store.scratch("bench")
    (draft / "dataset.json").write_text("{}")
    digest = store.seal(Dataset, draft).digest
    wall, cpu = timed(lambda: store.get(digest), 50)
    add("Store.get", wall * 1e3, "ms", 1, cpu=cpu)

    url = f"sqlite:///{folder / 'b.db'}"
    answers = eight(write_rows, url, 500, folder)
    with Records.open(url) as records:
        kept = sum(len(records.metrics(f"run-{who}")) for who in range(8))
    add("eight writers x 500 rows: rows kept", kept, "rows", 4000, least=True)
    add("eight writers: slowest write", max(answer[2] for answer in answers), "s", 5)
    shares = [answer[1] for answer in eight(write_for, f"sqlite:///{folder / 'c.db'}", 3, folder)]
    add("eight writers for 3 s: least against mean", min(shares) / statistics.mean(shares), "1", 0.5, least=True)
    add("eight writers for 3 s: writes", sum(shares) / 3, "writes/s", 1, least=True)

    url = f"sqlite:///{folder / 'd.db'}"
    began = time.perf_counter()
    won = [int(answer[1]) for answer in eight(race, url, 50, folder)]
    took = time.perf_counter() - began
    with Records.open(url) as records:
        made = len(records.promotions("champion"))
    exact = made == sum(won) == 50
    figures.append(Figure("eight racers, fifty promotions: made", made, "promotions", "= 50", exact))
    figures.append(Figure("eight racers, fifty promotions: wall with start", round(took, 2), "s", "", True))
    return figures


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("records.json"), help="where the JSON goes")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        cpu = f"  cpu {figure.cpu_seconds:.4f} s" if figure.cpu_seconds else ""
        mark = "ok  " if figure.met else "MISS"
        print(f"{mark} {figure.name:<{width}} {figure.value:>10g} {figure.unit:<10} {figure.bar:<8}{cpu}")
    load = os.getloadavg()[0]
    print(f"load {load:.1f} on {os.cpu_count()} cores")
    out.write_text(
        json.dumps({"load": load, "cores": os.cpu_count(), "figures": [asdict(f) for f in figures]}, indent=1)
    )
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
