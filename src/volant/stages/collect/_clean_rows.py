"""The records that `clean` judges, as numbered rows in parts: what was found of each lies on disk, not in memory.

In go the row groups of datasets; each is judged alone (`volant.modalities.cleaning`), by several threads where the run
has them, and what was found is kept in the run's work folder: keys and sketches, and the rows that changed. A run that
was killed goes on with the parts that are missing. In memory stay each record's id, key and kind.

Legend: N records of all parts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from volant.core import Run

VERSION = 2  # of the files in the work folder: those of another one are made anew
Given = TypeVar("Given")
Made = TypeVar("Made")
_TEXT, _MEDIA, _ROW = 0, 1, 2
_RIGHT = {"test": 0, "validation": 1, "train": 2}


class Rows:
    """Records by number, in the order in which they came.

    Attributes:
        parts: row groups; part p holds the numbers `begin_P[p]` to `begin_P[p + 1]`.
        ids: of all records, after their texts changed.
        drop: why a record goes, by its number; passes add to it.
        key_N2: equal for equal records.
        right_N: 0 test, 1 validation, 2 train, 3 feedback: who stays where two are alike, earlier numbers first.
        kind_N: 0 text, 1 picture, 2 row of a table.
        generated_N: whether a model wrote it.
        clients: the group of each feedback record.
        forgotten: numbers of what was to be forgotten.
    """

    def __init__(self, run: Run, parts: Sequence[Any], how: Any) -> None:
        import numpy as np

        self.run, self.parts, self.how = run, parts, how
        self.begin_P = np.concatenate([[0], np.cumsum([part.rows for part in parts])]).astype(np.int64)
        self.folder = run.work / f"rows-{VERSION}"
        self.drop: dict[int, str] = {}
        self.clients: dict[int, str] = {}
        self.forgotten: set[int] = set()

    def __len__(self) -> int:
        return int(self.begin_P[-1])

    def judge(self, advance: Callable[[int], None]) -> None:
        """Judge every part, and take into memory what all passes need."""
        import numpy as np
        import pyarrow as pa

        self.folder.mkdir(parents=True, exist_ok=True)
        ids, keys, rights, kinds, generated = [], [], [], [], []
        for number, found in enumerate(in_order(self.run, self._found, range(len(self.parts)))):
            first = int(self.begin_P[number])
            ids.append(found["id"].combine_chunks())
            keys.append(np.stack([found["key_a"].to_numpy(), found["key_b"].to_numpy()], axis=1))
            rights.append(found["right"].to_numpy())
            kinds.append(found["kind"].to_numpy())
            generated.append(np.asarray(found["generated"]))
            drops = {at: drop for at, drop in enumerate(found["drop"].to_pylist()) if drop}
            self.drop |= {first + at: drop for at, drop in drops.items()}
            self.forgotten |= {first + at for at, drop in drops.items() if drop.startswith("forgotten:")}
            for at, client in enumerate(found["client"].to_pylist()) if (rights[-1] == 3).any() else ():
                if client is not None:
                    self.clients[first + at] = client
            advance(self.parts[number].rows)
        self.ids = pa.chunked_array(ids, pa.string()).combine_chunks() if ids else pa.array([], pa.string())
        self.key_N2 = np.concatenate([np.zeros((0, 2), np.uint64), *keys])
        self.right_N = np.concatenate([np.zeros(0, np.uint8), *rights])
        self.kind_N = np.concatenate([np.zeros(0, np.uint8), *kinds])
        self.generated_N = np.concatenate([np.zeros(0, bool), *generated])

    def name(self, number: int) -> str:
        """The id of a record."""
        return str(self.ids[number].as_py())

    def kept(self, among: Any = None) -> Any:
        """Numbers of kept records, in the order of their right to stay."""
        import numpy as np

        alive = np.ones(len(self), bool) if among is None else among.copy()
        alive[list(self.drop)] = False
        numbers = np.flatnonzero(alive)
        return numbers[np.argsort(self.right_N[numbers], kind="stable")]

    def inside(self, part: int, numbers: Any) -> Any:
        """Which of these rising numbers lie in a part, as places in it."""
        import numpy as np

        low, high = np.searchsorted(numbers, self.begin_P[part : part + 2])
        return numbers[low:high] - self.begin_P[part]

    def table(self, part: int) -> Any:
        """The rows of a part as they leave: with what changed, and no word yet on what drops them."""
        from volant.modalities.cleaning import placed
        from volant.modalities.record_columns import put_rows

        table = placed(self.parts[part].read(), self.how)
        changed = _read(self.folder / f"{part:06}.changed")
        places = changed["place"].to_numpy()
        return put_rows(table, places, changed.drop_columns(["place"])) if len(places) else table

    def marks(self, part: int, places: Any) -> Any:
        """Sketches [n, P] of records of a part."""
        import numpy as np

        found = np.memmap(self.folder / f"{part:06}.marks", np.uint32, "r").reshape(self.parts[part].rows, -1)
        return found[places]

    def _found(self, part: int) -> Any:
        """What was found of a part: read, or made and kept."""
        file = self.folder / f"{part:06}.found"
        if not file.exists():
            _keep(self.folder, part, self._judged(part))
        return _read(file)

    def _judged(self, part: int) -> Any:
        from volant.modalities.cleaning import judged

        self.run.check_stop()
        return judged(self.parts[part].read(), self.how)


def in_order(run: Run, function: Callable[[Given], Made], given: Iterable[Given]) -> Iterator[Made]:
    """What a function makes of each, in order; as many at a time as the run has threads (Arrow and the compiled loops
    let go of Python's lock), and no more ahead than that."""
    if run.threads <= 1:
        yield from map(function, given)
        return
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(run.threads) as pool:
        try:
            for one in given:
                waiting.append(pool.submit(function, one))
                if len(waiting) > run.threads + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _keep(folder: Path, part: int, found: Any) -> None:
    """Write what was found; the file `.found` comes last, so that it stands for all three."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    table = found.table
    origin = pc.struct_field(table["source"], "origin")
    feedback = pc.equal(origin, "feedback")
    kind = pc.index_in(table["shape"], pa.array(["", "media", "row"])).fill_null(_TEXT)
    right = pc.if_else(feedback, 3, pc.index_in(table["split"], pa.array(list(_RIGHT))))
    columns = {
        "id": table["id"],
        "drop": pa.array([found.drop.get(at, "") for at in range(table.num_rows)], pa.string()),
        "key_a": pa.array(np.ascontiguousarray(found.key_N2[:, 0])),
        "key_b": pa.array(np.ascontiguousarray(found.key_N2[:, 1])),
        "right": right.cast(pa.uint8()),
        "kind": kind.cast(pa.uint8()),
        "client": pc.if_else(feedback, table["group"], None),
        "generated": pc.equal(origin, "generated"),
    }
    places = np.array(sorted(found.changed), np.int64)
    changed = table.take(pa.array(places)).append_column("place", pa.array(places))
    found.mark_NP.tofile(folder / f"{part:06}.marks")
    _write(folder / f"{part:06}.changed", changed)
    _write(folder / f"{part:06}.found", pa.table(columns))


def _write(file: Path, table: Any) -> None:
    import pyarrow as pa

    partial = file.with_name(f"{file.name}.part")
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)
    partial.rename(file)


def _read(file: Path) -> Any:
    import pyarrow as pa

    with pa.OSFile(str(file), "rb") as source:
        return pa.ipc.open_file(source).read_all()
