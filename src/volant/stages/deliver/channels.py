"""Where content goes: single files, and one static page that grows.

Enters: a sample. Leaves: a receipt that says where it lies now, or why it was refused. Both channels
write by rename, so that a reader never sees half a file, and deliver a sample once: what lies there
under its id already is left as it is. Content that waits for a person, or that was dropped, is refused.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from volant.core.errors import ArtifactError
from volant.core.protocols import Channel, Receipt
from volant.core.sample import Sample
from volant.stages.deliver import marking

Form = Literal["markdown", "html", "json"]
SUFFIX: dict[str, str] = {"markdown": ".md", "html": ".html", "json": ".json"}
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def refusal(sample: Sample) -> str:
    """Why a sample must not go out; empty where it may."""
    if sample.drop:
        return sample.drop
    approval = sample.attrs.get("approval", "none")
    if approval not in ("none", "approved"):
        return "a person has not approved it" if approval == "pending" else f"a person said no ({approval})"
    if not _NAME.fullmatch(sample.id) or sample.id.startswith("."):
        return "its id cannot be a file name"
    return "" if content_of(sample).strip() else "it is empty"


def content_of(sample: Sample) -> str:
    """What was generated: the completion, or the text."""
    return (sample.target if sample.shape == "completion" else sample.content) or ""


class File:
    """One file a sample, in `folder`.

    Args:
        folder: where the files go; made when the first one comes.
        form: `markdown`, `html` or `json`.
    """

    name = "file"

    def __init__(self, folder: Path, form: Form = "markdown") -> None:
        self.folder, self.form = folder, form

    def send(self, sample: Sample) -> Receipt:
        """Write the sample's file, unless it lies there already."""
        if why := refusal(sample):
            return Receipt(sample.id, refused=why)
        name = f"{sample.id}{SUFFIX[self.form]}"
        if not (self.folder / name).exists():
            write_whole(self.folder / name, rendered([sample], self.form))
        return Receipt(sample.id, where=name)


class Page:
    """One page with all samples that were ever sent to it; `items.json` beside it is its memory.

    Args:
        folder: where `index.html` and `items.json` lie.
        title: of the page.
    """

    name = "page"

    def __init__(self, folder: Path, title: str) -> None:
        self.folder, self.title = folder, title

    def send(self, sample: Sample) -> Receipt:
        """Put the sample on the page, unless it stands there already."""
        if why := refusal(sample):
            return Receipt(sample.id, refused=why)
        items = self._items()
        page = self.folder / "index.html"
        if all(item["id"] != sample.id for item in items):
            items.append(item_of(sample))
            write_whole(self.folder / "items.json", json_text({"title": self.title, "items": items}))
        # After a kill between the two writes the memory has the sample and the page does not.
        if not page.exists() or f'<article id="{sample.id}">' not in page.read_text(encoding="utf-8"):
            write_whole(page, page_of(self.title, items))
        return Receipt(sample.id, where=f"index.html#{sample.id}")

    def _items(self) -> list[dict[str, Any]]:
        memory = self.folder / "items.json"
        if not memory.exists():
            return []
        try:
            items: list[dict[str, Any]] = json.loads(memory.read_text(encoding="utf-8"))["items"]
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"the page's memory does not parse: {error}", where=str(memory), fix="Mend or delete it."
            ) from error
        return items


def item_of(sample: Sample) -> dict[str, Any]:
    """What a page or a JSON file keeps of a sample, marked as generated."""
    return {
        "id": sample.id,
        "prompt": sample.condition or "",
        "completion": content_of(sample),
        "checks": {label.name: label.value for label in sample.labels if label.by == "deliver.generate"},
        "approved_by": sample.attrs.get("approved_by", ""),
        **marking.fields(str(sample.attrs.get("model", ""))),
    }


def rendered(samples: Sequence[Sample], form: Form, title: str = "Generated content") -> str:
    """Samples in a form, marked for people and for programs; JSON is readable by `collect.files` again."""
    items = [item_of(sample) for sample in samples]
    if form == "json":
        return json_text(items)
    if form == "html":
        return page_of(title, items)
    models = sorted({str(item["model"]) for item in items})
    asked = [f"*{_short(item['prompt'])}*\n\n" if item["prompt"] else "" for item in items]
    body = "\n\n---\n\n".join(f"{a}{item['completion']}" for a, item in zip(asked, items, strict=True))
    return f"{marking.front_matter(', '.join(models))}{body}\n"


def page_of(title: str, items: list[dict[str, Any]]) -> str:
    """The items as one self-contained page; newest last."""
    from volant.store.page import Html, badge, escaped, page

    models = sorted({str(item["model"]) for item in items})
    parts = [Html(f'<p class="note">{escaped(marking.sentence(", ".join(m[:16] for m in models)))}</p>')]
    for item in items:
        marks = " ".join(badge(f"{k}: {v}", "pass" if v == "met" else "open") for k, v in item["checks"].items())
        asked = f"<h2>{escaped(_short(item['prompt']))}</h2>" if item["prompt"] else "<h2>Generated text</h2>"
        marks += " " + badge(f"approved by {item['approved_by']}", "pass") if item["approved_by"] else ""
        parts.append(
            Html(
                f'<article id="{escaped(item["id"])}">{asked}<pre>{escaped(item["completion"])}</pre>{marks}</article>'
            )
        )
    return page(title, "\n".join(parts), eyebrow="Generated content", head=marking.head(models[0] if models else ""))


def write_whole(file: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8", newline="\n") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    part.replace(file)


CHANNELS: dict[str, Callable[[Path, str, Form], Channel]] = {
    "file": lambda folder, title, form: File(folder, form),
    "page": lambda folder, title, form: Page(folder, title),
}


def _short(text: str, most: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def json_text(value: Any) -> str:
    """A value as indented JSON."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
