"""What `collect.clean` costs: the rules of Gopher, C4 and FineWeb, near duplicates, the leakage gate and writing.

    python bench/clean.py [--megabytes 50] [--runs 3] [--rival PYTHON] [--shared ../shared/data] [--out clean.json]

Parquet in, Parquet and data page out, in a process of its own each time: CPU seconds of all threads (bar: 20 MB a CPU
second), wall time with one and with two threads in turn (bar: 1.8 times), the peak of memory, and whether both made the
same bytes. The corpus is that of `clean_corpus.py`; 300 of GSM8K's items are held out, since the corpus reuses its
sentences and would leak into itself. What is compiled once a machine (loops, Python's modules) is compiled before.
`--megabytes 5000 --runs 0` is the run for the memory (bar: 2 GB): one, by two threads. The corpus is written as it is
made, in about ten minutes, and is never in memory.

On a busy machine wall times say nothing of threads. So the CPU seconds of the first thread are told, too: a run of two
threads takes at least these, and at least half of all; what gain that leaves is told beside the measured one, and so is
what two runs of one thread each gain that share nothing but the machine: more than these no threads can.

`--rival ENV/bin/python` pairs it with datatrove 0.10.1 (bar: 50 times the MB a CPU second); `clean_rival.py` says how
to make ENV. It is slow, so it gets the first `--rival-megabytes` of the same corpus, between runs of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from clean_corpus import SHARED, Corpus

from volant.core.sample import Sample, Source, sample_id

HELD_OUT = 300
PROGRAM = """
import json, resource, sys, time
from pathlib import Path
from volant.core.artifact import Dataset, payload_digest
from volant.core.run import Run
from volant.runners.local import runner
from volant.stages import collect
data, folder, threads, personal = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
(folder / "out").mkdir(parents=True), (folder / "work").mkdir()
run = Run(step="clean", out=folder / "out", work=folder / "work", threads=threads)
wall, cpu, first = time.perf_counter(), sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), time.thread_time()
rules = ["gopher", "c4_loose", "fineweb"]
made = runner.submit(lambda run: collect.clean(run, Dataset(data), rules=rules, personal=personal), run).result()
first = time.thread_time() - first
wall, cpu = time.perf_counter() - wall, sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - cpu
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e6
told = {"wall": wall, "cpu": cpu, "first_thread": first, "peak_gb": peak, "digest": payload_digest(made.path)[0]}
print(json.dumps({**told, "kept": made.about["splits"]}))
"""


def corpus(folder: Path, megabytes: float, shared: Path) -> float:
    """Write the dataset; returns the megabytes (10^6 bytes) of UTF-8 that are in it."""
    from volant.store.dataset import writer

    items = [json.loads(line) for line in (shared / "gsm8k" / "test.jsonl").read_text("utf-8").splitlines()]
    held = [f"{one['question']} {one['answer']}" for one in items if len(one["question"]) > 200][:HELD_OUT]
    size = 0

    def sample(text: str, number: int, split: str) -> Sample:
        source = Source(uri=f"bench:{split}-{number}", licence="CC-BY-4.0")
        known: dict[str, Any] = {"split": split, "group": f"{split}-{number}"}
        return Sample(id=sample_id("text", "", text, "", ""), shape="text", content=text, source=source, **known)

    with writer(folder) as out:
        for number, (_, text) in enumerate(Corpus(shared).texts(int(megabytes * 1e6))):
            size += len(text.encode())
            out.write(sample(text, number, "train"))
        for number, text in enumerate(held):
            out.write(sample(text, number, ("test", "validation")[number % 2]))
    return size / 1e6


def once(data: Path, threads: int, personal: str) -> dict[str, Any]:
    """One run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", PROGRAM, str(data), f"{folder}/run", str(threads), personal]
        done = subprocess.run(words, check=True, capture_output=True, text=True, env=_as_installed())
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def side_by_side(data: Path) -> float:
    """Wall seconds of two runs at once, each by one thread in a process of its own: the longer of them."""
    with ThreadPoolExecutor(2) as pool:
        return max(float(told["wall"]) for told in pool.map(lambda _: once(data, 1, "keep"), range(2)))


