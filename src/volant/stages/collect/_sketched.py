"""The sketches that `clean` leaves beside its records, for later data to be held against (`unseen`).

In go rows that were judged, and which of them were compared; out come narrow columns in the run's folder. Near
duplicates that were dropped are among them, for what repeats one of these repeats what stayed, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from volant.core import Run
from volant.stages.collect._clean_rows import Rows

if TYPE_CHECKING:
    from volant.modalities.sketch_columns import Sketches


def keep_sketches(run: Run, rows: Rows, numbers: Any) -> None:
    """Write the sketches of the records of these rising numbers."""
    from volant.modalities.sketch_columns import keep

    keep(run.out, _parts(rows, numbers))


def _parts(rows: Rows, numbers: Any) -> Iterator[Sketches]:
    import numpy as np

    from volant.modalities.sketch_columns import Sketches, narrowed

    for part in range(len(rows.parts)):
        places = rows.inside(part, numbers)
        if len(places):
            own = places + rows.begin_P[part]
            marks = narrowed(np.asarray(rows.marks(part, places)))
            yield Sketches(rows.ids.take(own), rows.right_N[own], rows.kind_N[own], rows.key_N2[own], marks)
