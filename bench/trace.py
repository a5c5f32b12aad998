"""Is a record found, and forgotten, in time? `python bench/trace.py` prints a table and writes JSON.

Enters: nothing (a temporary project is made: one million records gathered, cleaned and dealt, so three datasets,
and on them a base, a tuned model, a small one, a report, an endpoint and an alias). Leaves: one line a figure with
its bar, `trace.json` or what `--out` says, exit code 1 if a bar is missed. Commands are processes of their own, as a
user starts them: wall and CPU seconds, the first call and the second one; on a busy machine the bar is held against CPU
seconds alone. Calls in process are made in a project that was just opened.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from volant.core.artifact import Dataset, Endpoint, Model, Report
from volant.project import Project, forgetting, tracing
from volant.store.dataset import SCHEMA
from volant.store.record_index import index_of, made_index

SPEC = """\
volant: 1
name: million
steps:
  raw:   {use: collect.files, glob: "*.yaml", licence: MIT}
  clean: {use: collect.clean, data: raw}
  dealt: {use: collect.split, data: clean}
  base:  {use: pretrain.transformer, data: dealt}
  tuned: {use: finetune.lora, model: base, data: dealt}
"""
GROUP = 2048
MASKED, DROPPED = 20, 10  # one in twenty is masked by `clean`, one in ten dropped


def name_of(number: int, masked: bool = False) -> str:
    """The id of a record."""
    return hashlib.sha256(f"{number}{'masked' if masked else ''}".encode()).hexdigest()[:20]


def columns(numbers: range, cleaned: bool) -> dict[str, list[Any]]:
    """The records of those numbers, gathered or cleaned."""
    changed = [cleaned and n % MASKED == 1 for n in numbers]
    source = {"licence": "MIT", "consent": "not-personal", "collected_at": "", "origin": "human"}
    rows: dict[str, list[Any]] = {name: [None] * len(numbers) for name in SCHEMA.names}
    rows["id"] = [name_of(n, c) for n, c in zip(numbers, changed, strict=True)]
    rows["shape"] = ["text"] * len(numbers)
    rows["content"] = [f"Record {n} says what it says, and a little more than that." for n in numbers]
    rows["group"] = rows["id"]
    rows["source"] = [{"uri": f"data/part-{n // 5000}.jsonl#{n % 5000}", **source} for n in numbers]
    rows["parents"] = [[name_of(n)] if c else [] for n, c in zip(numbers, changed, strict=True)]
    rows["labels"] = [[] for _ in numbers]
    rows["attrs"] = ["{}"] * len(numbers)
    return rows


def write(folder: Path, count: int, cleaned: bool) -> dict[str, int]:
    """The shards of a dataset of `count` records; how many lie in each split, and how many were dropped."""
    files: dict[str, pq.ParquetWriter] = {}
    held = {"train": 0, "validation": 0, "test": 0, "dropped": 0}
    for start in range(0, count, 8 * GROUP):
        numbers = range(start, min(count, start + 8 * GROUP))
        for split, keep in (("train", lambda n: n % 8), ("validation", lambda n: n % 8 == 0)):
            for gone in (False, True):
                part = [n for n in numbers if keep(n) and (cleaned and n % DROPPED == 3) == gone]
                if not part:
                    continue
                rows = columns(part, cleaned)  # type: ignore[arg-type]
                rows["split"] = [split] * len(part)
                rows["drop"] = ["near_duplicate: 0.91 (of another) against 0.80" if gone else ""] * len(part)
                place = folder / ("dropped" if gone else "data")
                stem = f"dropped-{split}" if gone else split
                file = place / f"{stem}-00000-of-00001.parquet"
                if str(file) not in files:
                    place.mkdir(parents=True, exist_ok=True)
                    files[str(file)] = pq.ParquetWriter(file, SCHEMA, compression="zstd")
                files[str(file)].write_table(pa.table(rows, schema=SCHEMA), row_group_size=GROUP)
                held["dropped" if gone else split] += len(part)
    for writer in files.values():
        writer.close()
    return held


def make(root: Path, count: int) -> dict[str, float]:
    """The project; returns what writing and indexing the largest dataset took, in CPU seconds."""
    root.mkdir()
    (root / "volant.yaml").write_text(SPEC)
    project = Project(root)
    took = {}
    parents: dict[str, list[str]] = {}
    made: dict[str, str] = {}
    for step, method in (("raw", "collect.files"), ("clean", "collect.clean"), ("dealt", "collect.split")):
        out = project.store.scratch(step)
        held = write(out, count, step != "raw")
        about = {"splits": {k: v for k, v in held.items() if k != "dropped"}, "licences": {"MIT": count}}
        about |= {"origins": {"human": count}, "dropped": held["dropped"], "step": step}
        (out / "dataset.json").write_text(json.dumps(about))
        made[step] = seal(project, Dataset, out, step, method, parents)
        data = project.store.get(made[step])
        start = time.process_time()
        made_index(data.path)
        took["index"] = time.process_time() - start
        index_of(project.store.root).add(data)  # type: ignore[arg-type]
        parents = {"data": [made[step]]}
    for step, method, kind, above in (
        ("base", "pretrain.transformer", Model, ["dealt"]), ("tuned", "finetune.lora", Model, ["base", "dealt"]),
        ("small", "compress.quantise", Model, ["tuned", "dealt"]),
        ("report", "evaluate.suite", Report, ["small", "dealt"]),
        ("live", "deploy.serve", Endpoint, ["small"]),
    ):  # fmt: skip
        out = project.store.scratch(step)
        (out / "volant.json").write_text(f'{{"family": "{step}", "modality": "text"}}')
        made[step] = seal(project, kind, out, step, method, {name: [made[name]] for name in above})
    project.records.promote("champion", made["small"], key="k", expected=None, evidence={})
    return took


def seal(project: Project, kind: Any, out: Path, step: str, method: str, parents: dict[str, list[str]]) -> str:
    """Store an artifact, and record the run that would have made it."""
    run = project.records.start_run(step, method, step, "", {}, 0, parents, {})
    card = {"method": method, "step": step, "parents": parents, "run": run}
    digest = str(project.store.seal(kind, out, **card).digest)
    project.records.end_run(run, "done", digest, seconds=10.0)
    return digest


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Process CPU seconds of a call, and what it returned."""
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


