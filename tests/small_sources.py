"""Small sources of data for tests: a git repository, a database, a bucket."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path

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
