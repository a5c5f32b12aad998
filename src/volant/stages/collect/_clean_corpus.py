"""What all records of `clean` say of each: lines that many share, and which characters are usual.

In go datasets before they are judged; out comes the `Corpus` by which plain texts are trimmed and tagged. Each row
group is read once more than without these rules. Hashes of lines lie on disk (`_clean_files`), and memory holds a
sixteenth of them; a run that was killed, or comes after one that looked at the same data, goes on with what is missing.

Copies of one text share its lines as pages share a menu. So texts of which half of the lines seem to be shared are
read again and held against each other, and the lines of a near duplicate are not counted: which of the copies stays is
for likeness to say (`_clean_alike`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from volant.core import Dataset, Run
from volant.stages.collect._clean_files import as_file, known, opened, read
from volant.stages.collect._clean_rows import in_order


def corpus_of(run: Run, datasets: Sequence[Dataset], rules: Sequence[Any], near: float) -> Any:
    """What the records of these datasets say by these rules; None where none of them asks.

    Args:
        near: similarity from which a text is a copy of another.
    """
    from volant.modalities.text_rules import LINE_RECORDS, SHARED_LINES, SURPRISE

    bound = {rule.name: rule.bound for rule in rules}
    if SURPRISE not in bound:
        return None
    import numpy as np

    from volant.modalities.text_corpus import Corpus, bits, lower_first, shared_lines, spoken, versions
    from volant.modalities.text_corpus_kernel import KINDS

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
    most = int(bound[LINE_RECORDS])
    shared_S = shared_lines([lines["line"].to_numpy() for lines in found], most)
    copied_P = _copied(run, pieces, [_mostly(lines, shared_S) for lines in found], near) if len(shared_S) else {}
    if copied_P:
        shared_S = shared_lines([_without(lines, copied_P.get(part)) for part, lines in enumerate(found)], most)
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

    from volant.modalities.record_columns import at, plain_texts, rights
    from volant.modalities.text_arrays import text_column
    from volant.modalities.text_corpus import languages_of, line_hashes, triples
    from volant.store import arrow_functions as pc
    from volant.store.arrow_values import one, strings

    gone = pc.is_in(table["id"], strings(sorted(forgotten)))
    speaks = pc.and_not(pc.equal(table["drop"], one("")), gone)
    places = np.flatnonzero(plain_texts(table) & np.asarray(speaks))
    texts = at(text_column(table["content"]), places)
    hash_L, place_L = line_hashes(texts)
    place_L = places[place_L]
    return {
        "lines": as_file(pa.table({"line": hash_L, "place": place_L, "right": rights(table)[place_L]})),
        "triples": as_file(pa.table({"count": triples(texts)})),
        "languages": as_file(pa.table({"code": pa.array(languages_of(texts).elements(), pa.string())})),
    }


def _mostly(lines: Any, shared_S: Any) -> Any:
    """The places of the texts of a row group of which half of the lines or more are shared."""
    import numpy as np

    from volant.modalities.text_corpus import looked_up

    place_L = lines["place"].to_numpy()
    _, held_L = looked_up(shared_S, lines["line"].to_numpy())
    place_N, at_L = np.unique(place_L, return_inverse=True)
    return place_N[np.bincount(at_L, held_L) >= HALF * np.bincount(at_L)] if len(place_N) else place_N


HALF = 0.5


def _copied(run: Run, pieces: Sequence[Any], chosen_P: Sequence[Any], near: float) -> dict[int, Any]:
    """Of the texts at these places of each row group, by its number, the places of those that repeat another one.

    Their sketches are held, 512 bytes a text; their shingles lie on disk meanwhile.
    """
    import numpy as np

    from volant.modalities.duplicates import near_clusters
    from volant.modalities.minhash import signatures
    from volant.modalities.record_columns import at
    from volant.modalities.shingle_sets import Sets, joined_sets
    from volant.modalities.text_arrays import text_column
    from volant.modalities.text_features import likeness

    folder = run.work / "copied"
    parts = [part for part, places in enumerate(chosen_P) if len(places)]
    if not parts:
        return {}
    sets, sketched = Sets(file=folder / "shingles"), []
    for part in parts:
        run.check_stop()
        words = likeness(at(text_column(pieces[part].read()["content"]), chosen_P[part])).words
        sketched.append(signatures(words))
        sets.put(*joined_sets(words))
    signature_NP = np.concatenate(sketched)
    _, own_U = np.unique(signature_NP, axis=0, return_index=True)
    own_U.sort()

    def shingles_of(wanted: Any) -> Sets:
        sets.reorder(own_U[wanted])
        return sets

    found = near_clusters(signature_NP[own_U], near, shingles_of, work=folder / "bands")
    (folder / "shingles").unlink()
    again_N = np.ones(len(signature_NP), bool)
    again_N[own_U] = found.first_N != np.arange(len(own_U))
    edges = np.cumsum([len(chosen_P[part]) for part in parts])[:-1]
    return {part: chosen_P[part][own] for part, own in zip(parts, np.split(again_N, edges), strict=True) if own.any()}


def _without(lines: Any, places: Any) -> Any:
    """The lines of a row group but for those of the texts at these places."""
    import numpy as np

    line_L = lines["line"].to_numpy()
    return line_L if places is None else line_L[~np.isin(lines["place"].to_numpy(), places)]
