"""What a model made, as files: one for each picture, one for all rows that were asked for alike.

Enters: requests and what came of them. Leaves: files in a folder, in a form that the modality delivers. A name
tells what was asked for and with which seed, and ends in digits of the content, so that nothing is overwritten
by something else.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volant.core.errors import MachineError
from volant.core.protocols import Modality, Request
from volant.core.sample import sample_id


def write(
    modality: str, requests: Sequence[Request], answers: Mapping[str, dict[str, Any]], folder: Path, form: str = ""
) -> None:
    """Write each answer's `sample`, and put the file's name into the answer as `file`.

    Args:
        modality: whose `deliver` is used.
        requests: in the order of the files.
        answers: by request id; those without a sample are passed over.
        folder: made where it is not there.
        form: of the files; empty: what the modality's media type is called (`image/png`: `png`).

    Raises:
        MachineError: the folder cannot be written to.
        SettingError: the modality does not deliver such a form.
    """
    from volant.modalities import open_modality

    kind = open_modality(modality)
    form = form or usual_form(kind)
    groups: dict[str, list[Request]] = {}
    for request in requests:
        sample = answers[request.id].get("sample")
        if sample is not None:
            # Rows belong together in a table; a file holds one picture.
            key = f"rows {request.prompt}" if sample.shape == "row" else request.id
            groups.setdefault(key, []).append(request)
    for group in groups.values():
        samples = [answers[request.id]["sample"] for request in group]
        file = folder / f"{_name(group[0], [sample.id for sample in samples])}.{form}"
        content = kind.deliver(samples, form)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        except OSError as error:
            raise MachineError(f"cannot write: {error.strerror}", where=str(file), fix="Name another --out.") from error
        for request in group:
            answers[request.id]["file"] = str(file)


def usual_form(kind: Modality) -> str:
    """What the modality's media type is called as a form (`image/png`: `png`)."""
    return (mimetypes.guess_extension(kind.media_type) or kind.media_type.rpartition("/")[2]).lstrip(".")


def _name(request: Request, ids: Sequence[str]) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", (request.prompt or "").lower()).strip("-")[:40].strip("-")
    return f"{words or 'sample'}-{request.seed}-{sample_id(*ids)[:8]}"
