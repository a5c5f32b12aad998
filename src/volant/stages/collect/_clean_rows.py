"""The records that `clean` judges, as numbered rows in parts: what was found of each lies on disk, not in memory.

In go the row groups of datasets; each is judged alone (`volant.modalities.cleaning`), by several threads where the run
has them, and what was found is kept (`_clean_files`): features, keys, sketches and words, and the texts that change. A
run that was killed goes on with the parts that are missing, one with other thresholds (but for those of the whole
corpus) looks at no more than what was found, and neither reads a text again until it writes. In memory stay each
record's id, key and kind.

Legend: N records of all parts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from volant.core import Dataset, Run
from volant.stages.collect._clean_files import array, as_file, depends_on, found_files, masked_rows, opened, read

HELD = 96 << 20
"""Bytes of row groups that stay in memory from their judging to their writing; the rest is read twice."""
Given = TypeVar("Given")
Made = TypeVar("Made")


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

    def __init__(self, run: Run, datasets: Sequence[Dataset], how: Any) -> None:
        self.run, self.how = run, how
        # Which record keeps a line that others share is said by its number among all.
        self.parts, self.begin_P, self.files = opened(
            run, datasets, "features", depends_on(how), numbered=bool(how.corpus)
        )
        self.folder = self.files.here
        self.drop: dict[int, str] = {}
        self.clients: dict[int, str] = {}
        self.forgotten: set[int] = set()
        self.masked: list[bool] = []
        self.alone: dict[int, dict[int, str]] = {}  # by part, what drops its rows by place before they are compared
        self._held: dict[int, Any] = {}
        self._held_bytes = 0

    def __len__(self) -> int:
        return int(self.begin_P[-1])

    def judge(self, advance: Callable[[int], None]) -> None:
        """Judge every part, and take into memory what all passes need."""
        import numpy as np
        import pyarrow as pa

        from volant.store.arrow_values import strings, values

        ids, keys, rights, kinds, generated = [], [], [], [], []
        for number, (found, drops, masked) in enumerate(in_order(self.run, self._judged, range(len(self.parts)))):
            first = int(self.begin_P[number])
            self.masked.append(masked)
            names, key_N2 = self._named(number, found, drops)
            ids.append(names)
            keys.append(key_N2)
            rights.append(values(found["right"]))
            kinds.append(values(found["kind"]))
            generated.append(values(found["generated"]))
            self.drop |= {first + at: drop for at, drop in drops.items()}
            self.forgotten |= {first + at for at, drop in drops.items() if drop.startswith("forgotten:")}
            for at, client in enumerate(found["client"].to_pylist()) if (rights[-1] == 3).any() else ():
                if client is not None:
                    self.clients[first + at] = client
            advance(self.parts[number].rows)
        self.ids = pa.chunked_array(ids, pa.string()).combine_chunks() if ids else strings([])
        self.key_N2 = np.concatenate([np.zeros((0, 2), np.uint64), *keys])
        self.right_N = np.concatenate([np.zeros(0, np.uint8), *rights])
        self.kind_N = np.concatenate([np.zeros(0, np.uint8), *kinds])
        self.generated_N = np.concatenate([np.zeros(0, bool), *generated])
        had = sum(self.parts[part].rows for part, suffix in self.files.had if not suffix)
        if had:
            self.run.say(f"the features of {had:,} of {len(self):,} records were found before, and are used again")

    def name(self, number: int) -> str:
        """The id of a record."""
        return self.names([number])[0]

    def names(self, numbers: Sequence[int]) -> list[str]:
        """The ids of records."""
        import numpy as np

        from volant.store import arrow_functions as pc
        from volant.store.arrow_values import numbers as column

        found: list[str] = pc.take(self.ids, column(np.array(numbers, np.int64))).to_pylist()
        return found

    def kept(self, among: Any = None) -> Any:
        """Rising numbers of kept records."""
        from volant.modalities.cleaning import alive

        return alive(len(self), self.drop, among)

    def by_right(self, numbers: Any) -> Any:
        """These numbers in the order of their right to stay."""
        import numpy as np

        return numbers[np.argsort(self.right_N[numbers], kind="stable")]

    def inside(self, part: int, numbers: Any) -> Any:
        """Which of these rising numbers lie in a part, as places in it."""
        import numpy as np

        low, high = np.searchsorted(numbers, self.begin_P[part : part + 2])
        return numbers[low:high] - self.begin_P[part]

    def table(self, part: int) -> Any:
        """The rows of a part as they leave: with what changed, and no word yet on what drops them."""
        from volant.modalities.record_columns import put_rows
        from volant.store.arrow_values import values

        table = self._changed(part, self._alive(part))
        if self.masked[part]:
            masked = self._masked_rows(part, self._alive(part))
            table = put_rows(table, values(masked["place"]), masked.select(table.column_names))
        return table

    def marks(self, part: int, places: Any) -> Any:
        """Sketches [n, P] of records of a part."""
        import numpy as np

        found = array(self.files.file(part, "marks"), np.uint32, self.parts[part].rows)[places]
        own, at, masked = self._masked(part, places)
        if len(own):
            found[own] = np.frombuffer(masked["mark"].combine_chunks().buffers()[1], np.uint32).reshape(
                masked.num_rows, -1
            )[at]
        return found

    def words(self, part: int, places: Any) -> Any:
        """The words of likeness of records of a part, as they leave."""
        import numpy as np

        from volant.modalities.words import Words, joined_words, picked
        from volant.store.arrow_values import values

        edge_N = np.concatenate([[0], np.cumsum(values(read(self.files.file(part, "found"))["words"]))])
        file = self.files.file(part, "words")
        hash_W: Any = np.memmap(file, np.uint32, "r") if edge_N[-1] else np.zeros(0, np.uint32)
        found = Words(hash_W, edge_N.astype(np.int64))
        own, at, masked = self._masked(part, places)
        if not len(own):
            whole = len(places) == len(found)
            return Words(hash_W.astype(np.uint64), found.begin_N) if whole else picked(found, places)
        lists = masked["word"].combine_chunks()
        after = Words(values(lists.values), values(lists.offsets).astype(np.int64))
        rest = np.setdiff1d(np.arange(len(places)), own)
        return joined_words([(rest, picked(found, places[rest])), (own, picked(after, at))], len(places))

    def _masked(self, part: int, places: Any) -> tuple[Any, Any, Any]:
        """Which of these places personal data was masked at, by their number, where in the rows, and the rows."""
        import numpy as np

        from volant.store.arrow_values import values

        if not self.masked[part]:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), None
        masked = read(self._mask_file(part))
        _, own, at = np.intersect1d(places, values(masked["place"]), return_indices=True)
        return own, at, masked

    def _masked_rows(self, part: int, kept: Any) -> Any:
        """What was masked of a part, of these places."""
        return _of_places(read(self._mask_file(part)), kept)

    def _mask_file(self, part: int) -> Any:
        return self.files.file(part, "masked", self._suffix)

    @property
    def _suffix(self) -> str:
        return f"-{self.how.personal}"

    def _alive(self, part: int) -> Any:
        """Places of a part's rows that no rule of their own drops."""
        from volant.modalities.cleaning import alive

        return alive(self.parts[part].rows, self.alone[part])

    def _changed(self, part: int, kept: Any) -> Any:
        """The rows of a part, with the texts that changed before personal data was looked for."""
        from volant.modalities.cleaning import placed
        from volant.modalities.record_columns import put_columns
        from volant.store.arrow_values import values

        table = placed(self._read(part), self.how, int(self.begin_P[part]))
        changed = _of_places(read(self.files.file(part, "changed")), kept)
        return put_columns(table, values(changed["place"]), changed.drop_columns(["place"]))

    def _read(self, part: int) -> Any:
        """The rows of a part as they came; the first ones are held for the next time."""
        table = self._held.get(part)
        if table is None:
            table = self.parts[part].read()
            if self._held_bytes + table.nbytes <= HELD:
                self._held[part] = table
                self._held_bytes += table.nbytes
        return table

    def _judged(self, part: int) -> tuple[Any, dict[int, str], bool]:
        """What was found of a part, what drops its rows, and whether something was masked in one that stays."""
        import numpy as np

        from volant.modalities.cleaning import alive, beside, decided, decided_here, tagged
        from volant.store.arrow_values import values

        self.run.check_stop()
        if not self.files.has(part):
            first = int(self.begin_P[part])
            self.files.put(part, found_files(tagged(self._read(part), self.how, first)))
        found = read(self.files.file(part, "found"))
        told = found["drop"].to_pylist()
        drops = {at: drop for at, drop in enumerate(told) if drop}
        plain = alive(len(told), drops, values(found["plain"]))
        own_NF = array(self.files.file(part, "own"), np.float64, len(told))
        drops |= decided_here(own_NF, values(found["text"]), self.how.own)
        if self.how.presets:
            drops |= decided(array(self.files.file(part, "figures"), np.int64, len(told)), plain, self.how)
        if self.how.corpus:
            plain = alive(len(told), drops, values(found["plain"]))
            drops |= beside(array(self.files.file(part, "beside"), np.float64, len(told)), plain, self.how.rules)
        self.alone[part] = drops
        if self.how.personal == "keep":
            return found, drops, False
        kept = alive(len(told), drops)
        why = self._mask(part, kept)
        drops |= {at: why[at] for at in np.intersect1d(kept, list(why)).tolist()}
        return found, drops, bool(len(self._masked_rows(part, kept)))

    def _mask(self, part: int, kept: Any) -> dict[int, str]:
        """Look for personal data in the rows that are left and were not looked at before; what drops rows for it."""
        import json

        import numpy as np
        import pyarrow as pa

        from volant.modalities.cleaning import masked

        before, looked, why = None, np.zeros(0, np.int64), dict[int, str]()
        if self.files.has(part, self._suffix):
            before = read(self._mask_file(part))
            looked = np.frombuffer(before.schema.metadata[b"looked"], np.int64)
            why = dict(json.loads(before.schema.metadata[b"why"]))
        new = np.setdiff1d(kept, looked)
        if len(new) or before is None:
            found = masked(self._changed(part, new), new, self.how)
            rows = masked_rows(found)
            if before is not None:
                both = pa.concat_tables([before.replace_schema_metadata(None), rows.replace_schema_metadata(None)])
                rows = both.combine_chunks().sort_by("place")
            why |= found.drop
            told = {"looked": np.union1d(looked, new).tobytes(), "why": json.dumps(sorted(why.items()))}
            self.files.put(part, {"masked": as_file(rows.replace_schema_metadata(told))}, self._suffix)
        return why

    def _named(self, part: int, found: Any, drops: dict[int, str]) -> tuple[Any, Any]:
        """Ids and keys of a part's records as they leave."""
        import numpy as np

        from volant.modalities.cleaning import alive
        from volant.modalities.record_columns import put_columns
        from volant.store.arrow_values import values

        key_N2 = np.stack([values(found["key_a"]), values(found["key_b"])], axis=1)
        kept = alive(len(key_N2), drops)
        changed = _of_places(read(self.files.file(part, "changed")).select(["place", "id"]), kept)
        names = put_columns(found.select(["id"]), values(changed["place"]), changed.select(["id"]))
        if self.masked[part]:
            masked = self._masked_rows(part, kept)
            places = values(masked["place"])
            names = put_columns(names, places, masked.select(["id"]))
            key_N2[places] = np.stack([values(masked["key_a"]), values(masked["key_b"])], axis=1)
        return names["id"].combine_chunks(), key_N2


def _of_places(table: Any, places: Any) -> Any:
    """The rows of a table that stand for these places."""
    import numpy as np

    from volant.store import arrow_functions as pc
    from volant.store.arrow_values import numbers, values

    stays = np.isin(values(table["place"]), places)
    return table if stays.all() else pc.filter(table, numbers(stays))


@contextmanager
def beside(run: Run, function: Callable[[], None]) -> Iterator[None]:
    """Calls a function while the block runs, in a thread of its own; behind the block where the run has one thread."""
    if run.threads <= 1:
        yield
        function()
        return
    with ThreadPoolExecutor(1) as pool:
        called = pool.submit(function)
        yield
        called.result()


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
