"""Your own files as a Dataset, one licence and source on every record.

Enters: a glob of files that the goal's modality reads (for text txt, md, html, pdf, docx, jsonl, json, csv, tsv,
parquet, warc, each also compressed or in a zip or tar; for images png, jpeg, webp, npz, zip, tar; for tables csv,
tsv, parquet), and the terms they come under. Leaves: a Dataset, split by hash of group. Bad records are refused one by
one, with line and reason.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Files, Run


def files(
    run: Run,
    *,
    glob: Files,
    licence: str,
    consent: Literal["not-personal", "given", "contract", "public", "withheld"] = "not-personal",
    collected_at: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\d)?$")] = "",
    fields: dict[str, str] | None = None,
    group: str = "",
    split: Literal["", "train", "validation", "test"] = "",
    encoding: str = "",
    piece_chars: Annotated[int, Field(ge=0)] = 8000,
    reading: dict[str, Any] | None = None,
    refuse_above: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Dataset:
    """Gather files into a Dataset.

    The shape of each record is read from its fields: `messages`, ShareGPT's `conversations`, Alpaca's
    `instruction`+`output`, `prompt`+`completion`, `prompt`+`chosen`+`rejected`, or `text`.

    Args:
        glob: which files, relative to the project; one pattern or a list (`data/**/*.jsonl`).
        licence: SPDX name of the terms that all of them come under (`CC-BY-4.0`, `LicenseRef-own`); one that
            forbids goal.use is refused.
        consent: whether the people in the data agreed: not-personal, given, contract or public; `withheld` is refused.
        collected_at: day on which they were gathered (`2026-11-24`); empty takes what a file says of itself (a PDF,
            a crawl, an archive), and nothing where it says nothing.
        fields: your names of the known fields, as in {prompt: question, completion: answer}; empty reads the
            known names. `licence`, `collected_at` and `uri` name what a record says of its own source; `attrs.NAME`
            and `labels.NAME` what is carried along where a record has it, for `mix` ({attrs.quality: score}).
        group: a field whose value keeps records in one split (an author, a patient); empty groups by prompt.
        split: where all records go; empty deals them. A benchmark is `test`, so that all of it is kept out of training
            where it is the `guard` of `collect.clean`.
        encoding: of the files; empty means UTF-8, or what a byte-order mark says. A wrong one refuses records.
        piece_chars: documents are cut into pieces of at most that many characters at blank lines; 0 keeps them whole.
        reading: further options of the modality's reader: `captions` for images (folder, name, sidecar); `types`,
            `key` and `constraints` for tables; `plain: true` reads text of any other ending (sources of programs).
        refuse_above: share of bad records (0 to 1) beyond which the step fails instead of going on without them.

    Returns:
        A Dataset with a split on every record.

    Raises:
        LicenceError: the licence is unknown or forbids the use.
        DataError: nothing usable was found.
    """
    from volant.core.protocols import Refusal
    from volant.stages.collect._arrival import arrive, terms
    from volant.stages.collect._reading import FEW, Arriving, read

    snapshot = run.snapshot("glob")
    first = snapshot.files[0].name if snapshot.files else str(glob)
    source = terms(run, "", licence, consent, collected_at, where=first)
    options = {"fields": fields or {}, "group": group, "encoding": encoding, "piece_chars": piece_chars}
    reason = "is a link that leads nowhere, or out of the project"
    links: list[Arriving] = [Refusal(name, reason) for name in snapshot.facts.get("left_out", [])]
    found = read(
        run, ((file, source) for file in [*links, *snapshot.files]), options | (reading or {}),
        total=sum(file.bytes for file in snapshot.files), few=len(snapshot.files) < FEW and piece_chars > 0,
    )  # fmt: skip
    if split:
        found = (one if isinstance(one, Refusal) else one.model_copy(update={"split": split}) for one in found)
    return arrive(run, found, refuse_above=refuse_above, where=first, deal=not split)
