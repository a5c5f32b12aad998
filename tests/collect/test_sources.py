"""Sources of data beside plain files: links that lead out, git repositories, queries, buckets; one set of terms."""

import io
import json
import os
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import small_sources
from volant.core.errors import DataError, LicenceError, PathError, RemoteError, SettingError
from volant.modalities.text_entry import MAX_DOCUMENT, Entry
from volant.modalities.text_lines import jsonl
from volant.modalities.zip_archive import BadFile
from volant.project import Project
from volant.stages import collect
from volant.store import dataset as store


def lines(count, start=0):
    return "".join(f'{{"text": "Record {i} tells of thing {i * 7} at length."}}\n' for i in range(start, start + count))


def refused(data):
    file = data.path / "refused.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def serving(folder=None, handler=Quiet):
    """A web server of a folder on a free port of this machine; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)) if folder else handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project", device="cpu", threads=1)


# --- links -------------------------------------------------------------------------------


def test_a_link_out_of_the_tree_is_counted_reported_and_survived(project, tmp_path):
    (tmp_path / "secret.jsonl").write_text('{"text": "A secret that nobody asked for."}\n')
    data = project.root / "data"
    data.mkdir(parents=True)
    (data / "a.jsonl").write_text(lines(20))
    (data / "b.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (data / "all").symlink_to("/")
    made = project.run(collect.files, glob="data/**", licence="MIT")
    assert [r["where"] for r in refused(made)] == ["data/all", "data/b.jsonl"]
    assert not any("secret" in s.text for s in store.rows(made)) and len(list(store.rows(made))) == 20
    with pytest.raises(PathError, match="VOLANT_ALLOW"):
        project.run(collect.files, glob="data/b.jsonl", licence="MIT")
    for link in ("b.jsonl", "all"):  # a library opens a whole folder by itself
        with pytest.raises(PathError, match="VOLANT_ALLOW"):
            project.run(collect.hub, dataset="data", licence="MIT")
        (data / link).unlink()


# --- git ---------------------------------------------------------------------------------


def test_a_repository_at_a_commit(project):
    folder = project.root / "repo"
    extra = {
        "a.bin": b"\0\1\2" * 50, "empty.txt": "", "big.txt": "x" * 3_000_000, "data.csv": "a,b\n1,2\n",
        "large.dat": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "free.py": "# SPDX-License-Identifier: CC0-1.0\nprint('this is free')\n",
        "odd.py": "# SPDX-License-Identifier: Beerware-9\nprint('whose is this?')\n",
        "shut.py": "# SPDX-License-Identifier: CC-BY-NC-4.0\nprint('this is not')\n",
    }  # fmt: skip
    small_sources.repository(folder, small_sources.FILES | extra)
    (folder / "link").symlink_to("/etc/hosts")
    commit = small_sources.commit(folder)
    (folder / "later.py").write_text("print('not yet tracked')\n")
    data = project.run(collect.git, repository="repo", commit=commit)
    found = {s.source.uri.rpartition("@")[2].partition("/")[2]: s for s in store.rows(data)}
    assert set(found) == {*small_sources.FILES, "data.csv", "free.py"}
    assert found["src/part3.py"].content == small_sources.FILES["src/part3.py"].rstrip()
    assert found["data.csv"].content == "a,b\n1,2"
    terms = {s.source.licence for n, s in found.items() if n != "free.py"}
    assert terms == {"MIT"} and found["free.py"].source.licence == "CC0-1.0"
    assert {s.source.collected_at for s in found.values()} == {"2024-05-06"}
    reasons = {r["where"].rpartition("/")[2]: r["reason"] for r in refused(data)}
    assert set(reasons) == {"big.txt", "link", "large.dat", "odd.py", "shut.py"}
    assert "forbids commercial use" in reasons["shut.py"] and "not followed" in reasons["link"]
    only = project.run(collect.git, repository="repo", commit=commit, only=["src/*"], licence="MIT")
    assert len(list(store.rows(only))) == 16
    read = project.run(collect.git, repository="repo", commit=commit, only=["*.csv", "src/*"], whole=False)
    assert any("data.csv" in r["where"] for r in refused(read))


def test_a_branch_is_answered_with_its_commit(project):
    commit = small_sources.repository(project.root / "repo")
    for name in ("main", "HEAD", "", commit[:12]):
        with pytest.raises(SettingError, match=commit):
            project.run(collect.git, repository="repo", commit=name)
    with pytest.raises(DataError, match="no commit"):
        project.run(collect.git, repository="repo", commit="0" * 40)
    for name in ("ssh://host/x", "git@host:x", "ext::sh -c x", "https://me:key@host/x", "file:///x"):
        with pytest.raises(SettingError, match="Clone it yourself"):
            project.run(collect.git, repository=name, commit=commit)
    (project.root / "repo" / "sub").mkdir()
    with pytest.raises(DataError, match="no git repository"):
        project.run(collect.git, repository="repo/sub", commit=commit)
    with pytest.raises(PathError):
        project.run(collect.git, repository="..", commit=commit)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "no licence file"),
        ({"LICENSE": "All rights reserved."}, "not plain"),
        ({"LICENSE": small_sources.MIT, "COPYING": "Further terms."}, "COPYING"),
        ({"LICENSE": small_sources.MIT + "You owe us a beer for each copy you make. " * 20}, "not plain"),
    ],
)
def test_a_licence_that_is_not_plain_is_asked_for(project, files, says):
    kept = {name: text for name, text in small_sources.FILES.items() if name != "LICENSE"}
    commit = small_sources.repository(project.root / "repo", kept | files)
    with pytest.raises(LicenceError, match=says):
        project.run(collect.git, repository="repo", commit=commit)
    assert project.run(collect.git, repository="repo", commit=commit, licence="MIT").about["licences"]


def test_nothing_of_a_repository_runs(project, tmp_path):
    folder, ran = project.root / "repo", tmp_path / "ran"
    commit = small_sources.repository(folder, small_sources.FILES | {".gitattributes": "* filter=evil diff=evil\n"})
    for hook in ("post-checkout", "post-index-change", "reference-transaction", "fsmonitor"):
        path = folder / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {ran}\n")
        path.chmod(0o755)
    touch = f"touch {ran}"
    for name, value in {
        "core.fsmonitor": touch, "filter.evil.smudge": touch, "filter.evil.clean": touch, "diff.evil.textconv": touch,
        "log.showSignature": "true", "gpg.program": touch, "core.pager": touch, "core.sshCommand": touch,
        "remote.origin.url": str(folder), "remote.origin.promisor": "true", "remote.origin.uploadpack": touch,
        "extensions.partialClone": "origin", "core.repositoryFormatVersion": "1", "core.alternateRefsCommand": touch,
    }.items():  # fmt: skip
        small_sources.run_git(folder, "config", name, value)
    blob = small_sources.run_git(folder, "rev-parse", f"{commit}:src/part3.py").strip()
    (folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(DataError, match="does not hold it"):
        project.run(collect.git, repository="repo", commit=commit)
    project.run(collect.git, repository="repo", commit=commit, only=["src/part1*"])
    assert not ran.exists()


def test_a_repository_on_the_web_is_fetched_once(project):
    folder = project.root / "repo"
    commit = small_sources.repository(folder)
    small_sources.run_git(folder, "update-server-info")
    with serving(folder) as address:
        data = project.run(collect.git, repository=f"{address}/.git", commit=commit)
        with pytest.raises(SettingError, match=commit):
            project.run(collect.git, repository=f"{address}/.git", commit="main")
        with pytest.raises(RemoteError, match="cannot be fetched"):
            project.run(collect.git, repository=f"{address}/nothing", commit=commit)
    samples = list(store.rows(data))
    assert len(samples) == 17 and all(s.source.uri.startswith("git:127.0.0.1:") for s in samples)


# --- sql ---------------------------------------------------------------------------------

ASKED = "SELECT id, who, question AS prompt, answer AS completion FROM asked"


def ask(project, query=ASKED, **settings):
    given = {"file": "asked.db", "key": ["id"], "licence": "LicenseRef-own", **settings}
    return project.run(collect.sql, query=query, **given)


def test_rows_of_a_query_come_in_the_order_of_their_key(project):
    small_sources.database(project.root / "asked.db", 60)
    data = ask(project, group="who")
    samples = {s.source.uri: s for s in store.rows(data)}
    assert set(samples) == {f"sql:asked.db#id={n}" for n in range(1, 61)}
    one = samples["sql:asked.db#id=12"]
    assert (one.condition, one.target, one.group) == ("What is 12 times 12?", "It is 144.", "who3")
    assert one.source.licence == "LicenseRef-own" and one.source.place == "sql:asked.db"
    train = [int(s.source.uri.rpartition("=")[2]) for s in store.rows(data, "train")]
    assert train == sorted(train)
    text = ask(project, "SELECT id, who, question || ' ' || answer AS text FROM asked -- all\n;", key=["who", "id"])
    assert next(iter(store.rows(text))).source.uri == "sql:asked.db#who=who0&id=9"


@pytest.mark.parametrize(
    ("query", "settings", "says"),
    [
        ("DELETE FROM asked", {}, "no SELECT"),
        ("SELECT 1 AS id; DELETE FROM asked", {}, "query fails"),
        ("WITH x AS (SELECT 1 AS id) INSERT INTO asked SELECT * FROM x", {}, "query fails"),
        ("SELECT load_extension('x') AS id", {}, "query fails"),
        ("SELECT * FROM nowhere", {}, "no such table"),
        (ASKED, {"key": []}, "no key"),
        (ASKED, {"key": ["number"]}, "number"),
        (ASKED, {"key": ["who"]}, "two rows have who"),
        (ASKED, {"server": "SHOP_URL"}, "not one database"),
        (ASKED, {"file": "", "server": "VOLANT_NOT_SET"}, "is not set"),
        (ASKED, {"file": "", "server": "postgresql://me:key@host/x"}, "server"),
        ("SELECT id, question FROM asked", {}, "fields"),
    ],
)
def test_a_query_that_cannot_be_read_says_why(project, query, settings, says):
    small_sources.database(project.root / "asked.db")
    before = (project.root / "asked.db").read_bytes()
    with pytest.raises((DataError, SettingError), match=says):
        ask(project, query, **settings)
    assert (project.root / "asked.db").read_bytes() == before


def test_a_query_goes_on_where_it_was_killed(project, monkeypatch):
    from volant.stages.collect import _query

    monkeypatch.setattr(_query, "CHUNK", 10)
    small_sources.database(project.root / "asked.db", 95)
    whole = ask(project).card.digest
    kept, seen = _query.Query._kept, []

    def dying(self, number, rows):
        seen.append((number, len(rows), rows[0]["id"]))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return kept(self, number, rows)

    monkeypatch.setattr(_query.Query, "_kept", dying)
    with pytest.raises(KeyboardInterrupt):
        project.step("again", refresh=True).run(collect.sql, query=ASKED, key=["id"], licence="LicenseRef-own",
                                                file="asked.db")  # fmt: skip
    again = project.step("again", refresh=True).run(collect.sql, query=ASKED, key=["id"], licence="LicenseRef-own",
                                                    file="asked.db")  # fmt: skip
    assert again.card.digest == whole
    assert seen[4] == (3, 10, 31)


def test_odd_values_and_a_log_that_is_not_folded(project):
    import sqlite3

    project.root.mkdir(exist_ok=True)
    raw = sqlite3.connect(project.root / "odd.db")
    raw.execute("CREATE TABLE t (id REAL PRIMARY KEY, text)")
    values = ["plain words", b"bytes of text", b"\xff\xfe", None, 7, "a: b :c %s 'd'", "NUL \0 in it"]
    raw.executemany("INSERT INTO t VALUES (?, ?)", [(n + 0.5, v) for n, v in enumerate(values * 2)])
    raw.execute("INSERT INTO t VALUES (99, CAST(x'61ff62' AS TEXT))")
    raw.commit()
    data = ask(project, "SELECT id, text || '' AS text FROM t WHERE text <> ':no %'", file="odd.db")
    assert sorted({s.content for s in store.rows(data)}) == ["7", "a: b :c %s 'd'", "bytes of text", "plain words"]
    assert len(refused(data)) == 5
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("DELETE FROM t")
    raw.commit()
    with pytest.raises(DataError, match="wal_checkpoint"):
        ask(project, "SELECT id, text FROM t", file="odd.db")
    raw.close()
    (project.root / "none.db").write_bytes(b"not a database, but long enough to look at" * 50)
    with pytest.raises(DataError, match="not a database"):
        ask(project, file="none.db")


def test_rows_of_tables(tmp_path):
    project = Project(tmp_path, device="cpu", threads=1)
    (tmp_path / "volant.yaml").write_text("volant: 1\nname: t\ngoal: {problem: x, modality: table}\nsteps: {}\n")
    small_sources.database(tmp_path / "asked.db", 60)
    data = ask(Project(tmp_path, device="cpu", threads=1), "SELECT id, who, id * 2 AS twice FROM asked")
    row = json.loads(next(iter(store.rows(data))).content)
    assert set(row) == {"id", "who", "twice"} and row["twice"] == 2 * row["id"]
    assert project.root == tmp_path


POSTGRES = os.environ.get("VOLANT_TEST_POSTGRES", "")


@pytest.mark.skipif(not POSTGRES, reason="set VOLANT_TEST_POSTGRES to a database that may be wiped")
def test_a_server_is_only_read_and_its_address_kept_out(project, monkeypatch):
    from sqlalchemy import NullPool, create_engine, text

    from volant.stages.collect import _query

    monkeypatch.setattr(_query, "CHUNK", 16)
    engine = create_engine(POSTGRES.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS volant_asked"))
        connection.execute(text("CREATE SEQUENCE IF NOT EXISTS volant_row"))
        connection.execute(text("CREATE TABLE volant_asked (at timestamptz, n numeric(8, 2), said text, more jsonb)"))
        for n in range(50):
            told = {"at": f"2024-05-06 07:{n:02}:00+00", "n": n / 4, "said": f"It was {n} % of all.", "m": '{"a": [1]}'}
            connection.execute(text("INSERT INTO volant_asked VALUES (:at, :n, :said, CAST(:m AS jsonb))"), told)
    monkeypatch.setenv("SHOP_URL", POSTGRES)
    query = "SELECT at, n, said AS text, more->>'a' AS a FROM volant_asked WHERE said LIKE 'It%' AND at::text <> ':x'"
    given = {"file": "", "server": "SHOP_URL", "key": ["at", "n"]}
    data = ask(project, query, **given)
    uris = [s.source.uri for s in store.rows(data)]
    assert len(uris) == 50 and all(uri.startswith("sql:SHOP_URL#at=2024-05-06T07") for uri in uris)
    kept, seen = _query.Query._kept, []

    def dying(self, number, rows):
        seen.append(rows[0]["n"])
        if len(seen) == 3:
            raise KeyboardInterrupt
        return kept(self, number, rows)

    monkeypatch.setattr(_query.Query, "_kept", dying)
    for error in (KeyboardInterrupt, None):
        call = project.step("sql", refresh=True)
        if error:
            with pytest.raises(error):
                call.run(collect.sql, query=query, licence="LicenseRef-own", **given)
        else:
            again = call.run(collect.sql, query=query, licence="LicenseRef-own", **given)
    assert again.card.digest == data.card.digest and seen[3] == seen[2] == "8.00"
    with pytest.raises(DataError, match="read-only transaction"):
        ask(project, "SELECT nextval('volant_row') AS at", **{**given, "key": ["at"]})
    stored = b"".join(p.read_bytes() for p in project.root.rglob("*") if p.is_file())
    assert POSTGRES.encode() not in stored


# --- buckets -----------------------------------------------------------------------------

OBJECTS = {f"data/part{n}.jsonl": lines(5, start=5 * n).encode() for n in range(8)}
ODD = {
    "data/../../up.jsonl": lines(2, start=900).encode(),
    "data/empty.txt": b"",
    "data/a b&c.md": b"# A name\n\nText.",
}


@pytest.fixture
def s3(monkeypatch):
    """A bucket behind a server on this machine; the class of its handler."""
    s3fs = pytest.importorskip("s3fs", reason="the S3 client is not installed")
    s3fs.S3FileSystem.clear_instance_cache()  # it would remember another test's server

    class Handler(small_sources.SmallS3):
        objects = {**OBJECTS, **ODD, "other/x.jsonl": lines(3).encode()}
        asked = []

    with serving(handler=Handler) as address:
        for name, value in {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "hushhush",
                            "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        yield Handler


def test_a_prefix_of_s3(project, s3):
    data = project.run(collect.bucket, address="s3://shop/data/", licence="MIT")
    uris = {s.source.uri for s in store.rows(data)}
    assert len(uris) == 43 and "s3://shop/data/part3.jsonl:2" in uris and "s3://shop/data/a b&c.md" in uris
    told = data.read_json("objects.json")
    assert [one["name"] for one in told] == sorted(n.removeprefix("data/") for n in {**OBJECTS, **ODD})
    assert [r["where"] for r in refused(data)] == ["empty.txt"]
    assert not list(project.root.parent.glob("**/up.jsonl"))
    only = project.run(collect.bucket, address="s3://shop/data", licence="MIT", only=["part[12].*"])
    assert len(list(store.rows(only))) == 10
    assert b"hushhush" not in b"".join(p.read_bytes() for p in project.root.rglob("*") if p.is_file())


def test_objects_that_were_fetched_are_not_fetched_again(project, s3):
    s3.dies_at = "data/part5.jsonl"
    given = {"address": "s3://shop/data", "licence": "MIT", "only": ["part*"]}
    with pytest.raises(RemoteError, match="s3://shop/data"):
        project.run(collect.bucket, **given)
    s3.dies_at, s3.objects = "", {**s3.objects, "data/part1.jsonl": lines(5, start=500).encode()}
    s3.asked.clear()
    data = project.run(collect.bucket, **given)
    got = [line.removeprefix("GET data/") for line in s3.asked if line.startswith("GET data/")]
    assert sorted(set(got)) == ["part1.jsonl", "part5.jsonl", "part6.jsonl", "part7.jsonl"]
    assert any("thing 3500 " in s.text for s in store.rows(data))


def test_directories_and_addresses_that_are_not_read(project, tmp_path):
    for name, raw in OBJECTS.items():
        path = project.root / "share" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    data = project.run(collect.bucket, address="share", licence="MIT")
    assert len(list(store.rows(data))) == 40
    assert next(iter(store.rows(data))).source.uri == "bucket:share/data/part0.jsonl:1"
    one = project.run(collect.bucket, address="share/data/part0.jsonl", licence="MIT")
    assert [o["name"] for o in one.read_json("objects.json")] == ["part0.jsonl"]
    for address in ("s3://me:key@shop/x", "zip://x::file:///etc", "file:///etc", "https://example.org/x", "s3://b?x=1"):
        with pytest.raises(SettingError):
            project.run(collect.bucket, address=address, licence="MIT")
    with pytest.raises(PathError):
        project.run(collect.bucket, address="..", licence="MIT")
    for address in ("memory://nothing", "none"):
        with pytest.raises(DataError, match="nothing lies there"):
            project.run(collect.bucket, address=address, licence="MIT")


# --- hub ---------------------------------------------------------------------------------


@pytest.fixture
def far(monkeypatch, tmp_path):
    """A hub whose datasets lie in a folder here; what it was asked is kept."""
    import datasets
    import huggingface_hub

    folder, asked, load = tmp_path / "far", [], datasets.load_dataset
    folder.mkdir()
    (folder / "train.jsonl").write_text(lines(60))

    def info(self, name):
        asked.append(("info", name))
        return huggingface_hub.hf_api.DatasetInfo(id=name, sha=f"{len(asked):040}")

    def loaded(name, subset, *, revision, cache_dir, streaming):
        asked.append(("load", revision, streaming))
        return load(str(folder), subset, cache_dir=cache_dir, streaming=streaming)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(datasets, "load_dataset", loaded)
    asked.append(folder)
    return asked


def test_the_hub_is_read_at_one_revision(project, far, monkeypatch):
    module = sys.modules["volant.stages.collect.hub"]
    opened = module._open

    def dying(*given):
        opened(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_open", dying)
    with pytest.raises(KeyboardInterrupt):
        project.run(collect.hub, dataset="org/name", licence="MIT")
    monkeypatch.setattr(module, "_open", opened)
    data = project.run(collect.hub, dataset="org/name", licence="MIT")
    pin = f"{2:040}"
    assert far[1:] == [("info", "org/name"), ("load", pin, False), ("load", pin, False)]
    assert data.read_json("hub.json") == {"name": "org/name", "revision": pin}
    assert len(list(store.rows(data))) == 60
    few = project.run(collect.hub, dataset="org/name", licence="MIT", limit=7, revision="a" * 40)
    assert far[-1] == ("load", "a" * 40, True) and len(list(store.rows(few))) == 7


def test_a_stream_that_breaks_off_says_so(project, far):
    (far[0] / "train.jsonl").write_text(lines(30) + "{broken" * 40)
    with pytest.raises(DataError, match="org/name"):
        project.run(collect.hub, dataset="org/name", licence="MIT", limit=40, revision="a" * 40)


def test_a_hub_that_does_not_answer(project, monkeypatch):
    import huggingface_hub

    def offline(self, name):
        raise huggingface_hub.errors.OfflineModeIsEnabled("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", offline)
    with pytest.raises(RemoteError, match="org/name"):
        project.run(collect.hub, dataset="org/name", licence="MIT")


def test_a_hub_that_is_not_reached(project, monkeypatch):
    """Real: nothing listens at this address, and the hub's own client says so in its own way."""
    import huggingface_hub

    closed = partial(huggingface_hub.HfApi, endpoint="http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub, "HfApi", closed)
    with pytest.raises(RemoteError, match="the hub does not give 'org/name'"):
        project.run(collect.hub, dataset="org/name", licence="MIT")


def test_what_stands_beside_a_text_is_carried_along(project):
    rows = [{"text": f"A text that says {i} at length.", "score": i / 10, "kind": "ab"[i % 2]} for i in range(8)]
    rows += [{"text": "A text that has neither of both."}, {"text": "A text with a list.", "score": [1]}]
    project.root.mkdir(exist_ok=True)
    (project.root / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names = {"attrs.quality": "score", "labels.kind": "kind"}
    made = project.run(collect.files, glob="a.jsonl", licence="MIT", fields=names)
    found = {s.content: s for s in store.rows(made)}
    one = found["A text that says 3 at length."]
    assert one.attrs["quality"] == 0.3 and [(x.name, x.value) for x in one.labels] == [("kind", "b")]
    assert not found["A text that has neither of both."].attrs
    assert ["no number and no text" in one["reason"] for one in refused(made)] == [True]
    with pytest.raises(SettingError, match=r"attrs\.NAME"):
        project.run(collect.files, glob="a.jsonl", licence="MIT", fields={"quality": "score"})
    with pytest.raises(DataError, match="has no field 'day'"):
        project.run(collect.files, glob="a.jsonl", licence="MIT", fields={"collected_at": "day"})
    with pytest.raises(SettingError, match="names nothing"):
        project.run(collect.files, glob=[], licence="MIT")


def test_names_and_groups_that_are_no_unicode(project):
    project.root.mkdir(exist_ok=True)
    rows = [json.dumps({"text": f"A text of {n} at length.", "author": n}) for n in [*"abcdefgh", "\ud800"]]
    odd = os.fsdecode(os.fsencode(project.root) + b"/bad\xff")
    for ending, text in ((".txt", "A document under a name of another time."), (".jsonl", "\n".join(rows))):
        Path(odd + ending).write_text(text)
    made = project.run(collect.files, glob=["*.jsonl", "*.txt"], licence="MIT")
    assert {s.source.uri for s in store.rows(made) if "another time" in s.text} == {"bad\\udcff.txt"}
    (one,) = refused(project.run(collect.files, glob="*.jsonl", licence="MIT", group="author"))
    assert one["where"] == "bad\\udcff.jsonl:9" and "lone surrogate" in one["reason"]


@pytest.mark.parametrize("encoding", ["", "utf-16"])
def test_lines_of_json_in_wide_characters(project, encoding):
    project.root.mkdir(exist_ok=True)
    (project.root / "a.jsonl").write_bytes(lines(9).encode("utf-16"))
    made = project.run(collect.files, glob="a.jsonl", licence="MIT", encoding=encoding)
    assert len(list(store.rows(made))) == 9 and not refused(made)


def test_lines_in_wide_characters_are_read_whole_and_may_be_too_large_for_it():
    large = Entry("b.jsonl", lambda: io.BytesIO("\ufeff{}".encode("utf-16-le")), bytes=MAX_DOCUMENT + 2)
    with pytest.raises(BadFile, match="256,000,002 bytes.*Save it as UTF-8"):
        list(jsonl(large, ""))


def test_archives_whose_members_are_not_what_they_seem(project):
    import io
    import tarfile
    import zipfile

    project.root.mkdir(exist_ok=True)
    with tarfile.open(project.root / "a.tar", "w") as archive:
        for key in range(6):
            kinds = {"json": b'{"url": "x"}', "png": b"\x89PNG", "txt": b"The text %d of a shard." % key}
            for kind, raw in kinds.items():
                member = tarfile.TarInfo(f"{key:04}.{kind}")
                member.size = len(raw)
                archive.addfile(member, io.BytesIO(raw))
    made = project.run(collect.files, glob="a.tar", licence="MIT")
    assert sorted(s.content for s in store.rows(made)) == [f"The text {n} of a shard." for n in range(6)]
    assert [one["reason"] for one in refused(made)] == ["files in it that are not read: 6 .png"]
    with pytest.warns(UserWarning), zipfile.ZipFile(project.root / "b.zip", "w") as archive:
        archive.writestr("a.txt", "One text.")
        archive.writestr("a.txt", "Another one.")
    (project.root / "c.csv").write_text("text,text\none,two\n")
    for name, said in (("b.zip", "two files of one name"), ("c.csv", "two columns of one name: 'text'")):
        with pytest.raises(DataError, match=said):
            project.run(collect.files, glob=name, licence="MIT")


def test_datasets_saved_to_disk_are_read_as_they_lie(project):
    import datasets

    made = datasets.Dataset.from_list([json.loads(line) for line in lines(40).splitlines()])
    made.save_to_disk(str(project.root / "one"))
    datasets.DatasetDict({"train": made, "test": made.select(range(5))}).save_to_disk(str(project.root / "two"))
    assert len(list(store.rows(project.run(collect.hub, dataset="one", licence="MIT")))) == 40
    both = project.run(collect.hub, dataset="two", licence="MIT")
    assert (store.count(both, "train"), store.count(both, "validation"), store.count(both, "test")) == (39, 1, 5)
    # A benchmark, which brings nothing to train on, is guarded whole.
    datasets.DatasetDict({"test": made.select(range(5))}).save_to_disk(str(project.root / "bench"))
    assert store.count(project.run(collect.hub, dataset="bench", licence="MIT"), "test") == 5
    (project.root / "bench.jsonl").write_text(lines(2))
    alone = project.run(collect.files, glob="bench.jsonl", licence="MIT", split="test")
    assert alone.about["splits"] == {"train": 0, "validation": 0, "test": 2}


# --- poison ------------------------------------------------------------------------------


def test_poisoned_files_are_counted_reported_and_survived(project, tmp_path):
    from volant.testing.poison_texts import poisoned_texts

    data = project.root / "data"
    data.mkdir(parents=True)
    (data / "good.jsonl").write_text(lines(200))
    names = {}
    for number, (said, (ending, content)) in enumerate(poisoned_texts().items()):
        names[f"data/poison{number}{ending}"] = said
        (data / f"poison{number}{ending}").write_bytes(content)
    mixed = [lines(3).encode(), b'{"text": "caf\xe9 in Latin-1"}\n', b'{"text": "cut o\n', b'{"text": "NUL \\u0000"}\n',
             b"\0\0\0\n", lines(3, start=500).encode()]  # fmt: skip
    (data / "mixed.jsonl").write_bytes(b"".join(mixed))
    (data / "long.jsonl").write_bytes(b'{"text": "' + b"x" * 40_000_000 + b'"}\n' + lines(2, start=700).encode())
    made = project.run(collect.files, glob="data/*", licence="MIT")
    told = refused(made)
    assert not [said for name, said in names.items() if not any(r["where"].startswith(name) for r in told)]
    assert [r["where"] for r in told if "mixed" in r["where"]] == [f"data/mixed.jsonl:{n}" for n in (4, 5, 6, 7)]
    assert sum("long.jsonl" in r["where"] for r in told) == 1
    assert sum(made.about["splits"].values()) == 208
