"""Sources of data beside plain files: links that lead out, git repositories, queries, buckets; one set of terms."""

import json
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

import small_sources
from volant.core.errors import DataError, LicenceError, PathError, RemoteError, SettingError
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
