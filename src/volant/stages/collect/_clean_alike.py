"""What `clean` drops for likeness, over all records: equal ones, and near duplicates of texts and of pictures.

In go rows that were judged one by one; out come drops that name the record which stays: test before validation before
training records, and among these the earlier. A correction resembles what it corrects by its nature, so feedback is
held against feedback only. Sketches, words and shingles lie on disk; no text is read.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from volant.core import Run
from volant.stages.collect._clean_rows import Rows, in_order


def drop_equal(rows: Rows) -> None:
    """Drop what says the same as a record with more right to stay."""
    import numpy as np

    numbers = rows.by_right(rows.kept())
    key_N2 = rows.key_N2[numbers]
    order = np.lexsort((np.arange(len(numbers)), key_N2[:, 1], key_N2[:, 0]))
    same = (key_N2[order][1:] == key_N2[order][:-1]).all(axis=1)
    begins = np.flatnonzero(np.concatenate([[True], ~same]))
    later = np.flatnonzero(same) + 1
    first = begins[np.searchsorted(begins, later, side="right") - 1]
    names = rows.names(numbers[order[first]])
    for number, name in zip(numbers[order[later]].tolist(), names, strict=True):
        rows.drop[number] = f"exact_duplicate: 1.00 (of {name}) against 1.00"


def drop_near(run: Run, rows: Rows, near: float) -> None:
    """Drop near duplicates; what was found is kept in the work folder."""
    from volant.modalities.record_columns import FEEDBACK, MEDIA, ROW

    file = rows.folder / f"near-{sha256(repr(near).encode() + rows.kept().tobytes()).hexdigest()[:16]}.json"
    if not file.exists():
        found: dict[int, tuple[int, float]] = {}
        for feedback in (False, True):
            for media in (False, True):
                kinds = (rows.kind_N == MEDIA) if media else (rows.kind_N != MEDIA) & (rows.kind_N != ROW)
                numbers = rows.by_right(rows.kept(kinds & ((rows.right_N == FEEDBACK) == feedback)))
                if len(numbers):
                    found |= _alike(run, rows, numbers, near, media)
        partial = file.with_suffix(".part")
        partial.write_text(json.dumps([[later, *pair] for later, pair in sorted(found.items())]))
        partial.rename(file)
    pairs = json.loads(file.read_text())
    for (later, _, share), name in zip(pairs, rows.names([earlier for _, earlier, _ in pairs]), strict=True):
        rows.drop[later] = f"near_duplicate: {share:.2f} (of {name}) against {near:.2f}"


def _alike(run: Run, rows: Rows, numbers: Any, near: float, media: bool) -> dict[int, tuple[int, float]]:
    """Each of these records that repeats an earlier one of them: to that one, and their similarity."""
    import numpy as np

    from volant.modalities.duplicates import near_clusters
    from volant.modalities.record_columns import FEEDBACK

    file = rows.folder / "signatures"
    by_right = [numbers[rows.right_N[numbers] == right] for right in range(FEEDBACK + 1)]
    wanted = ((part, rows.inside(part, own)) for own in by_right for part in range(len(rows.parts)))
    with file.open("wb") as out:
        for marks in in_order(run, lambda one: rows.marks(*one), (one for one in wanted if len(one[1]))):
            out.write(marks.data)
    run.check_stop()
    signature_NP = np.memmap(file, np.uint32, "r").reshape(len(numbers), -1)
    sets = None if media else lambda wanted: _shingles(run, rows, numbers[wanted])
    found = near_clusters(signature_NP, near, sets, work=rows.folder / "alike", threads=run.threads).repeats()
    file.unlink()
    own = numbers.tolist()
    return {own[later]: (own[first], share) for later, (first, share) in found.items()}


def _shingles(run: Run, rows: Rows, numbers: Any) -> Any:
    """The shingle sets of these records, which may come in any order, from their words."""
    import numpy as np

    from volant.modalities.shingle_sets import Sets, joined_sets

    order = np.argsort(numbers)
    rising = numbers[order]

    def of(part: int) -> tuple[Any, Any]:
        run.check_stop()
        return joined_sets(rows.words(part, rows.inside(part, rising)))

    found = Sets(file=rows.folder / "shingles")
    parts = [part for part in range(len(rows.parts)) if len(rows.inside(part, rising))]
    for sets in in_order(run, of, parts):
        found.put(*sets)
    found.reorder(np.argsort(order))
    return found
