"""The files in which `clean` keeps what it found of a row group, and how they are read.

In go what `volant.modalities.cleaning` found; out come Arrow files that are mapped into memory, and plain arrays of
numbers. A file is there whole or not at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def keep(folder: Path, part: int, found: Any) -> None:
    """Write what was found; the file `.found` comes last, so that it stands for all of them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from volant.modalities.record_columns import FEEDBACK, kinds, rights

    table = found.table
    right_N = rights(table)
    origin = pc.struct_field(table["source"], "origin")
    columns = {
        "id": table["id"],
        "drop": pa.array([found.drop.get(at, "") for at in range(table.num_rows)], pa.string()),
        "key_a": pa.array(np.ascontiguousarray(found.key_N2[:, 0])),
        "key_b": pa.array(np.ascontiguousarray(found.key_N2[:, 1])),
        "right": pa.array(right_N),
        "kind": pa.array(kinds(table)),
        "client": pc.if_else(pa.array(right_N == FEEDBACK), table["group"].combine_chunks(), None),
        "generated": pc.equal(origin, "generated"),
        "plain": pa.array(found.plain_N),
        "words": pa.array(np.diff(found.words.begin_N)),
    }
    found.mark_NP.tofile(folder / f"{part:06}.marks")
    found.words.hash_W.tofile(folder / f"{part:06}.words")
    found.figure_NF.tofile(folder / f"{part:06}.figures")
    write(folder / f"{part:06}.changed", found.changed.append_column("place", pa.array(found.place_C)))
    write(folder / f"{part:06}.found", pa.table(columns))


def masked_rows(found: Any) -> Any:
    """The rows that were masked, with their places, keys, sketches and words."""
    import numpy as np
    import pyarrow as pa

    count = found.table.num_rows
    marks = pa.py_buffer(np.ascontiguousarray(found.mark_NP))
    columns = {
        "place": pa.array(found.places),
        "key_a": pa.array(np.ascontiguousarray(found.key_N2[:, 0])),
        "key_b": pa.array(np.ascontiguousarray(found.key_N2[:, 1])),
        "mark": pa.Array.from_buffers(pa.binary(4 * found.mark_NP.shape[1]), count, [None, marks]),
        "word": pa.LargeListArray.from_arrays(pa.array(found.words.begin_N), pa.array(found.words.hash_W)),
    }
    table = found.table
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def write(file: Path, table: Any) -> None:
    import pyarrow as pa

    partial = file.with_name(f"{file.name}.part")
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)
    partial.rename(file)


def read(file: Path) -> Any:
    import pyarrow as pa

    with pa.memory_map(str(file), "r") as source:
        return pa.ipc.open_file(source).read_all()