def _as_installed() -> dict[str, str]:
    """The environment, but Python keeps its compiled modules, as an installed package has them."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def rival(python: str, megabytes: float, shared: Path) -> dict[str, Any]:
    """datatrove's run on the first texts of the corpus."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in").mkdir()
        texts = [text for _, text in Corpus(shared).texts(int(megabytes * 1e6))]
        lines = (json.dumps({"id": str(number), "text": text}) + "\n" for number, text in enumerate(texts))
        (Path(folder) / "in" / "sample.jsonl").write_text("".join(lines), encoding="utf-8")
        words = [python, str(Path(__file__).with_name("clean_rival.py")), folder]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    size = sum(len(text.encode()) for text in texts) / 1e6
    return {**told, "megabytes": size, "texts": len(texts), "rate": size / told["seconds"]}


def compared(found: dict[str, Any] | None, rate: float) -> dict[str, Any]:
    """Print the row of the rival, or why there is none."""
    if found is None:
        print("datatrove: not run (give --rival PYTHON; clean_rival.py says how to make its environment)")
        return {}
    times = rate / found["rate"]
    held = "holds" if times >= 50 else "MISSED"
    about = f"{found['rate']:.3f} MB a CPU second on {found['megabytes']:.2f} MB"
    print(f"{'times datatrove':<22} {times:7.0f}  ({about})  bar 50  {held}")
    return {"rival": {**found, "times": times, "bar": 50}}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--rival", help="Python of an environment with datatrove 0.10.1")
    parser.add_argument("--rival-megabytes", type=float, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        size = corpus(data, asked.megabytes, asked.shared)
        if not asked.runs:
            told = once(data, 2, "keep")
            print(f"{size:,.1f} MB by two threads: {size / told['cpu']:.2f} MB a CPU second, {told['wall']:.0f} s,")
            print(f"peak of memory {told['peak_gb']:.2f} GB, bar 2 at 5,000 MB")
            asked.out.write_text(json.dumps({"megabytes": size, **told}, indent=1) + "\n", encoding="utf-8")
            return
        once(data, 1, "keep")  # compiles what is compiled once a machine
        found = [{n: once(data, n, "keep") for n in (1, 2)} for _ in range(asked.runs)]
        machine = 2 * statistics.median(pair[1]["wall"] for pair in found) / side_by_side(data)
        other = rival(asked.rival, asked.rival_megabytes, asked.shared) if asked.rival else None
        masked = once(data, 1, "mask")
    rates = [size / pair[1]["cpu"] for pair in found]
    gains = [pair[1]["wall"] / pair[2]["wall"] for pair in found]
    same = len({pair[n]["digest"] for pair in found for n in (1, 2)}) == 1
    peak = max(pair[n]["peak_gb"] for pair in found for n in (1, 2))
    rows = (
        ("MB a CPU second", statistics.median(rates), 20.0, rates),
        ("times by two threads", statistics.median(gains), 1.8, gains),
    )
    print(f"{size:.1f} MB, kept {found[0][1]['kept']}")
    for name, value, bar, all_of_them in rows:
        spread = f"{min(all_of_them):.2f} to {max(all_of_them):.2f}"
        print(f"{name:<22} {value:7.2f}  ({spread})  bar {bar:g}  {'holds' if value >= bar else 'MISSED'}")
    bound = statistics.median(p[1]["cpu"] / max(p[2]["first_thread"], p[2]["cpu"] / 2) for p in found)
    both = (statistics.median(p[2][name] for p in found) for name in ("cpu", "first_thread"))
    print(
        f"{'  at most, by CPU time':<22} {bound:7.2f}  ({', '.join(f'{s:.2f}' for s in both)} CPU s: all, first thread)"
    )
    print(f"{'  by two processes':<22} {machine:7.2f}  (two runs of one thread at once: what the machine gives)")
    print(f"{'masked, MB a CPU s':<22} {size / masked['cpu']:7.2f}")
    print(f"{'peak of memory, GB':<22} {peak:7.2f}  bar 2 at 5,000 MB")
    print(f"the same bytes by one and two threads, {asked.runs} runs each: {'yes' if same else 'NO'}")
    beside = compared(other, statistics.median(rates))
    figures = {name: {"value": value, "bar": bar, "all": all_of_them} for name, value, bar, all_of_them in rows}
    told = {
        "megabytes": size,
        **figures,
        "gain_by_cpu": bound,
        "gain_by_processes": machine,
        "masked": size / masked["cpu"],
        "peak_gb": peak,
        "same_bytes": same,
        **beside,
    }
    asked.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
