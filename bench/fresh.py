"""What it costs to find out that there is nothing to do: `volant run` on twenty fresh steps.

    python bench/fresh.py [--project FOLDER] [--out bench/fresh.json]

Without a folder, a project of twenty small steps is made first. Prints and writes the median of twenty looks in
process (bar: 20 ms), of five commands (bar: 1 s of wall time), of `volant --help` (bar: 0.5 s of CPU time) and of
`import volant` (bar: 0.3 s of CPU time).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from volant.project import Project


def make(root: Path) -> None:
    """Twenty steps: one source, and a chain of splits behind it."""
    (root / "data").mkdir()
    lines = [json.dumps({"prompt": f"What is {i}?", "completion": f"The number {i}, as it is."}) for i in range(60)]
    (root / "data" / "a.jsonl").write_text("\n".join(lines))
    steps = ["  s0: {use: collect.files, glob: 'data/*.jsonl', licence: MIT}"]
    steps += [f"  s{i}: {{use: collect.split, data: s{i - 1}}}" for i in range(1, 20)]
    (root / "volant.yaml").write_text("volant: 1\nname: fresh\ndevice: cpu\nsteps:\n" + "\n".join(steps) + "\n")


def in_process(root: Path) -> float:
    """Median seconds of `Project.go` with nothing to do."""
    project = Project(root)
    project.go()
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        assert all(done.fresh for done in project.go().values())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def command(*words: str) -> tuple[float, float]:
    """Median wall and CPU seconds of five runs of a command."""
    wall, cpu = [], []
    for _ in range(5):
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall.append(time.perf_counter() - start)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(wall), statistics.median(cpu)


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = asked.project or Path(folder)
        if not asked.project:
            make(root)
        inside = in_process(root)
        wall, cpu = command("-m", "volant.cli", "-C", str(root), "run")
        _, helped = command("-m", "volant.cli", "--help")
        _, imported = command("-c", "import volant")
    figures = {
        "in_process_ms": (inside * 1000, 20.0),
        "command_wall_s": (wall, 1.0),
        "command_cpu_s": (cpu, 1.0),
        "help_cpu_s": (helped, 0.5),
        "import_cpu_s": (imported, 0.3),
    }
    for name, (value, bar) in figures.items():
        print(f"{name:<16} {value:8.3f}   bar {bar:g}   {'holds' if value < bar else 'MISSED'}")
    asked.out.write_text(
        json.dumps({name: {"value": v, "bar": b} for name, (v, b) in figures.items()}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
