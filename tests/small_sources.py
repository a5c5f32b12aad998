"""Small sources of data for tests: a git repository, a database, a bucket."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

MIT = """MIT License

Copyright (c) 2024 The authors

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
FILES = {"LICENSE": MIT} | {
    f"src/part{n}.py": f'"""Part {n}: what it does."""\n\n\ndef part{n}(x):\n    return x + {n}\n' for n in range(16)
}


def repository(folder: Path, files: Mapping[str, str | bytes] = FILES) -> str:
    """Make a repository with one commit of these files; returns the commit's name, the same each time."""
    folder.mkdir(parents=True)
    run_git(folder, "init", "--quiet", "--initial-branch=main", "--template=")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return commit(folder)


def commit(folder: Path) -> str:
    """Commit all that lies in the folder; the commit's name."""
    run_git(folder, "add", "--all")
    run_git(folder, "commit", "--quiet", "-m", "A commit", "--no-gpg-sign")
    return run_git(folder, "rev-parse", "HEAD").strip()


def run_git(folder: Path, *arguments: str) -> str:
    """Run git with a fixed author and date, and nobody's configuration."""
    fixed = {
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@b", "GIT_AUTHOR_DATE": "2024-05-06T07:08:09Z",
        "GIT_COMMITTER_DATE": "2024-05-06T07:08:09Z",
    }  # fmt: skip
    done = subprocess.run(["git", "-C", str(folder), *arguments], env={**os.environ, **fixed}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def database(file: Path, rows: int = 40) -> str:
    """A SQLite file with questions and answers, ids not in their order; returns its name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    made = sqlite3.connect(file)
    with made:
        made.execute("CREATE TABLE asked (id INTEGER PRIMARY KEY, who TEXT, question TEXT, answer TEXT)")
        for n in sorted(range(1, rows + 1), key=lambda n: n * 7 % 11):
            values = (n, f"who{n % 9}", f"What is {n} times {n % 13}?", f"It is {n * (n % 13)}.")
            made.execute("INSERT INTO asked VALUES (?, ?, ?, ?)", values)
    made.close()
    return file.name


class SmallS3(BaseHTTPRequestHandler):
    """As much of S3 as reading takes: pages of a listing, heads and objects. `objects` is set on a subclass."""

    objects: dict[str, bytes] = {}
    page = 3
    asked: list[str] = []
    dies_at = ""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """A head is a get without its body."""
        self.do_GET()

    def do_GET(self) -> None:
        """A listing where no object is named, else the object."""
        place = urlsplit(self.path)
        bucket, _, key = unquote(place.path).lstrip("/").partition("/")
        self.asked.append(f"{self.command} {key}")
        if not key:
            self._answer(200, self._listing(bucket, {n: v[0] for n, v in parse_qs(place.query).items()}))
        elif key == self.dies_at and self.command == "GET":
            self._answer(403, b"<Error><Code>AccessDenied</Code><Message>No.</Message></Error>")
        elif key in self.objects:
            raw = self.objects[key]
            first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
            part = raw[int(first) : int(last) + 1 if last else None] if first else raw
            span = {"Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(raw)}"} if first else {}
            self._answer(206 if first else 200, part, ETag=self._tag(key), **span)
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>It is not there.</Message></Error>")

    def _tag(self, key: str) -> str:
        return f'"{hashlib.md5(self.objects[key]).hexdigest()}"'

    def _listing(self, bucket: str, query: dict[str, str]) -> bytes:
        prefix, cut = query.get("prefix", ""), query.get("delimiter", "")
        names = sorted(name for name in self.objects if name.startswith(prefix))
        folders: list[str] = []
        if cut:
            below = {n: n[len(prefix) :].partition(cut) for n in names}
            folders = sorted({prefix + first + cut for first, found, _ in below.values() if found})
            names = [n for n in names if not below[n][1]]
        start = int(query.get("continuation-token", "0"))
        shown = names[start : start + self.page]
        more = start + self.page < len(names)
        token = f"<NextContinuationToken>{start + self.page}</NextContinuationToken>" if more else ""
        rows = "".join(
            f"<Contents><Key>{escape(n)}</Key><LastModified>2024-05-06T07:08:09.000Z</LastModified>"
            f"<ETag>{escape(self._tag(n))}</ETag><Size>{len(self.objects[n])}</Size></Contents>"
            for n in shown
        )
        parts = "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders)
        head = f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(shown)}</KeyCount>"
        cut_off = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        return f"<ListBucketResult>{head}{cut_off}{token}{rows}{parts}</ListBucketResult>".encode()

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        known = {"Content-Length": str(len(body)), "Last-Modified": "Mon, 06 May 2024 07:08:09 GMT", **headers}
        for name, value in known.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
