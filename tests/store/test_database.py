import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from volant.core.errors import ArtifactError, MachineError, MissingPackage, RemoteError, SettingError
from volant.store import database, migrations
from volant.store.database import Database
from volant.store.lock import AdvisoryLock
from volant.store.records import Records


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "deep" / "records.db"


def opened(file: Path) -> Records:
    file.parent.mkdir(parents=True, exist_ok=True)
    return Records.open(file)


def test_opens_by_path_and_by_url(tmp_path):
    with Records.open(tmp_path / "new" / "a.db") as records:
        records.event("x", {})
    with Records.open(f"sqlite:///{tmp_path / 'new' / 'a.db'}") as records:
        assert len(records.events()) == 1
        records.close()
        assert len(records.events()) == 1  # opens again by itself


@pytest.mark.parametrize(
    ("url", "error", "match"),
    [
        ("nonsense", SettingError, "no database URL"),
        ("sqlite://", SettingError, "need a file"),
        ("sqlite:///:memory:", SettingError, "need a file"),
        ("mysql://host/db", SettingError, "not in mysql"),
    ],
)
def test_urls_that_are_refused(url, error, match):
    with pytest.raises(error, match=match):
        Records.open(url)


def test_wal_without_automatic_checkpoints(file):
    with opened(file) as records:
        with records.database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar() == 0
        with records.database.write() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # NORMAL
        with records.database.write(durable=True) as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_long_log_is_folded_by_the_writer(file, monkeypatch):
    monkeypatch.setattr(database, "CHECKPOINT_BYTES", 100_000)
    log = file.with_name("records.db-wal")
    with opened(file) as records:
        for _ in range(5):
            records.event("big", {"x": "y" * 60_000})
        assert log.stat().st_size < 200_000
        with records.database.read() as connection:  # a reader in the way: the log grows, nothing waits, nothing fails
            connection.exec_driver_sql("SELECT count(*) FROM events").scalar()
            began = time.monotonic()
            for _ in range(5):
                records.event("big", {"x": "y" * 60_000})
            assert time.monotonic() - began < 5
        for _ in range(3):
            records.event("big", {"x": "y" * 60_000})
        assert log.stat().st_size < 300_000
        assert len(records.events()) == 13
        log_free = Database(file)
        log_free.file = file.with_name("no-such.db")
        log_free._fold()  # no log at all is fine
    assert not log.exists()  # the last to close folds it in


def test_a_failed_block_leaves_nothing(file):
    with opened(file) as records:
        with pytest.raises(ZeroDivisionError), records.database.write() as connection:
            connection.execute(text("INSERT INTO events (at, kind, body) VALUES ('', 'x', '{}')"))
            raise ZeroDivisionError
        assert records.events() == []
        records.event("after", {})  # the lock was given back


# --- what goes wrong --------------------------------------------------------------------------


def test_no_database(tmp_path):
    (tmp_path / "a.db").write_text("these are no records, whatever their name says " * 30)
    with pytest.raises(ArtifactError, match="damaged"):
        Records.open(tmp_path / "a.db")


def test_newer_schema(file):
    with opened(file) as records, records.database.write() as connection:
        connection.exec_driver_sql("UPDATE volant_schema SET version = 99")
    with pytest.raises(ArtifactError, match="schema 99.*Upgrade"):
        Records.open(file)


def test_full_disk_in_the_database(file):
    with opened(file) as records:
        records.event("kept", {})
        with records.database.read() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        with records.database.engine.connect() as connection:
            connection.connection.cursor().execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(MachineError, match="the disk is full: writing the records"):
            for _ in range(50):
                records.event("big", {"x": "y" * 10_000})
        assert records.events("kept")


