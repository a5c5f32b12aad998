"""Killed writers, killed sealers, a disk that is really full. Slow: each kills or starts many processes."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from volant.core.artifact import CARD
from volant.store.blobs import Store
from volant.store.records import Records

pytestmark = pytest.mark.slow

WRITER = """
import sys
from pathlib import Path
from volant.store.records import Records
records, who, n = Records.open(Path(sys.argv[1])), sys.argv[2], 0
while True:
    run = records.start_run("s", "m", "k", "c", {}, n, {"data": ["d"]}, {})
    if n % 3 == 0:
        records.end_run(run, "done", f"{who}-{n}")
    if n % 3 == 1:
        records.add_metrics(run, [("loss", 1.0, i) for i in range(50)])
    print(f"{run} {n % 3}", flush=True)  # acknowledged: from here on it may not be lost
    n += 1
"""

SEALER = """
import sys
from pathlib import Path
from volant.core.artifact import Model
from volant.store.blobs import Store
store, n = Store(Path(sys.argv[1])), 0
while True:
    draft = store.scratch("model")
    for i in range(4):
        (draft / f"shard-{i}.bin").write_bytes(bytes([i, n % 256, n // 256 % 256]) * 20000)
    print(store.seal(Model, draft, step=f"s{n}").digest, flush=True)
    n += 1
"""


def start(code: str, *arguments: object) -> subprocess.Popen:
    # The interpreter itself and no shell shim: the signal has to reach the writer.
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def killed(child: subprocess.Popen, after: float) -> list[str]:
    """Let the child work, kill it, return the lines that it finished."""
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    rest = child.communicate()[0]
    assert child.returncode == -signal.SIGKILL
    return [line for line in (first + rest).split("\n")[:-1] if line]


def test_killed_writers_lose_no_acknowledged_row(tmp_path):
    file, rng, acknowledged = tmp_path / "records.db", random.Random(0), []
    for _ in range(6):
        children = [start(WRITER, file, f"w{i}") for i in range(3)]
        for child in children:
            acknowledged += killed(child, rng.uniform(0.0, 0.3))
    assert len(acknowledged) > 50
    with Records.open(file) as records:
        rows = {row.id: row for row in records.runs()}
        for line in acknowledged:
            run, kind = line.split()
            row = rows[run]
            assert row.parents == {"data": ["d"]}
            assert (row.status == "done") == (kind == "0")
            assert len(records.metrics(run)) == (50 if kind == "1" else 0)
        with records.database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            halves = connection.exec_driver_sql("SELECT count(*) FROM runs WHERE id NOT IN (SELECT run FROM edges)")
            assert halves.scalar() == 0  # a run and its edges are one transaction


def test_a_killed_seal_is_never_half_visible(tmp_path):
    store, rng, sealed = Store(tmp_path / ".volant"), random.Random(1), []
    for _ in range(12):
        sealed += killed(start(SEALER, store.root), rng.uniform(0.0, 0.25))
        for digest in store.digests():
            assert store.verify(digest) == []
    assert len(sealed) > 12 and set(sealed) <= set(store.digests())
    store.sweep()
    assert not [path for path in (store.root / "tmp").iterdir() if path.is_dir()]


def test_killed_at_every_step_of_a_seal(tmp_path):
    """Dies at each system call that changes the disk, by a tracer inside the child; then checks what is there."""
    code = """
import os, signal, sys
from pathlib import Path
from volant.core.artifact import Model
from volant.store.blobs import Store
store, left = Store(Path(sys.argv[1])), int(sys.argv[2])
draft = store.scratch("model")
for i in range(2):
    (draft / f"shard-{i}.bin").write_bytes(b"x" * 5000)
def watch(event, args):
    global left
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "shutil.rmtree"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
store.seal(Model, draft)
os._exit(0)
"""
    died = 0
    for step in range(60):
        root = tmp_path / str(step)
        child = subprocess.run([sys.executable, "-c", code, str(root), str(step)], check=False)
        store = Store(root)
        for digest in store.digests():
            assert (root / "artifacts" / digest / CARD).is_file() and store.verify(digest) == []
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        died += 1
        store.sweep()
        assert not [path for path in (root / "tmp").iterdir() if path.is_dir()]
    assert died > 5 and child.returncode == 0 and len(store.digests()) == 1


FULL = """
import sys
from pathlib import Path
from volant.core.artifact import Model
from volant.core.errors import MachineError
from volant.store.blobs import Store
from volant.store.disk import room
from volant.store.records import Records
root = Path(sys.argv[1])
store, records = Store(root / ".volant"), Records.open(root / "records.db")
draft = store.scratch("kept")
(draft / "model.bin").write_bytes(b"k" * 100_000)
kept = store.seal(Model, draft).digest
run = records.start_run("kept", "m", "k", "c", {}, 0, {}, {})
records.end_run(run, "done", kept)
said = []
for n in range(100):
    try:
        with room(root, "writing weights"):
            draft = store.scratch("more")
            (draft / "model.bin").write_bytes(bytes([n]) * 400_000)
        store.seal(Model, draft)
    except MachineError as error:
        said.append(str(error))
        break
for n in range(2000):
    try:
        records.event("filler", {"x": "y" * 4000})
    except MachineError as error:
        said.append(str(error))
        break
assert len(said) == 2 and all("the disk is full" in line and "volant gc" in line for line in said), said
assert all(store.verify(digest) == [] for digest in store.digests()) and kept in store.digests()
assert records.run(run).artifact == kept
import shutil
shutil.rmtree(draft)
records.close()
with Records.open(root / "records.db") as again:
    assert again.run(run).status == "done"
    again.event("after", {})
print("held")
"""


def test_a_really_full_disk(tmp_path):
    """A tmpfs of 3 MB in a mount namespace of its own."""
    mount = f"mount -t tmpfs -o size=3m tmpfs {tmp_path} && exec {sys.executable} - {tmp_path}"
    for wrap in (["unshare", "-m"], ["unshare", "-Urm"]):
        try:
            probe = subprocess.run(
                [*wrap, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True, check=False
            )
        except FileNotFoundError:
            pytest.skip("this machine has no unshare")
        if probe.returncode == 0:
            done = subprocess.run([*wrap, "sh", "-c", mount], input=FULL, capture_output=True, text=True, check=False)
            assert done.stdout.strip() == "held", done.stderr
            return
    pytest.skip("this machine lets nobody mount a tmpfs in a namespace")


def eight(code: str, file: Path, *arguments: object) -> list[str]:
    children = [start(code, file, who, *arguments) for who in range(8)]
    answers = [child.communicate(timeout=120)[0].strip() for child in children]
    assert all(child.returncode == 0 for child in children)
    return answers


FAIR = """
import sys, time
from pathlib import Path
from volant.store.records import Records
records, done = Records.open(Path(sys.argv[1])), 0
print("ready", flush=True)
end = float(sys.stdin.readline())
while time.time() < end:
    records.event("fair", {"who": sys.argv[2]})
    done += 1
print(done)
"""


def test_no_writer_starves(tmp_path):
    command = [sys.executable, "-c", FAIR, str(tmp_path / "records.db")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen([*command, str(who)], **pipes) for who in range(8)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    end = time.time() + 3.0
    for child in children:  # all write until the same moment
        child.stdin.write(f"{end}\n")
        child.stdin.flush()
    shares = [int(child.communicate(timeout=60)[0]) for child in children]
    with Records.open(tmp_path / "records.db") as records, records.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM events").scalar() == sum(shares)
    assert min(shares) > 0.25 * sum(shares) / 8, shares  # half on an idle machine (bench/records.py)


RACE = """
import sys
from pathlib import Path
from volant.core.errors import GateRefused
from volant.store.records import Records
records, won = Records.open(Path(sys.argv[1])), 0
for turn in range(50):
    expected = f"d{turn - 1}" if turn else None
    try:
        won += not records.promote("champion", f"d{turn}", expected=expected, key=f"t{turn}", evidence={}).repeated
    except GateRefused:
        pass
print(won)
"""


def test_eight_racers_make_exactly_fifty(tmp_path):
    won = [int(answer) for answer in eight(RACE, tmp_path / "records.db")]
    with Records.open(tmp_path / "records.db") as records:
        made = records.promotions("champion")
    assert sum(won) == len(made) == 50
    assert [p.digest for p in made] == [f"d{turn}" for turn in reversed(range(50))]
    assert all(
        p.previous == (f"d{turn - 1}" if turn else "") for turn, p in zip(reversed(range(50)), made, strict=True)
    )


def test_first_use_by_eight_processes(tmp_path):
    code = (
        "import sys; from pathlib import Path; from volant.store.records import Records; "
        "Records.open(Path(sys.argv[1])).event('x', {}); print(1)"
    )
    assert eight(code, tmp_path / "records.db") == ["1"] * 8
    with Records.open(tmp_path / "records.db") as records:
        assert len(records.events()) == 8


def test_ten_thousand_runs_open_and_answer(tmp_path):
    """How long it takes is measured by bench/records.py."""
    from volant.store import lineage

    with Records.open(tmp_path / "records.db") as records, records.database.write() as connection:
        connection.exec_driver_sql(
            "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 10000) "
            "INSERT INTO edges (run, parent, child, role) "
            "SELECT 'run-' || i, 'd' || max(0, i - 1 - r.j * r.j), 'd' || i, 'data' "
            "FROM c, (SELECT 0 AS j UNION SELECT 1 UNION SELECT 2 UNION SELECT 3) r"
        )
    with Records.open(tmp_path / "records.db") as records:
        assert len(lineage.ancestors(records, "d10000")) > 39_000
