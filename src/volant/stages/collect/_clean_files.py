"""The files in which `clean` keeps what it found of a row group, how they are read, and how they outlive the step.

In go what `volant.modalities.cleaning` found; out come Arrow files that are mapped into memory, and plain arrays of
numbers. The files of a row group have one stem, and its seal, `<stem>.seal`, is written last: the size and the CRC-32
of each of them, and its own. What the seal does not vouch for, because a run was killed in the midst of it or the disk
lost it, is found again.

Files lie in the work folder of the run, and links to them in `Run.findings` of the dataset, under the name of the row
group, for the next run. Nothing is ever written into a file that exists.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

from volant.core import Dataset, Run

VERSION = 5  # of the files: those of another one are made anew


class Kept:
    """Sets of files by part, here and in folders that outlive the run.

    Args:
        here: the run's own folder.
        there: of each part, the folder where its files outlive the run and their stem there; None where nowhere.

    Attributes:
        had: which parts' sets were there when they were first asked for, by suffix.
    """

    def __init__(self, here: Path, there: Sequence[tuple[Path, str] | None]) -> None:
        self.here, self.there = here, there
        self.had: set[tuple[int, str]] = set()
        self._sound: set[tuple[int, str]] = set()

    def file(self, part: int, name: str, suffix: str = "") -> Path:
        """One file of a part."""
        return self.here / f"{part:06}{suffix}.{name}"

    def has(self, part: int, suffix: str = "") -> bool:
        """Whether the set of a part is there and whole; what outlived another run is linked to."""
        if (part, suffix) in self._sound:
            return True
        stem, there = f"{part:06}{suffix}", self.there[part]
        found = _whole(self.here, stem)
        if not found and there:
            _link(there[0], there[1] + suffix, self.here, stem)
            found = _whole(self.here, stem)
        if found:
            self._sound.add((part, suffix))
            self.had.add((part, suffix))
        return found

    def put(self, part: int, files: Mapping[str, Any], suffix: str = "") -> None:
        """Write a set of files, given as buffers by name, in place of an older one."""
        stem, there = f"{part:06}{suffix}", self.there[part]
        sums = {}
        for name, data in files.items():
            view = memoryview(data).cast("B") if len(data) else memoryview(b"")
            sums[name] = [len(view), crc32(view)]
            _write(self.here / f"{stem}.{name}", view)
        said = json.dumps(sums).encode()
        _write(self.here / f"{stem}.seal", said + b"\n%d" % crc32(said))
        self._sound.add((part, suffix))
        if there:
            _link(self.here, stem, there[0], there[1] + suffix)


def opened(
    run: Run, datasets: Sequence[Dataset], kind: str, about: str, *, numbered: bool = False
) -> tuple[list[Any], Any, Kept]:
    """The row groups of datasets, the numbers at which they begin and end, and the files of what is found of each.

    Args:
        kind: of what is found, by name.
        about: what it depends on, beside what the row group says.
        numbered: whether it depends on the numbers of its rows among all of the datasets as well.
    """
    import numpy as np

    from volant.store.dataset import parts

    homes = [(run.findings(one, kind, about) if run.findings else None, parts(one)) for one in datasets]
    found = [part for _, own in homes for part in own]
    begin_P = np.cumsum([0, *(part.rows for part in found)])
    stems = [f"{part.file.stem}.{part.group:06}" for part in found]
    if numbered:
        stems = [f"{stem}-{first}" for stem, first in zip(stems, begin_P.tolist(), strict=False)]
    folders = [home for home, own in homes for _ in own]
    there = [(home, stem) if home else None for home, stem in zip(folders, stems, strict=True)]
    here = run.work / f"{kind}-{sha256(about.encode()).hexdigest()[:16]}"
    here.mkdir(parents=True, exist_ok=True)
    return found, begin_P, Kept(here, there)


def known(ids: Collection[str]) -> str:
    """A name for a set of ids."""
    return sha256("\n".join(sorted(ids)).encode()).hexdigest()


def depends_on(how: Any) -> str:
    """What the files of a row group depend on, beside what it says: of thresholds those of the whole corpus alone."""
    import unicodedata

    from volant.modalities import text_features

    rows = sorted({"c4", "c4_loose"} & set(how.presets))[:1]
    words = (text_features.VERSION, how.words, unicodedata.unidata_version)
    whole = (how.corpus.digest,) if how.corpus else ()
    modality = (how.modality.name, how.modality.version)
    return repr((VERSION, words, *modality, bool(how.presets), rows, known(how.forgotten), *whole))


def found_files(found: Any) -> dict[str, Any]:
    """What was found of a table, as the files of its set."""
    import numpy as np
    import pyarrow as pa

    from volant.modalities.record_columns import FEEDBACK, kinds, of_origin, rights
    from volant.store import arrow_functions as pc
    from volant.store.arrow_values import numbers, one, strings

    table = found.table
    right_N = rights(table)
    groups = table["group"].combine_chunks()
    columns = {
        "id": table["id"],
        "drop": strings(map(found.drop.get, range(table.num_rows), repeat(""))),
        "key_a": numbers(found.key_N2[:, 0]),
        "key_b": numbers(found.key_N2[:, 1]),
        "right": numbers(right_N),
        "kind": numbers(kinds(table)),
        "client": pc.if_else(numbers(right_N == FEEDBACK), groups, pa.nulls(1, groups.type)[0]),
        "generated": numbers(of_origin(table, "generated")),
        "plain": numbers(found.plain_N),
        "text": pc.equal(table["shape"], one("text")),
        "words": numbers(np.diff(found.words.begin_N)),
    }
    return {
        "marks": _bytes(found.mark_NP),
        "words": _bytes(found.words.hash_W.astype(np.uint32)),
        "figures": _bytes(found.figure_NF),
        "own": _bytes(found.own_NF),
        "changed": as_file(found.changed.append_column("place", numbers(found.place_C))),
        "found": as_file(pa.table(columns)),
        **({} if found.beside_N2 is None else {"beside": _bytes(found.beside_N2)}),
    }


def masked_rows(found: Any) -> Any:
    """The rows that were masked, with their places, keys, sketches and words."""
    import numpy as np
    import pyarrow as pa

    from volant.store.arrow_values import numbers

    count = found.table.num_rows
    marks = pa.py_buffer(np.ascontiguousarray(found.mark_NP))
    columns = {
        "place": numbers(found.places),
        "key_a": numbers(found.key_N2[:, 0]),
        "key_b": numbers(found.key_N2[:, 1]),
        "mark": pa.Array.from_buffers(pa.binary(4 * found.mark_NP.shape[1]), count, [None, marks]),
        "word": pa.LargeListArray.from_arrays(
            numbers(found.words.begin_N), numbers(found.words.hash_W.astype(np.uint32))
        ),
    }
    table = found.table
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def as_file(table: Any) -> Any:
    """The bytes of an Arrow file of a table."""
    import pyarrow as pa

    size = pa.MockOutputStream()  # counts the bytes, so that no buffer has to grow and be copied
    with pa.ipc.new_file(size, table.schema) as out:
        out.write_table(table)
    found = pa.allocate_buffer(size.size())
    with pa.FixedSizeBufferWriter(found) as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)
    return found


def read(file: Path) -> Any:
    """The table of an Arrow file."""
    import pyarrow as pa

    with pa.memory_map(str(file), "r") as source:
        return pa.ipc.open_file(source).read_all()


def array(file: Path, kind: Any, rows: int) -> Any:
    """The numbers of a file, as an array of so many rows."""
    import numpy as np

    data = np.memmap(file, kind, "r") if file.stat().st_size else np.zeros(0, kind)
    return data.reshape(rows, -1 if rows else 0)


def _bytes(values: Any) -> Any:
    import numpy as np

    return np.ascontiguousarray(values).reshape(-1)


def _write(file: Path, data: Any) -> None:
    partial = file.with_name(f"{file.name}.part")
    with partial.open("wb") as out:
        out.write(data)
    partial.rename(file)


def _seal(folder: Path, stem: str) -> dict[str, list[int]]:
    """Sizes and sums that a seal vouches for; nothing where it is missing or damaged."""
    try:
        said, _, own = (folder / f"{stem}.seal").read_bytes().partition(b"\n")
        sums: dict[str, list[int]] = json.loads(said) if int(own) == crc32(said) else {}
    except (OSError, ValueError):
        return {}
    return sums


def _whole(folder: Path, stem: str) -> bool:
    sums = _seal(folder, stem)
    try:
        return bool(sums) and all([*_sum(folder / f"{stem}.{name}")] == own for name, own in sums.items())
    except OSError:
        return False


def _sum(file: Path) -> tuple[int, int]:
    size = total = 0
    with file.open("rb") as data:
        while block := data.read(1 << 20):
            size, total = size + len(block), crc32(block, total)
    return size, total


def _link(folder: Path, stem: str, to: Path, name: str) -> None:
    """Give the files of a set further names, the seal last; a file system without links gets copies."""
    for part in [*_seal(folder, stem), "seal"]:
        source, target = folder / f"{stem}.{part}", to / f"{name}.{part}"
        partial = target.with_name(f"{target.name}.{uuid4().hex}.part")
        try:
            try:
                partial.hardlink_to(source)
            except FileNotFoundError:
                raise
            except OSError:
                shutil.copyfile(source, partial)
            partial.rename(target)
        except FileNotFoundError:  # nothing there, or swept away meanwhile: the set is not whole, and made anew
            return
        finally:
            partial.unlink(missing_ok=True)  # the rename of one link onto another of the same file does nothing