def test_full_disk_for_the_lock(file, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(MachineError, match="opening the records"), AdvisoryLock(file):
        pass


def test_unwritable_folder_passes_as_it_is(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"[Nn]ot a directory|exists"), AdvisoryLock(tmp_path / "file" / "x.lock"):
        pass


def test_file_that_cannot_be_opened(tmp_path):
    (tmp_path / "records.db").mkdir()
    with pytest.raises(MachineError, match="cannot be written"):
        Records.open(tmp_path / "records.db")


def test_read_only_file(file):
    with opened(file) as records, records.database.engine.connect() as connection:
        raw = connection.connection.cursor()
        raw.execute("PRAGMA query_only=ON")  # stands for a file without write permission: root may write any
        connection.close()
        with pytest.raises(MachineError, match="cannot be written"):
            records.event("x", {})


def test_strangers_lock(file):
    with opened(file) as records:
        stranger = sqlite3.connect(file, isolation_level=None)
        stranger.execute("BEGIN IMMEDIATE")
        with records.database.engine.connect() as connection:
            connection.connection.cursor().execute("PRAGMA busy_timeout=50")
        with pytest.raises(MachineError, match="Another program holds"):
            records.event("x", {})
        stranger.rollback()
        stranger.close()


def test_other_errors_stay_what_they_are(file):
    from sqlalchemy.exc import OperationalError

    with opened(file) as records, pytest.raises(OperationalError), records.database.read() as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")


# --- migrations -------------------------------------------------------------------------------


def test_migrations_run_in_order_and_once(file, monkeypatch):
    with opened(file) as records:
        records.event("old", {})
    log = []

    def second(connection):
        log.append(2)
        connection.exec_driver_sql("ALTER TABLE events ADD COLUMN who TEXT NOT NULL DEFAULT ''")

    def third(connection):
        log.append(3)

    monkeypatch.setattr(database, "MIGRATIONS", (*migrations.MIGRATIONS, second, third))
    monkeypatch.setattr(migrations.migrate, "__defaults__", ((*migrations.MIGRATIONS, second, third),))
    for _ in range(2):
        with Records.open(file) as records, records.database.read() as connection:
            assert connection.exec_driver_sql("SELECT who FROM events").scalar() == ""
            assert migrations.version_of(connection) == len(migrations.MIGRATIONS) + 2
    assert log == [2, 3]


def test_failing_migration_changes_nothing(file, monkeypatch):
    with opened(file):
        pass

    def broken(connection):
        connection.exec_driver_sql("CREATE TABLE half (x TEXT)")
        raise ZeroDivisionError

    monkeypatch.setattr(database, "MIGRATIONS", (*migrations.MIGRATIONS, broken))
    monkeypatch.setattr(migrations.migrate, "__defaults__", ((*migrations.MIGRATIONS, broken),))
    with pytest.raises(ZeroDivisionError):
        Records.open(file)
    monkeypatch.undo()
    with Records.open(file) as records, records.database.read() as connection:
        assert not connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'half'").first()


def test_threads_race_for_the_first_use(file):
    file.parent.mkdir()
    gate, errors = threading.Barrier(6), []

    def first_use():
        gate.wait()
        try:
            with Records.open(file) as records:
                records.event("here", {})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=first_use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Records.open(file) as records:
        assert len(records.events()) == 6


# --- processes --------------------------------------------------------------------------------


def test_forked_child_writes_for_itself(file):
    with opened(file) as records:
        records.event("parent", {})
        child = os.fork()
        if child == 0:
            try:
                records.event("child", {})
                database._close(database._orphans[0], records.database.lock, 0)  # a parent's engine: left alone
            finally:
                os._exit(0 if database._orphans else 1)
        assert os.waitpid(child, 0)[1] == 0
        records.event("parent", {})
        assert [event.kind for event in records.events()] == ["parent", "child", "parent"]


def test_lock_is_taken_in_turn_by_threads(file):
    file.parent.mkdir()
    lock, order = AdvisoryLock(file.with_suffix(".lock")), []
    start = threading.Barrier(4)

    def work(who: int) -> None:
        start.wait()
        for _ in range(100):
            with lock:
                order.append(who)
                time.sleep(0.0005)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = [len(order) - order[::-1].index(who) for who in range(4)]
    assert len(order) == 400 and len(set(order[: min(last)])) == 4  # nobody waits until another is done


def test_lock_is_given_back_when_taking_it_fails(file, monkeypatch):
    from types import SimpleNamespace

    from volant.store import lock as module

    file.parent.mkdir()
    lock = AdvisoryLock(file)
    real = module.fcntl

    def flock(handle, mode):
        if handle == lock._handles().main:
            raise KeyboardInterrupt
        real.flock(handle, mode)

    with monkeypatch.context() as patch:
        patch.setattr(module, "fcntl", SimpleNamespace(LOCK_EX=real.LOCK_EX, LOCK_UN=real.LOCK_UN, flock=flock))
        with pytest.raises(KeyboardInterrupt), lock:
            pass
    with lock:
        pass


def test_closing_waits_for_nobody(file):
    with opened(file) as records:
        other = Records.open(file)
        with records.database.write():
            other.close()  # a collector may close it while this very thread holds the lock
        assert other.database.lock.attempt() and not records.database.lock.attempt()
        assert not other.database.lock.attempt()
        other.database.lock.release()


def test_folder_gone_before_the_end(tmp_path):
    import shutil

    records = Records.open(tmp_path / "p" / "records.db")
    records.database.lock._of_process.clear()
    shutil.rmtree(tmp_path / "p")
    (tmp_path / "p").write_text("a file now")
    records.close()


WRITER = """
import sys
from pathlib import Path
from volant.store.records import Records
records = Records.open(Path(sys.argv[1]))
for i in range(60):
    records.add_metrics(sys.argv[2], [("loss", float(i), i)])
"""


def test_processes_write_at_once_and_lose_nothing(file):
    file.parent.mkdir()
    workers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), f"r{i}"]) for i in range(3)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
    with Records.open(file) as records:
        assert [len(records.metrics(f"r{i}")) for i in range(3)] == [60, 60, 60]


