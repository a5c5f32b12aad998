"""Fresh or stale is two keys.

`inputs`: settings, snapshots, input digests, seed, the parts of the goal that the method reads, and
the names and versions of the families, modalities, scorers and engines it uses. Different: it runs.

`code`: the syntax trees, without docstrings, of the method, of its stage's files that it imports, and of
those of nets, scorers, modalities and engines, also of what is opened by name: the goal's modality, and the
family and engine of a model that goes in. Different in the user's own method: it runs. Different in
Volant's own files: shown as *fresh, made by older code*, and run with `--refresh`.

Both are read from the source without importing it, and kept by size and mtime.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

import volant
from volant.core.method import Method
from volant.core.outside import Snapshot
from volant.core.spec import Goal
from volant.project.cache import read_cache, write_cache

PARTS = ("nets", "scorers", "modalities", "engines", "stages")
ROOT = Path(volant.__file__).parent


@dataclass
class FileFacts:
    """What one source file contributes: its tree's hash, what it imports, its version, what it reads of the run."""

    tree: str
    imports: list[str]
    version: str
    goal: list[str]
    reads: list[str]
    packages: list[str]


@dataclass
class Code:
    """A method's code: the digest over all its files, versions by module, and what it reads of the run."""

    digest: str
    versions: dict[str, str] = field(default_factory=dict)
    goal: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)


class CodeReader:
    """Reads code facts, remembering them by size and mtime."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._changed = False
        self._codes: dict[tuple[str, frozenset[str]], Code] = {}
        self._files: dict[Path, tuple[str, FileFacts, list[Path]]] = {}

    @cached_property
    def _known(self) -> dict[str, Any]:
        return read_cache(self.cache)

    def of(self, method: Method, opened: Collection[str] = ()) -> Code:
        """The code of a method; read once in the life of this reader.

        Args:
            method: where reading starts.
            opened: modules that are opened by name (`volant.modalities.text`): each is read where code imports the
                package that opens it.
        """
        key = method.name, frozenset(opened)
        if key not in self._codes:
            self._codes[key] = self._read(method, opened)
        return self._codes[key]

    def _read(self, method: Method, opened: Collection[str]) -> Code:
        by_name = [path for name in opened if (path := _module_file(name)) is not None]
        start = Path(inspect.getfile(method.function))
        todo, done = [start], set[Path]()
        seen: dict[str, FileFacts] = {}
        while todo:
            path = todo.pop()
            if path in done:
                continue
            done.add(path)
            shown, seen[shown], imported = self._file(path)
            todo += imported
            if path.name == "__init__.py":
                todo += [found for found in by_name if found.parent == path.parent]
        total, seen = hashlib.sha256(), dict(sorted(seen.items()))
        for shown, facts in seen.items():
            total.update(f"{shown}\0{facts.tree}\n".encode())
        return Code(
            digest=total.hexdigest(),
            versions={shown: facts.version for shown, facts in seen.items() if facts.version},
            goal=sorted({name for facts in seen.values() for name in facts.goal}),
            reads=sorted({name for facts in seen.values() for name in facts.reads}),
            packages=sorted({name for facts in seen.values() for name in facts.packages}),
        )

    def _file(self, path: Path) -> tuple[str, FileFacts, list[Path]]:
        """A file's name, its facts and the files that it imports; methods share most files, so each is read once."""
        if path not in self._files:
            facts = self._facts(path)
            imported = [found for name in facts.imports if (found := _module_file(name)) is not None]
            self._files[path] = _shown(path), facts, imported
        return self._files[path]

    def _facts(self, path: Path) -> FileFacts:
        stat = path.stat()
        mark = [stat.st_size, stat.st_mtime_ns]
        known = self._known.get(str(path))
        if known and known["mark"] == mark:
            return FileFacts(**known["facts"])
        facts = _read_once(path, *mark)
        self._known[str(path)] = {"mark": mark, "facts": vars(facts)}
        self._changed = True
        return facts

    def save(self) -> None:
        """Write the cache if it changed."""
        if self._changed:
            write_cache(self.cache, self._known)
            self._changed = False


@lru_cache(maxsize=4096)
def _read_once(path: Path, size: int, mtime: int) -> FileFacts:
    """The facts of one file; a second store in the same process does not read it again."""
    return read_facts(path.read_text(encoding="utf-8"))


def read_facts(source: str) -> FileFacts:
    """The facts of one source text; docstrings and comments do not count."""
    tree = ast.parse(source)
    imports: set[str] = set()
    goal: set[str] = set()
    reads: set[str] = set()
    version = ""
    told: set[ast.expr] = set()  # a `goal` whose field is read; a tree is walked from the outside in
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Attribute) and node.value.attr == "goal":
                goal.add(node.attr)
                told.add(node.value)
            if node.attr == "goal" and node not in told:
                goal.add("*")
            if node.attr in ("spec_steps", "remembered", "forgotten"):
                reads.add(node.attr)
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imports |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(getattr(t, "id", "") in ("version", "VERSION") for t in targets) and node.value is not None:
                version += ast.unparse(node.value) + ";"
        _drop_docstring(node)
    packages = {name.split(".")[0] for name in imports} - set(sys.stdlib_module_names) - {"volant"} - _optional(tree)
    imports = {name for name in imports if name.startswith(tuple(f"volant.{part}" for part in PARTS))}
    tree_hash = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    return FileFacts(tree_hash, sorted(imports), version, sorted(goal), sorted(reads), sorted(packages))


def _optional(tree: ast.Module) -> set[str]:
    """Packages imported under `try`: the code copes without them."""
    found: set[str] = set()
    for attempt in (node for node in ast.walk(tree) if isinstance(node, ast.Try)):
        for node in ast.walk(attempt):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


def _drop_docstring(node: ast.AST) -> None:
    if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.body:
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:] or [ast.Pass()]


def _module_file(name: str) -> Path | None:
    """The file of `volant.nets.loop`, without importing it; None for a name inside a module."""
    path = ROOT.joinpath(*name.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def key_parts(
    method: Method,
    code: Code,
    *,
    settings: dict[str, Any],
    inputs: dict[str, list[str]],
    outside: dict[str, Snapshot],
    seed: int,
    goal: Goal,
    modality: str,
    spec_steps: list[Any],
    forgotten: Collection[str] = (),
) -> dict[str, Any]:
    """What the inputs key hashes, part by part, so that a stale step can say which part changed."""
    wanted = goal.model_dump(mode="json")
    parts: dict[str, Any] = {
        "method": method.name,
        "settings": to_jsonable_python(settings),
        "inputs": inputs,
        "outside": {name: snapshot.digest for name, snapshot in sorted(outside.items())},
        "seed": seed,
        "modality": modality,
        "versions": code.versions,
        # A property (`goal.targets`) or the goal as a whole stands for all of it.
        "goal": {name: wanted[name] for name in code.goal} if set(code.goal) <= set(wanted) else wanted,
        "python": list(sys.version_info[:3]) if method.stage == "collect" else [],
    }
    if "spec_steps" in code.reads:
        parts["steps"] = to_jsonable_python(spec_steps)
    if forgotten and {"remembered", "forgotten"} & set(code.reads):
        parts["forgotten"] = hashlib.sha256("\n".join(sorted(forgotten)).encode()).hexdigest()
    if not method.builtin:
        parts["code"] = code.digest
    return parts


def inputs_key(parts: dict[str, Any]) -> str:
    """The inputs key of a call."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
