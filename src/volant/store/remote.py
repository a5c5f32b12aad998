"""Artifacts and files at another address: any file system that fsspec opens (S3, a share, a local directory).

Enters: an address and a sealed directory. Leaves: the same files under `<address>/artifacts/<digest>/`; or the
names of what lies below an address, and single files of it. The card is written last and read first, so a half-copied
artifact is never taken for a whole one. What comes back is not trusted: names are checked here, hashes by the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pydantic import ValidationError

from volant.core.artifact import CARD, Card
from volant.core.errors import ArtifactError, MissingPackage, RemoteError, VolantError
from volant.store.disk import is_full


def push(url: str, home: Path) -> bool:
    """Copy a sealed directory to the address; False where it was already there.

    Raises:
        RemoteError: the address does not answer.
        MissingPackage: the address needs a package that is not installed.
    """
    with _answers(url):
        system, base = _open(url)
        there = f"{base}/artifacts/{home.name}"
        if system.exists(f"{there}/{CARD}"):
            return False
        files = sorted((file for file in home.rglob("*") if file.is_file()), key=lambda file: file.name == CARD)
        for file in files:
            name = f"{there}/{file.relative_to(home).as_posix()}"
            system.makedirs(name.rpartition("/")[0], exist_ok=True)
            system.put_file(str(file), name)
    return True


def pull(url: str, digest: str, draft: Path) -> Card:
    """Copy an artifact's payload from the address into `draft`; returns its card, not yet checked by hash.

    Raises:
        ArtifactError: it is not there, or its card names files outside of it.
        RemoteError: the address does not answer.
        MissingPackage: the address needs a package that is not installed.
    """
    with _answers(url):
        system, base = _open(url)
        there = f"{base}/artifacts/{digest}"
        if not system.exists(f"{there}/{CARD}"):
            raise ArtifactError(f"there is no artifact {digest[:12]}", where=url, fix="Push it first.")
        try:
            card = Card.model_validate_json(system.cat_file(f"{there}/{CARD}"))
        except ValidationError as error:
            raise ArtifactError(
                "its card does not parse", where=f"{url} {digest[:12]}", fix="Push it again."
            ) from error
        for entry in card.files:
            name = PurePosixPath(entry.path)
            if name.is_absolute() or ".." in name.parts or "\\" in entry.path:
                raise ArtifactError(
                    f"its card names {entry.path!r}, which leaves it", where=url, fix="Do not trust it."
                )
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            system.get_file(f"{there}/{entry.path}", str(draft / name))
    if card.digest != digest:
        raise ArtifactError("its card is another artifact's", where=f"{url} {digest[:12]}", fix="Push it again.")
    return card


class Listed(NamedTuple):
    """A file at an address.

    Attributes:
        name: below the address.
        version: what tells it from a later one of the same size (an ETag); empty where the address says nothing.
        path: what the address calls it.
    """

    name: str
    bytes: int
    version: str
    path: str


def listing(url: str) -> list[Listed]:
    """What lies below an address, sorted by name; directories and empty markers of them are left out.

    Raises:
        RemoteError: the address does not answer.
        MissingPackage: the address needs a package that is not installed.
    """
    with _answers(url):
        system, base = _open(url)
        system.invalidate_cache()
        found = []
        for path, about in system.find(base, detail=True).items():
            name = path.removeprefix(base).lstrip("/") or path.rpartition("/")[2]
            version = about.get("ETag") or about.get("etag") or about.get("mtime") or about.get("created") or ""
            if about.get("type") == "file" and not path.endswith("/"):
                found.append(Listed(name, int(about.get("size") or 0), str(version).strip('"'), path))
    return sorted(found)


def fetch(url: str, one: Listed, target: Path) -> None:
    """Copy a file that `listing` named to `target`, which appears whole or not at all.

    Raises:
        RemoteError: the address does not answer.
    """
    draft = target.with_name(f"{target.name}.part")
    with _answers(url):
        _open(url)[0].get_file(one.path, str(draft))
        draft.rename(target)


def _open(url: str) -> tuple[Any, str]:
    import fsspec  # loads network clients for some addresses: only when one is used

    system, base = fsspec.core.url_to_fs(url)
    return system, base.rstrip("/")


@contextmanager
def _answers(url: str) -> Iterator[None]:
    scheme = url.split("://", maxsplit=1)[0] if "://" in url else "file"
    try:
        yield
    except VolantError:
        raise
    except ImportError as error:
        extra = "pip install 'volant[s3]'" if scheme in ("s3", "s3a") else f"Install fsspec's package for {scheme!r}."
        raise MissingPackage(f"{scheme} addresses need a package: {error}.", where=url, fix=extra) from error
    except Exception as error:  # every file system of fsspec has its own errors
        if is_full(error):
            raise
        what = f"the address does not answer: {type(error).__name__}: {error}."
        raise RemoteError(what, where=url, fix="Check the address and the credentials.") from error
