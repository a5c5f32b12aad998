"""A git repository as a store of files, read without a working tree: no hook, filter or submodule of it ever runs.

In go a directory or a web address and a commit; out come the names, kinds and bytes of what the commit tracks. Git
runs as a child process that reads no configuration but the repository's own, may speak to no server while it
reads, and to the web alone while it fetches. A fetched repository is kept in the step's scratch directory.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from volant.core import Run
from volant.core.errors import DataError, MissingPackage, RemoteError, SettingError

COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_NO_CODE = [
    "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "safe.directory=*", "-c", "gc.auto=0",
    "-c", "maintenance.auto=false", "-c", "credential.helper=", "-c", "submodule.recurse=false",
]  # fmt: skip


class Entry(NamedTuple):
    """What a commit tracks under a name: `mode` tells a file (100644, 100755) from a link and a submodule."""

    mode: str
    object: str
    bytes: int
    name: str


@dataclass(frozen=True)
class Repository:
    """A repository on this machine.

    Attributes:
        folder: its directory.
        name: what records call it: the web address, or the directory's own name.
    """

    folder: Path
    name: str

    def date(self, commit: str) -> str:
        """The day on which the commit was made (UTC)."""
        # Not by `git show`, which a repository's configuration can have a program run.
        head = _git(self.folder, "cat-file", "commit", commit).partition(b"\n\n")[0]
        told = re.search(rb"^committer .*> (\d+) [+-]\d+$", head, re.MULTILINE)
        seconds = int(told[1]) if told else 0
        return datetime.fromtimestamp(seconds, UTC).date().isoformat() if 0 < seconds < 1 << 33 else ""

    def tree(self, commit: str) -> list[Entry]:
        """What the commit tracks, in git's order."""
        listed = _git(self.folder, "ls-tree", "-r", "-z", "-l", "--full-tree", commit)
        entries = []
        for line in listed.split(b"\0")[:-1]:
            facts, _, name = line.partition(b"\t")
            mode, _, sha, size = facts.decode().split()
            entries.append(Entry(mode, sha, int(size) if size.isdigit() else 0, name.decode("utf-8", "replace")))
        return entries

    @contextmanager
    def opened(self) -> Iterator[Blobs]:
        """Read the bytes of many entries through one child process."""
        command = [*_command(self.folder), "cat-file", "--batch"]
        child = subprocess.Popen(command, env=_environment(self.folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL)  # fmt: skip
        assert child.stdin and child.stdout
        try:
            yield Blobs(child.stdin, child.stdout)
        finally:
            child.kill()
            child.wait()
            child.stdin.close()
            child.stdout.close()


class Blobs:
    """Bytes of entries, one after the other."""

    def __init__(self, ask: IO[bytes], answer: IO[bytes]) -> None:
        self._ask, self._answer = ask, answer

    def bytes_of(self, entry: Entry) -> bytes:
        """All bytes of an entry.

        Raises:
            DataError: the repository lacks it (a partial clone), or is damaged.
        """
        self._ask.write(f"{entry.object}\n".encode())
        self._ask.flush()
        told = self._answer.readline().split()
        if len(told) != 3 or told[1] != b"blob":
            raise DataError("the repository does not hold it.", where=entry.name, fix="Clone it whole (`git fsck`).")
        raw = self._answer.read(int(told[2]))
        if len(raw) != int(told[2]) or self._answer.read(1) != b"\n":
            raise DataError("the repository is damaged.", where=entry.name, fix="Look with `git fsck`.")
        return raw


def opened(run: Run, address: str, commit: str) -> Repository:
    """The repository with that commit in it; one on the web is fetched first, once.

    Raises:
        SettingError: the address is none that is fetched, or `commit` is no commit's full name.
        DataError: there is no repository, or it lacks the commit.
        RemoteError: the web address does not answer.
        MissingPackage: git is not installed.
    """
    if shutil.which("git") is None:
        raise MissingPackage("git is not installed.", where="repository", fix="Install it (Debian: apt install git).")
    parts = urlsplit(address)
    if parts.scheme in ("http", "https") and parts.hostname:
        if parts.username or parts.password or parts.query or parts.fragment:
            fix = "Clone it yourself and name the directory; keys belong into no record."
            raise SettingError("the address holds more than a place.", where="repository", fix=fix)
        return _fetched(run, address, commit)
    if "://" in address or re.match(r"[\w.-]+@?[\w.-]*:", address):
        fix = "Clone it yourself and name the directory."
        raise SettingError(f"{address!r} is no web address.", where="repository", fix=fix)
    folder = run.resolver.resolve(address)
    if not folder.is_dir():
        raise DataError(f"there is no folder {address!r}.", where="repository", fix="It is relative to the project.")
    name = folder.name
    if _run(folder, "rev-parse", "--git-dir").returncode or (not (folder / ".git").exists() and not _bare(folder)):
        raise DataError(f"{address!r} is no git repository.", where="repository", fix="Name the directory of one.")
    _check_commit(commit, _resolved(folder, commit))
    if _run(folder, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise DataError(f"it has no commit {commit[:12]}.", where=address, fix="Fetch it: git fetch --all.")
    return Repository(folder, name)


def _bare(folder: Path) -> bool:
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir()


def _resolved(folder: Path, revision: str) -> str:
    """The commit that a branch or tag stands for now; empty for none."""
    found = _run(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision or 'HEAD'}^{{commit}}")
    return found.stdout.decode().strip()


def _check_commit(commit: str, now: str) -> None:
    if not COMMIT.fullmatch(commit):
        what = f"{commit!r} is no full name of a commit; a branch or tag would mean something else tomorrow."
        raise SettingError(what, where="commit", fix=f"Today it is {now}." if now else "See `git log`.")


def _fetched(run: Run, address: str, commit: str) -> Repository:
    """Fetch one commit without its history, or all where a server does not give single commits."""
    if not COMMIT.fullmatch(commit):
        listed = _run(run.work, "ls-remote", "--", address, commit or "HEAD", allow="http:https")
        _check_commit(commit, listed.stdout.decode().split("\t")[0].strip())
    folder, draft = run.work / "repository.git", run.work / "repository.part"
    if not folder.is_dir():
        shutil.rmtree(draft, ignore_errors=True)  # of a run that was killed
        run.say(f"fetching {commit[:12]} of {address}")
        _git(run.work, "init", "--quiet", "--bare", "--template=", str(draft))
        quiet = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
        told = _run(draft, "fetch", *quiet, "--depth=1", "--", address, commit, allow="http:https")
        if told.returncode:
            told = _run(draft, "fetch", *quiet, "--", address, "+refs/*:refs/fetched/*", allow="http:https")
        if told.returncode:
            run.check_stop()  # Ctrl-C ends git as well
            first = told.stderr.decode("utf-8", "replace").strip().split("\n")[0]
            raise RemoteError(f"it cannot be fetched: {first}", where=address, fix="Check address and network.")
        draft.rename(folder)
    if _run(folder, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise DataError(f"it has no commit {commit[:12]}.", where=address, fix="Check the commit's name.")
    return Repository(folder, re.sub(r"^https?://", "", address).removesuffix("/").removesuffix(".git"))


def _git(folder: Path, *arguments: str) -> bytes:
    done = _run(folder, *arguments)
    if done.returncode:
        first = done.stderr.decode("utf-8", "replace").strip().split("\n")[0]
        raise DataError(f"git cannot read it: {first}.", where="repository", fix="Look with `git fsck`.")
    return done.stdout


def _run(folder: Path, *arguments: str, allow: str = "none") -> subprocess.CompletedProcess[bytes]:
    command, surroundings = [*_command(folder), *arguments], _environment(folder, allow)
    return subprocess.run(command, env=surroundings, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _command(folder: Path) -> list[str]:
    return ["git", "-C", str(folder), *_NO_CODE]


def _environment(folder: Path, allow: str = "none") -> dict[str, str]:
    """Nothing of the user's configuration, no question asked, and only the named protocols."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "",
        "GIT_ALLOW_PROTOCOL": allow,
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1", "GIT_ATTR_NOSYSTEM": "1", "LC_ALL": "C", "TZ": "UTC",
    }  # fmt: skip
