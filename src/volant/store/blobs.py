"""Artifacts by digest: written aside, fsynced, renamed. An artifact is there whole or not at all.

Enters: a directory that a method filled. Leaves: an immutable directory under its digest. Below the root:

    artifacts/<digest>/   payload and `artifact.json`
    views/<digest>/       a dataset without its test shards, hard-linked
    findings/<digest>/    what methods found of an artifact; may be lost, see `findings`
    tmp/                  work in progress; what a dead process left there is swept

Payload is hashed once, when it is sealed; `get` reads the card only, `verify` hashes again.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from volant.core.artifact import (
    CARD,
    KINDS,
    Artifact,
    Card,
    Dataset,
    FileEntry,
    entries_digest,
    file_sha256,
    payload_digest,
)
from volant.core.errors import ArtifactError
from volant.store import remote
from volant.store.disk import room, sync_file, sync_tree, tree_bytes
from volant.store.scratch import Scratch

A = TypeVar("A", bound=Artifact)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{4,64}")
SEALED = ("data/test-", "dropped/dropped-test-", "sketches/test-")
"""How the paths of shards begin that only `evaluate` may see; the names are given in `dataset.py`."""


class Store:
    """The artifacts of a project.

    Args:
        root: the directory that holds them (`<project>/.volant`); made when something is first written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.artifacts = root / "artifacts"
        self.views = root / "views"
        self._scratch = Scratch(root / "tmp")

    def scratch(self, name: str) -> Path:
        """A fresh empty directory on the store's file system, for one artifact in the making.

        Raises:
            MachineError: the disk is full.
        """
        with room(self.root, f"starting {name}"):
            return self._scratch.fresh(name)

    def sweep(self) -> int:
        """Remove what dead processes left in `tmp/`; returns the bytes freed. Live ones are never touched."""
        return self._scratch.sweep()

    # --- in ---------------------------------------------------------------------------------

    def seal(self, kind: type[A], path: Path, **card_fields: Any) -> A:
        """Turn a directory of `scratch` into an artifact; the directory moves.

        A payload that is stored already keeps its first card, and the new copy goes away (or takes the
        place of a stored one that is damaged).

        Args:
            kind: which of the six kinds it is.
            path: the directory; on an error it stays where it is.
            card_fields: fields of `Card` (`method`, `step`, `settings`, `parents`, `licences` ...).

        Raises:
            ArtifactError: the directory is empty, or holds something that is no plain file.
            MachineError: the disk is full; everything sealed before is untouched.
        """
        digest, entries = payload_digest(path)
        if not entries:
            raise ArtifactError(
                f"the method left no file for its {kind.kind}", where=str(path.name), fix="Write to run.out."
            )
        card_fields.setdefault("created_at", datetime.now(UTC).isoformat(timespec="seconds"))
        card = Card(kind=kind.kind, digest=digest, files=entries, **card_fields)
        with room(self.root, f"sealing {kind.kind} {digest[:12]}", card.size_bytes):
            self._install(path, card)
        stored = self.get(digest)
        if not isinstance(stored, kind):
            what = f"the same files are stored as a {stored.kind} already, not as a {kind.kind}"
            raise ArtifactError(
                f"{what}.", where=digest[:12], fix="Write at least one file that tells the kinds apart."
            )
        return stored

    def _install(self, path: Path, card: Card) -> None:
        """Give the directory its card and move it to its digest, durable at every step."""
        home = self.artifacts / card.digest
        if self.has(card.digest):
            if not self.verify(card.digest):
                shutil.rmtree(path)
                return
            self._retire(home)  # damaged: the fresh copy takes its place
        try:
            (path / CARD).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
            sync_tree(path)
            self.artifacts.mkdir(parents=True, exist_ok=True)
            path.rename(home)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process sealed the same work first
                shutil.rmtree(path)
                return
            (path / CARD).unlink(missing_ok=True)
            raise
        sync_file(self.artifacts)

    # --- out --------------------------------------------------------------------------------

    def get(self, digest_or_prefix: str) -> Artifact:
        """The artifact of that digest, or of the one digest that begins so; reads its card, hashes nothing.

        Raises:
            ArtifactError: there is none, there are several, or its card does not parse.
        """
        digest = self.resolve(digest_or_prefix)
        home = self.artifacts / digest
        try:
            card = Card.model_validate_json((home / CARD).read_bytes())
            return KINDS[card.kind](home, card)
        except FileNotFoundError as error:
            fix = "See `volant lineage`, or run the step again."
            raise ArtifactError(f"there is no artifact {digest[:12]}", where=str(self.root), fix=fix) from error
        except (OSError, ValidationError, KeyError) as error:
            what = f"the card does not parse: {str(error).splitlines()[0]}"
            raise ArtifactError(what, where=str(home / CARD), fix="Run `volant verify`.") from error

    def resolve(self, digest_or_prefix: str) -> str:
        """The whole digest that a prefix of at least four hex digits stands for.

        Raises:
            ArtifactError: no artifact begins so, several do, or it is no hex number.
        """
        if _DIGEST.fullmatch(digest_or_prefix):
            return digest_or_prefix
        where = repr(digest_or_prefix)
        if not _PREFIX.fullmatch(digest_or_prefix):
            raise ArtifactError("it is no digest", where=where, fix="Give at least 4 of its hex digits.")
        found = [digest for digest in self.digests() if digest.startswith(digest_or_prefix)]
        if not found:
            raise ArtifactError("no artifact's digest begins so", where=where, fix="See `volant status`.")
        if len(found) > 1:
            listed = ", ".join(digest[: len(digest_or_prefix) + 6] for digest in found[:4])
            raise ArtifactError(f"{len(found)} artifacts begin so: {listed}", where=where, fix="Give more digits.")
        return found[0]

    def has(self, digest: str) -> bool:
        """Whether the artifact of that whole digest is stored."""
        return bool(_DIGEST.fullmatch(digest)) and (self.artifacts / digest / CARD).is_file()

    def digests(self) -> list[str]:
        """Every stored digest, sorted."""
        if not self.artifacts.is_dir():
            return []
        return sorted(entry.name for entry in os.scandir(self.artifacts) if _DIGEST.fullmatch(entry.name))

    def verify(self, digest: str) -> list[str]:
        """Hash an artifact again; one line for each problem, naming the file. Empty: it is what it says.

        Raises:
            ArtifactError: there is no such artifact.
        """
        if not (self.artifacts / digest).is_dir():
            raise ArtifactError(f"there is no artifact {digest[:12]}", where=str(self.root), fix="See `volant status`.")
        try:
            card = self.get(digest).card
        except ArtifactError as error:
            return [f"{CARD}: {error.what}"]
        assert card is not None
        problems = _differences(self.artifacts / digest, card.files)
        if entries_digest(card.files) != digest or card.digest != digest:
            problems.append(f"{CARD}: its list of files does not hash to {digest[:12]}")
        return problems

    def view(self, data: Dataset) -> Dataset:
        """The dataset without its test shards: hard links in `views/`, with the card and so the digest kept.

        A dataset that has none is returned as it is.

        Raises:
            MachineError: the disk is full.
        """
        hidden = [f for f in data.path.rglob("*") if f.relative_to(data.path).as_posix().startswith(SEALED)]
        if not hidden:
            return data
        home = self.views / data.digest
        if not home.is_dir():
            with room(self.root, f"making a view of {data.digest[:12]}"):
                self._link_view(data, home, set(hidden))
        return Dataset(home, data.card)

    def _link_view(self, data: Dataset, home: Path, hidden: set[Path]) -> None:
        draft = self._scratch.fresh("view")
        for file in data.path.rglob("*"):
            target = draft / file.relative_to(data.path)
            if file.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif file not in hidden:
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    target.hardlink_to(file)
                except OSError as error:
                    if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP):
                        raise
                    shutil.copyfile(file, target)  # a file system without links
        home.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.rename(home)
        except OSError:
            if not home.is_dir():
                raise
            shutil.rmtree(draft)  # another process made the same view

    # --- away -------------------------------------------------------------------------------

    def delete(self, digest: str) -> int:
        """Remove an artifact and its view; returns the bytes freed. It vanishes in one rename.

        Raises:
            ArtifactError: there is no such artifact.
        """
        home = self.artifacts / digest
        if not (_DIGEST.fullmatch(digest) and home.is_dir()):
            raise ArtifactError(f"there is no artifact {digest[:12]}", where=str(self.root), fix="See `volant status`.")
        size = tree_bytes(home)
        self._retire(home)
        if (self.views / digest).is_dir():
            self._retire(self.views / digest)
        return size

    def _retire(self, home: Path) -> None:
        grave = self._scratch.fresh("gone")
        home.rename(grave / home.name)
        shutil.rmtree(grave)

    # --- elsewhere --------------------------------------------------------------------------

    def push(self, url: str, digests: list[str]) -> list[str]:
        """Copy artifacts to any fsspec address (`s3://bucket/folder`); returns those that were not there yet.

        Raises:
            ArtifactError: one of them is not stored here, or is damaged.
            RemoteError: the address does not answer.
            MissingPackage: the address needs a package that is not installed.
        """
        sent = []
        for digest in map(self.resolve, digests):
            problems = self.verify(digest)
            if problems:
                raise ArtifactError(f"it is damaged: {problems[0]}", where=digest[:12], fix="Run its step again.")
            if remote.push(url, self.artifacts / digest):
                sent.append(digest)
        return sent

    def pull(self, url: str, digests: list[str]) -> list[str]:
        """Copy artifacts from an fsspec address; returns those that were not here yet.

        Every byte is hashed before the artifact becomes visible.

        Raises:
            ArtifactError: it is not there, or what came is not what the digest says.
            RemoteError: the address does not answer.
            MissingPackage: the address needs a package that is not installed.
        """
        came = []
        for digest in digests:
            if not _DIGEST.fullmatch(digest):
                raise ArtifactError("it is no whole digest", where=repr(digest), fix="Give all 64 hex digits.")
            if self.has(digest):
                continue
            draft = self._scratch.fresh("pull")
            try:
                with room(self.root, f"pulling {digest[:12]}"):
                    card = remote.pull(url, digest, draft)
                    if payload_digest(draft)[0] != digest:
                        raise ArtifactError("what came does not hash to its digest", where=url, fix="Push it again.")
                    self._install(draft, card)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
            came.append(digest)
        return came


def _differences(home: Path, entries: list[FileEntry]) -> list[str]:
    problems = []
    for entry in entries:
        file = home / entry.path
        if not file.is_file():
            problems.append(f"{entry.path}: missing")
        elif file.stat().st_size != entry.bytes:
            problems.append(f"{entry.path}: {file.stat().st_size} bytes, should be {entry.bytes}")
        elif (found := file_sha256(file)) != entry.sha256:
            problems.append(f"{entry.path}: altered, sha256 is {found[:12]}, should be {entry.sha256[:12]}")
    known = {entry.path for entry in entries} | {CARD}
    for file in sorted(home.rglob("*")):
        name = file.relative_to(home).as_posix()
        if not file.is_dir() and name not in known:
            problems.append(f"{name}: does not belong to the artifact")
    return problems