def command(root: Path, *words: str) -> tuple[float, float, str]:
    """Wall and CPU seconds of `volant WORDS` in a process of its own, and what it printed."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    line = [sys.executable, "-m", "volant.cli", "-C", str(root), *words]
    said = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, said


def commands(root: Path, records: int) -> list[tuple[str, float, str, float | None]]:
    """What a user waits for: `volant trace` and `volant forget`, each twice."""
    figures: list[tuple[str, float, str, float | None]] = []
    masked, dropped = name_of(1, masked=True), name_of(3)
    many = [name_of(n) for n in range(0, records, max(1, records // 1000))][:1000]
    for title, words, bar, expected in (
        ("volant trace RECORD", ["trace", masked], 1.0, "clean"),
        ("volant trace RECORD, dropped", ["trace", dropped], 1.0, "near_duplicate"),
        ("volant trace ENDPOINT", ["trace", "live"], 1.0, "raw"),
        ("volant forget RECORD", ["forget", masked], 5.0, "To run again"),
        (f"volant forget, {len(many)} records", ["forget", *many], 5.0, "To run again"),
        ("volant forget RECORD --apply", ["forget", "--apply", masked], 5.0, "2 ids written"),
    ):
        for call in ("first call", "second call"):
            wall, cpu, said = command(root, *words)
            assert expected in said or (call, words[1]) == ("second call", "--apply"), said
            quiet = os.getloadavg()[0] < (os.cpu_count() or 1)
            figures += [(f"{title}, {call}", wall, "s wall", bar if quiet else None)]
            figures += [(f"{title}, {call}", cpu, "CPU s", bar)]
    return figures


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000, help="records in each of the three datasets")
    parser.add_argument("--out", type=Path, default=Path("trace.json"), help="where the JSON goes")
    asked = parser.parse_args()
    figures: list[tuple[str, float, str, float | None]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "million"
        took = make(root, asked.records)
        figures.append(("index of one dataset, made when it is sealed", took["index"], "CPU s", None))
        figures += commands(root, asked.records)
        masked = 1 + MASKED * (asked.records // MASKED // 2)
        seconds, found = timed(lambda: tracing.trace(Project(root), [name_of(masked)]))
        assert {one.step for one in found.touched} >= {"raw", "clean", "dealt", "base", "small", "live"}, found.touched
        figures.append(("trace: a record that was masked later", seconds, "CPU s", 1.0))
        dropped = 3 + DROPPED * (asked.records // DROPPED // 2)
        seconds, found = timed(lambda: tracing.trace(Project(root), [name_of(dropped)]))
        assert {one.how for one in found.touched if one.step != "raw"} == {"dropped", "learnt", "made"} - {
            "learnt",
            "made",
        }
        figures.append(("trace: a record that was dropped", seconds, "CPU s", 1.0))
        seconds, origins = timed(lambda: tracing.origins(Project(root), "live"))
        assert [o.step for o in origins] == ["raw"]
        figures.append(("trace back: from the endpoint to its sources", seconds, "CPU s", 1.0))
        for many in (1, 1000):
            ids = [name_of(n) for n in range(0, asked.records, asked.records // many)][:many]
            seconds, plan = timed(lambda ids=ids: forgetting.forget(Project(root), ids))  # type: ignore[misc]
            assert [s.step for s in plan.steps] == ["raw", "clean", "dealt", "base", "tuned"] and plan.aliases
            figures.append((f"forget: {many} record{'s' * (many > 1)}", seconds, "CPU s", 5.0))
        for file in (root / ".volant" / "cache" / "records").iterdir():
            file.unlink()
        seconds, _ = timed(lambda: tracing.trace(Project(root), [name_of(masked)]))
        figures.append(("trace: no index there yet, three are made", seconds, "CPU s", None))
    met = True
    for name, value, unit, bar in figures:
        fine = bar is None or value < bar
        met &= fine
        print(f"{'ok  ' if fine else 'MISS'} {name:<52} {value:8.3f} {unit}{f'  < {bar:g}' if bar else ''}")
    load = os.getloadavg()[0]
    rows = [{"name": n, "value": v, "unit": u, "bar": b} for n, v, u, b in figures]
    asked.out.write_text(json.dumps({"records": asked.records, "load": load, "figures": rows}, indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
