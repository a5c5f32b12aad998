"""`volant init`: a folder that `volant run` can run at once.

Enters: a template's name, and for `finetune` one's own data and a base. Leaves: a project folder; nothing
is written before everything was checked, and no file that is there already is touched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any

import typer

from volant.cli import present
from volant.cli.place import FILE
from volant.cli.samples import WRITERS
from volant.core.errors import DataError, SettingError, did_you_mean

TEMPLATES = ("docstrings", "digits", "patients", "finetune")
EXAMPLE_BASE = "Qwen/Qwen3-0.6B"
SHAPES = (
    ("messages", {"messages"}),
    ("ShareGPT", {"conversations"}),
    ("prompt/completion", {"prompt", "completion"}),
    ("Alpaca", {"instruction", "output"}),
)

OTHERWISE = (
    "Or leave --data out, put your files into the project's data/ in place of the example, and name them under `files` "
    "in volant.yaml: it reads CSV and JSON too, with `fields` and `encoding` (see volant methods collect.files)."
)


def _templates(incomplete: str) -> list[str]:
    return [name for name in TEMPLATES if name.startswith(incomplete)]


def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")] = Path(),
    template: Annotated[
        str,
        typer.Option(
            help="docstrings, digits, patients (learn the wheel) or finetune (your own data).",
            autocompletion=_templates,
        ),
    ] = "finetune",
    data: Annotated[
        Path | None, typer.Option(help="finetune: your JSONL; messages, prompt/completion, Alpaca or ShareGPT.")
    ] = None,
    base: Annotated[
        str, typer.Option(help="finetune: a local model directory, or a name on the Hugging Face hub.")
    ] = "",
    licence: Annotated[
        str, typer.Option(help="finetune: the licence of your data, as SPDX says it.")
    ] = "LicenseRef-own",
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="docstrings: train a base too, not the one that comes with Volant.")
    ] = False,
) -> None:
    """Make a project folder from a template.

    Examples:

        volant init first --template docstrings

        volant init whole --template docstrings --from-scratch

        volant init pictures --template digits

        volant init mine --template finetune --data my.jsonl --base ./Qwen3-0.6B
    """
    if template not in TEMPLATES:
        raise SettingError(f"there is no template {template!r}.", fix=did_you_mean(template, TEMPLATES))
    if template != "finetune" and (data or base):
        raise SettingError(
            f"--data and --base belong to the template finetune, not to {template}.", fix="Leave them out."
        )
    check_scratch(template, from_scratch)
    if (folder / FILE).exists():
        raise SettingError(f"{folder / FILE} is there already.", fix="Choose another folder.")
    shape = check_data(data) if data else ""
    local = Path(base).expanduser() if base else None
    if local and not local.is_dir() and (base.startswith((".", "/", "~")) or base.count("/") != 1):
        raise SettingError(
            f"{base!r} is neither a folder nor a hub name like owner/model.", where="--base", fix="Check the path."
        )
    if local and local.is_dir() and not any((local / name).is_file() for name in ("config.json", "model_index.json")):
        raise SettingError(
            f"{base!r} holds no config.json.",
            where="--base",
            fix="Name a folder that transformers has saved a model to.",
        )
    # The template's glob asks for this ending, whatever the file was called.
    place = folder / "data" / f"{data.stem}.jsonl" if data else None
    copies = [(data, place)] if data and place else []
    copies += [(local, folder / "base")] if local and local.is_dir() else []
    for given, there in copies:
        if there.exists() and not there.samefile(given):
            raise SettingError(f"{there} is there already.", fix="Choose another folder, or name what lies there.")
    filled = {"BASE": "base" if local and local.is_dir() else base or EXAMPLE_BASE, "LICENCE": licence}
    fill(template, folder, filled, skip_data=bool(data), from_scratch=from_scratch)
    if data and place and not place.exists():
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(data, place)
    if local and local.is_dir() and not (folder / "base").exists():
        adopt(local, folder / "base")
    _next_steps(folder, template, shape, base or EXAMPLE_BASE)


def check_scratch(template: str, from_scratch: bool) -> None:
    """Refuse `--from-scratch` where the template trains its own network anyway.

    Raises:
        SettingError: the template has no base that comes with Volant.
    """
    if from_scratch and template != "docstrings":
        what = f"--from-scratch belongs to the template docstrings, not to {template}."
        raise SettingError(what, fix="Leave it out, or add --template docstrings.")


def check_data(path: Path) -> str:
    """The shape of a JSONL file, read from its first record; every line has to be a JSON object.

    Raises:
        DataError: with the line and what was expected.
    """
    if path.is_dir():
        raise DataError("this is a folder; --data takes one JSONL file.", where=str(path), fix=OTHERWISE)
    if not path.is_file():
        raise DataError("there is no such file.", where=str(path), fix="Check the path after --data.")
    shape, records = "", 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}:{number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"no UTF-8: {error.reason}.", where=where, fix=f"Save it as UTF-8. {OTHERWISE}"
                ) from error
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                what = "this line by itself is no JSON"
                raise DataError(f"{what}: {error}.", where=where, fix=f"One JSON object a line. {OTHERWISE}") from error
            found = _shape(record, where)
            if shape and found != shape:
                raise DataError(
                    f"this record is {found}, the ones before are {shape}.", where=where, fix="Use one shape a file."
                )
            shape, records = found, records + 1
    if not records:
        raise DataError("the file holds no record.", where=str(path), fix="One JSON object a line.")
    return f"{records:,} record{'s' * (records != 1)}, shape {shape}"


def _shape(record: Any, where: str) -> str:
    if not isinstance(record, dict):
        what = f"this line is a {type(record).__name__}, no JSON object."
        raise DataError(what, where=where, fix=f"One JSON object a line. {OTHERWISE}")
    keys = set(record)
    for name, needed in SHAPES:
        if needed <= keys:
            return name
    known = "; ".join(f"{name}: {', '.join(sorted(needed))}" for name, needed in SHAPES)
    raise DataError(
        f"no known shape (found: {', '.join(sorted(keys)) or 'no keys'}).",
        where=where,
        fix=f"Expected {known}. {OTHERWISE}",
    )


def _plain_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._") or "project"


def fill(
    template: str,
    folder: Path,
    filled: Mapping[str, str] | None = None,
    *,
    skip_data: bool = False,
    from_scratch: bool = False,
) -> None:
    """Write a template into a folder; files that are there already stay as they are.

    Args:
        filled: what `@WORD@` in the template becomes; `@NAME@` is the folder's name.
        skip_data: leave the template's example data out.
        from_scratch: with the steps that train a base too, in place of the one that comes with Volant.
    """
    place = files("volant.cli") / "templates"
    if from_scratch and not (folder / FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        own = (place / f"{template}_from_scratch.yaml").read_text(encoding="utf-8")
        plain = (place / template / FILE).read_text(encoding="utf-8")
        (folder / FILE).write_text(other_steps(plain, own), encoding="utf-8")
    _write(
        place / template, folder, {"NAME": _plain_name(folder.resolve().name), **(filled or {})}, skip_data=skip_data
    )
    if template in WRITERS and not (folder / "data").exists():
        WRITERS[template](folder / "data")


_STEP = re.compile(r"^  (\w+): +\{use:")


def other_steps(text: str, others: str) -> str:
    """A project file in which some steps, a line each, are others; new ones stand before the step that follows them.

    >>> print(other_steps("steps:\\n  b: {use: x}\\n  c: {use: y}", "  a: {use: v}\\n  b: {use: w}"))
    steps:
      a: {use: v}
      b: {use: w}
      c: {use: y}
    """
    lines = text.split("\n")
    at = {found[1]: number for number, line in enumerate(lines) if (found := _STEP.match(line))}
    new: list[str] = []
    for line in others.split("\n"):
        found = _STEP.match(line)
        if found and found[1] in at:
            lines[at[found[1]]] = "\n".join([*new, line])
            new = []
        elif found:
            new.append(line)
    return "\n".join(lines)


def _write(source: Traversable, target: Path, filled: dict[str, str], *, skip_data: bool) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.name.startswith("__"):
            continue
        if entry.is_dir():
            if not (skip_data and entry.name == "data"):
                _write(entry, target / entry.name, filled, skip_data=skip_data)
            continue
        text = re.sub(r"@([A-Z]+)@", lambda m: filled.get(m[1], m[0]), entry.read_text(encoding="utf-8"))
        if not (target / entry.name).exists():
            (target / entry.name).write_text(text, encoding="utf-8")


def adopt(source: Path, target: Path) -> None:
    """Bring a model directory into the project: hard links where the file system allows it, else copies.

    A link would lead out of the project, which the file resolver refuses.
    """
    for file in sorted(f for f in source.resolve().rglob("*") if f.is_file()):
        place = target / file.relative_to(source.resolve())
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.resolve(), place)
        except OSError:
            shutil.copyfile(file, place)


def _next_steps(folder: Path, template: str, shape: str, base: str) -> None:
    present.say(f"Made {folder / FILE} from the template {template}.")
    if template == "finetune":
        present.say(f"Data: {shape or 'a few example records in data/; replace them with yours'}. Base: {base}.")
    go = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    ask = "generate" if template in ("digits", "patients") else "chat"
    present.say(f"Next:  {go}volant run     then: volant status, volant {ask}, volant serve")
