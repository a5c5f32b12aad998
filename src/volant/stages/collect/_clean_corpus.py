"""What all records of `clean` say of each: lines that many share, and which characters are usual.

In go datasets before they are judged; out comes the `Corpus` by which plain texts are trimmed and tagged. Each row
group is read once more than without these rules. Hashes of lines lie on disk (`_clean_files`), and memory holds a
sixteenth of them; a run that was killed, or comes after one that looked at the same data, goes on with what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from volant.core import Dataset, Run
from volant.stages.collect._clean_files import as_file, known, opened, read
from volant.stages.collect._clean_rows import in_order


def corpus_of(run: Run, datasets: Sequence[Dataset], rules: Sequence[Any]) -> Any:
    """What the records of these datasets say by these rules; None where none of them asks."""
    import numpy as np

    from volant.modalities.text_corpus import Corpus, bits, lower_first, shared_lines, spoken, versions
    from volant.modalities.text_corpus_kernel import KINDS
    from volant.modalities.text_rules import LINE_RECORDS, SHARED_LINES, SURPRISE

    bound = {rule.name: rule.bound for rule in rules}
    if SURPRISE not in bound:
        return None
    about = repr((versions(), known(run.forgotten)))
    pieces, begin_P, files = opened(run, datasets, "corpus", about)

    def looked(number: int) -> int:
        run.check_stop()
        if not files.has(number):
            files.put(number, _seen(pieces[number].read(), run.forgotten))
        return number

    counted: Counter[str] = Counter()
    count_T: Any = np.zeros(KINDS**3, np.int64)
    found: list[Any] = []
    with run.progress("looking at the whole", max(1, int(begin_P[-1])), "records") as bar:
        for number in in_order(run, looked, range(len(pieces))):
            found.append(read(files.file(number, "lines")))
            count_T = count_T + read(files.file(number, "triples"))["count"].to_numpy()
            counted.update(read(files.file(number, "languages"))["code"].to_pylist())
            bar.advance(pieces[number].rows)
    shared_S = shared_lines([lines["line"].to_numpy() for lines in found], int(bound[LINE_RECORDS]))
    rank_S = np.full(len(shared_S), np.iinfo(np.int64).max)  # the right of a record to stay, and then its number
    for begin, lines in zip(begin_P.tolist(), found, strict=False):
        rank_L = lines["right"].to_numpy().astype(np.int64) << _RIGHT | begin + lines["place"].to_numpy()
        lower_first(rank_S, shared_S, lines["line"].to_numpy(), rank_L)
    bits_T, languages = bits(np.asarray(count_T)), spoken(counted)
    first_S = rank_S & ((1 << _RIGHT) - 1)
    return Corpus(shared_S, first_S, bits_T, languages, bound[SHARED_LINES], bound[SURPRISE])


_RIGHT = 40


def _seen(table: Any, forgotten: Collection[str]) -> dict[str, Any]:
    """Lines, runs of characters and languages of a row group's plain texts, as files; forgotten ones say nothing."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from volant.modalities.record_columns import at, plain_texts, rights, text_column
    from volant.modalities.text_corpus import languages_of, line_hashes, triples

    gone = pc.is_in(table["id"], pa.array(sorted(forgotten), pa.string()))
    speaks = pc.and_not(pc.equal(table["drop"], ""), gone)
    places = np.flatnonzero(plain_texts(table) & np.asarray(speaks))
    texts = at(text_column(table["content"]), places)
    hash_L, place_L = line_hashes(texts)
    place_L = places[place_L]
    return {
        "lines": as_file(pa.table({"line": hash_L, "place": place_L, "right": rights(table)[place_L]})),
        "triples": as_file(pa.table({"count": triples(texts)})),
        "languages": as_file(pa.table({"code": pa.array(languages_of(texts).elements(), pa.string())})),
    }