def test_importing_the_package_is_light():
    code = (
        "import sys, volant.store, volant.store.blobs; "
        "heavy = {'pyarrow', 'sqlalchemy', 'datasets', 'torch', 'fsspec', 'numpy'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- Postgres ---------------------------------------------------------------------------------


def test_postgres_without_driver(monkeypatch):
    def absent(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'psycopg'")

    monkeypatch.setattr(database, "create_engine", absent)
    with pytest.raises(MissingPackage, match=r"volant\[postgres\]"):
        Records.open("postgresql://localhost/x")


def test_postgres_that_does_not_answer():
    pytest.importorskip("psycopg", reason="the Postgres driver is not installed")
    with pytest.raises(RemoteError, match="do not answer"):
        Records.open("postgresql://nobody:secret@127.0.0.1:1/x")


def test_every_write_on_a_server_takes_the_servers_lock(tmp_path, monkeypatch):
    """Without a server: an SQLite connection that knows the function stands for it (see test_records.py for real)."""
    from sqlalchemy import create_engine, event

    taken: list[int] = []
    engine = create_engine(f"sqlite:///{tmp_path / 'stand-in.db'}")
    event.listen(engine, "connect", lambda raw, _: raw.create_function("pg_advisory_xact_lock", 1, taken.append))
    monkeypatch.setattr(database, "_engine", lambda url, file, where: engine)
    with Records.open("postgresql://someone:secret@host/x") as records:
        records.event("x", {})
        records.promote("champion", "d", expected=None, key="k", evidence={})
        assert len(records.events()) == 1 and "secret" not in records.database.where
        assert taken == [database._POSTGRES_LOCK] * 3  # schema, event, promotion
        with pytest.raises(RemoteError, match="do not answer"), records.database.read() as connection:
            connection.exec_driver_sql("SELECT * FROM nowhere")
