"""The sketches that `clean` leaves beside its records, for later data to be held against (`unseen`).

In go rows that were judged, and which of them were compared; out come narrow columns in the run's folder. Near
duplicates that were dropped are among them, for what repeats one of these repeats what stayed, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volant.core import Run
from volant.stages.collect._clean_rows import Rows

if TYPE_CHECKING:
    from volant.modalities.sketch_columns import Sketches


def keep_sketches(run: Run, rows: Rows, numbers: Any) -> None:
    """Write the sketches of the records of these rising numbers."""
    from volant.modalities.sketch_columns import keep

    parts = [part for part in range(len(rows.parts)) if len(rows.inside(part, numbers))]
    keep(run.out, (_part(rows, part, rows.inside(part, numbers)) for part in parts))


def _part(rows: Rows, part: int, places: Any) -> Sketches:
    import numpy as np

    from volant.modalities.sketch_columns import Sketches, narrowed
    from volant.store import arrow_functions as pc
    from volant.store.arrow_values import numbers

    rows.run.check_stop()
    own = places + rows.begin_P[part]
    marks = narrowed(np.asarray(rows.marks(part, places)))
    return Sketches(pc.take(rows.ids, numbers(own)), rows.right_N[own], rows.kind_N[own], rows.key_N2[own], marks)
