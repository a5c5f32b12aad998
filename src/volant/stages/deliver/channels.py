"""Where content goes: single files, one file with all of them, and one static page that grows.

Enters: a sample. Leaves: a receipt that says where it lies now, or why it was refused. All channels
write by rename, so that a reader never sees half a file, and deliver a sample once: what lies there
under its id already is left as it is. Content that waits for a person, or that was dropped, is refused.
Text is rendered here, marked; images and rows are handed out by their modality.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from volant.core.errors import ArtifactError
from volant.core.protocols import Channel, Modality, Receipt
from volant.core.sample import CONTENT_SHAPES, Sample
from volant.stages.deliver import marking

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
    return "" if sample.media or content_of(sample).strip() else "it is empty"


def content_of(sample: Sample) -> str:
    """What was generated: the completion, or the text."""
    return (sample.target if sample.shape == "completion" else sample.content) or ""


class File:
    """One file a sample, in `folder`.

    Args:
        folder: where the files go; made when the first one comes.
        form: `markdown`, `html` or `json` for text; one of the modality's for other content.
        modality: hands out what is no text.
    """

    name = "file"

    def __init__(self, folder: Path, form: str = "markdown", modality: Modality | None = None) -> None:
        self.folder, self.form, self.modality = folder, form, modality

    def send(self, sample: Sample) -> Receipt:
        """Write the sample's file, unless it lies there already."""
        if why := refusal(sample):
            return Receipt(sample.id, refused=why)
        content = self.modality if is_content(sample) else None
        name = f"{sample.id}{(content.forms() if content else SUFFIX)[self.form]}"
        if not (self.folder / name).exists():
            body = content.deliver([sample], self.form) if content else rendered([sample], self.form)
            write_whole(self.folder / name, body)
        return Receipt(sample.id, where=name)


class Whole:
    """One file with all samples that were ever sent to it, such as a table of rows; `whole.jsonl` is its memory.

    Args:
        folder: where both lie.
        form: one of the modality's.
        modality: hands the samples out.
    """

    name = "whole"

    def __init__(self, folder: Path, form: str, modality: Modality) -> None:
        self.folder, self.form, self.modality = folder, form, modality
        self.file = f"content{modality.forms()[form]}"

    def send(self, sample: Sample) -> Receipt:
        """Put the sample into the file, unless it is there already."""
        return self.send_all([sample])[0]

    def send_all(self, samples: Sequence[Sample]) -> list[Receipt]:
        """The same for many, in one writing."""
        memory = self.folder / "whole.jsonl"
        try:
            lines = memory.read_text(encoding="utf-8").splitlines() if memory.exists() else []
            known = {one.id: one for one in map(Sample.model_validate_json, lines)}
        except ValueError as error:
            raise ArtifactError(
                "the channel's memory does not parse.", where=str(memory), fix="Mend or delete it."
            ) from error
        reasons = {sample.id: refusal(sample) for sample in samples}
        fresh = {s.id: s for s in samples if not reasons[s.id] and s.id not in known}
        known |= fresh
        if fresh:
            write_whole(memory, "".join(f"{one.model_dump_json()}\n" for one in known.values()))
        if known and (fresh or not (self.folder / self.file).exists()):
            write_whole(self.folder / self.file, self.modality.deliver(list(known.values()), self.form))
        return [
            Receipt(s.id, refused=reasons[s.id]) if reasons[s.id] else Receipt(s.id, where=f"{self.file}#{s.id}")
            for s in samples
        ]


class Page:
    """One page with all samples that were ever sent to it; `items.json` beside it is its memory.

    Args:
        folder: where `index.html` and `items.json` lie.
        title: of the page.
        modality: shows what is no text.
    """

    name = "page"

    def __init__(self, folder: Path, title: str, modality: Modality | None = None) -> None:
        self.folder, self.title, self.modality = folder, title, modality

    def send(self, sample: Sample) -> Receipt:
        """Put the sample on the page, unless it stands there already."""
        if why := refusal(sample):
            return Receipt(sample.id, refused=why)
        items = self._items()
        page = self.folder / "index.html"
        if all(item["id"] != sample.id for item in items):
            items.append(item_of(sample, self.modality))
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


def is_content(sample: Sample) -> bool:
    """Whether its modality has to hand it out: an image or a row, no text."""
    return sample.shape in CONTENT_SHAPES


def item_of(sample: Sample, modality: Modality | None = None) -> dict[str, Any]:
    """What a page or a JSON file keeps of a sample, marked as generated."""
    shown = {"shown": modality.preview([sample])} if modality and is_content(sample) else {}
    return {
        **shown,
        "id": sample.id,
        "prompt": sample.condition or "",
        "completion": content_of(sample),
        "checks": {label.name: label.value for label in sample.labels if label.by == "deliver.generate"},
        "approved_by": sample.attrs.get("approved_by", ""),
        **marking.fields(str(sample.attrs.get("model", ""))),
    }


def rendered(samples: Sequence[Sample], form: str, title: str = "Generated content") -> str:
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
        asked = f"<h2>{escaped(_short(item['prompt']))}</h2>" if item["prompt"] else "<h2>Generated</h2>"
        marks += " " + badge(f"approved by {item['approved_by']}", "pass") if item["approved_by"] else ""
        shown = item.get("shown") or f"<pre>{escaped(item['completion'])}</pre>"
        parts.append(Html(f'<article id="{escaped(item["id"])}">{asked}{shown}{marks}</article>'))
    return page(title, "\n".join(parts), eyebrow="Generated content", head=marking.head(models[0] if models else ""))


def write_whole(file: Path, body: str | bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    body = body.encode() if isinstance(body, str) else body
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    with part.open("wb") as handle:
        handle.write(body)
        handle.flush()
        os.fsync(handle.fileno())
    part.replace(file)


CHANNELS: dict[str, Callable[[Path, str, str, Modality], Channel]] = {
    "file": lambda folder, title, form, modality: File(folder, form, modality),
    "whole": lambda folder, title, form, modality: Whole(folder, form, modality),
    "page": lambda folder, title, form, modality: Page(folder, title, modality),
}


def _short(text: str, most: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def json_text(value: Any) -> str:
    """A value as indented JSON."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
