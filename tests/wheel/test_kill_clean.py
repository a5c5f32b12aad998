"""`collect.clean` over several row groups, killed at random moments and inside writes: it carries on, same bytes."""

import os
import random
import signal
import time
import traceback
from pathlib import Path

import pytest

from volant.core.sample import Sample, Source, sample_id
from volant.modalities import cleaning
from volant.project import Project
from volant.stages import collect
from volant.stages.collect import _clean_files
from volant.store import dataset as store
from volant.store import shards
from volant.testing import put

KILLS = 7
REPEATS = [*(f"gopher_top_{n}" for n in (2, 3, 4)), *(f"gopher_again_{n}" for n in range(5, 11))]
SETTINGS = {"rules": ["gopher", "c4_loose", "fineweb"], "thresholds": dict.fromkeys(REPEATS, 1.0), "near": 0.65}


def samples():
    """Texts in which rows go, near copies and e-mail addresses; nine row groups of twelve."""
    rng = random.Random(0)
    ends = ("rem", "ton", "lix", "vad", "zem", "pur")
    words = [f"{a}{b}{c}" for a in ("bat", "kol", "lun", "mer", "sor") for b in ends for c in ends]
    found = []
    for i in range(108):
        lines = [
            f"The {' '.join(rng.sample(words, 7))} of {i}, and {' '.join(rng.sample(words, 3))}." for _ in range(9)
        ]
        if i % 9 == 8:
            lines = [*found[i - 3].split("\n")[:-1], f"It was the last of the {words[i % 30]} with no more."]
        lines[4] = f"Menu {i}" if i % 2 else f"Write to {words[i % 30]}@firm{i}.org and have the answer to it."
        found.append("\n".join(lines))
    return found


def child(root, inside):
    """A run in a process of its own, which kills itself in the midst of its write number `inside`, if there is one."""
    pid = os.fork()
    if pid:
        return pid
    try:
        written, write, tagged = 0, _clean_files._write, cleaning.tagged

        def torn(file, data):
            nonlocal written
            written += 1
            if written == inside:
                file.with_name(f"{file.name}.part").write_bytes(bytes(data)[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            write(file, data)

        def told(table, *rest):
            with (root / "looked").open("a") as out:
                out.write("one\n")
            return tagged(table, *rest)

        _clean_files._write, cleaning.tagged = torn, told
        cleaned(root)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def cleaned(root):
    project = Project(root, threads=1, device="cpu")
    project.end_dead_runs()
    return project.run(collect.clean, project.artifact((root / "data").read_text()), **SETTINGS).digest


def made(root, folder):
    root.mkdir()
    (root / "data").write_text(put(Project(root), folder).digest)
    return root


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_cleaning_killed_at_random_moments_and_inside_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_ROWS_A_GROUP", 12)
    with store.writer(tmp_path / "data") as out:
        for i, text in enumerate(samples()):
            split = ("test", "validation", *["train"] * 7)[i // 12]
            source = Source(uri="t", licence="MIT")
            out.write(Sample(id=sample_id(text), shape="text", content=text, source=source, split=split))
    from volant.core.artifact import Dataset

    data = Dataset(tmp_path / "data")
    clock = time.monotonic()
    expected = cleaned(made(tmp_path / "undisturbed", data))
    whole = time.monotonic() - clock
    rng = random.Random(0)
    root, kills, rounds = made(tmp_path / "run0", data), 0, 0
    carried = looked = 0
    while kills < KILLS:
        inside = rng.randrange(1, 90) if rng.random() < 0.6 else 0
        pid = child(root, inside)
        if not inside:
            time.sleep(rng.uniform(0.1 * whole, whole))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) or not os.waitstatus_to_exitcode(status)
        seals = len(list((root / ".volant" / "work").glob("*/features-*/*[0-9].seal")))
        if os.WIFSIGNALED(status):
            kills += 1
            carried = max(carried, seals)
            continue
        looked += check(root, expected)
        rounds += 1
        root = made(tmp_path / f"run{rounds}", data)
    pid = child(root, 0)
    assert not os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    looked += check(root, expected)
    assert carried  # at least once the next run found row groups that were finished
    assert looked <= (rounds + 1) * 9 + kills, (looked, rounds, kills)  # a killed run loses one row group at most


def check(root: Path, expected: str) -> int:
    """That the bytes are the same and no work is left over; how many row groups were looked at."""
    assert cleaned(root) == expected
    assert not list((root / ".volant" / "work").glob("*/*"))
    return len((root / "looked").read_text().splitlines())
