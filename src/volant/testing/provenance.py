"""Part of the contract of methods: no record leaves one without source, licence and lineage.

Enters: a dataset that a method made, and the ids that went in. An `AssertionError` leaves where a record does not say
where it came from, on what terms, or, if it was generated, from what.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from volant.core.artifact import Artifact, Dataset
from volant.core.errors import LicenceError
from volant.testing.expecting import expect


def ids_of(inputs: Iterable[Artifact]) -> set[str]:
    """The ids of the records in some artifacts, kept and dropped."""
    from volant.store.dataset import dropped, rows

    return {s.id for one in inputs if isinstance(one, Dataset) for s in (*rows(one), *dropped(one))}


def check_provenance(name: str, data: Dataset, root: Path, known: Collection[str] = ()) -> None:
    """Every record, kept or dropped, says where it came from and on what terms; a generated one also from what.

    A record that a model made names the model in its URI, or the records that it was made from as its parents.

    Args:
        known: ids of records that went in as they are; how those were generated is not this method's to say.
    """
    from volant.modalities.licence import canonical
    from volant.store.dataset import dropped, rows

    licences: set[str] = set()
    for sample in (*rows(data), *dropped(data)):
        source = sample.source
        expect(sample.id, f"{name} made a record without an id (from {source.uri!r})")
        expect(source.uri.strip(), f"{name} made a record without a source: {sample.id}")
        expect(str(root) not in source.uri, f"{name} put this machine's path into a source: {source.uri}")
        if source.origin == "generated" and sample.id not in known:
            told = sample.parents or re.search(r"[0-9a-f]{8}", source.uri)
            expect(bool(told), f"{name} made a generated record of nothing known: {sample.id} from {source.uri!r}")
        expect(sample.id not in sample.parents, f"{name} made a record that is its own parent: {sample.id}")
        licences.add(source.licence)
    for licence in sorted(licences):
        try:
            canonical(licence)
        except LicenceError as error:
            raise AssertionError(f"{name} made records under an unknown licence: {error}") from error
