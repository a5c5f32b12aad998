"""`collect.unseen`: an update against what was cleaned before keeps what cleaning the whole at once keeps."""

import json
import random

import pytest
from test_collect import made, run_in
from test_screen import text

from volant.core.artifact import Dataset
from volant.core.sample import Sample, Source
from volant.modalities.sketch_columns import kept
from volant.stages import collect
from volant.store.dataset import dropped, rows, writer

WORDS = [a + b for a in ("ba", "de", "fi", "go", "lu", "mi", "no", "ra", "su", "te") for b in ("k", "lo", "ma", "rin")]


def said(seed, words=60):
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) + str(draw.randrange(30)) for _ in range(words))


def changed(sentence, *places):
    found = sentence.split()
    for place in places:
        found[place] = f"other{place}"
    return " ".join(found)


def cleaned(folder, samples, step):
    return collect.clean(run_in(folder, step), made(folder, samples, f"{step}-in"))


def updated(folder, new, earlier, *more, step="unseen", **settings):
    run = run_in(folder, step)
    return collect.unseen(run, new, earlier, *more, **settings), run


def ids(*datasets):
    return {sample.id for data in datasets for sample in rows(data)}


def spread(first, count=40):
    splits = ["test", "validation", *["train"] * 6]
    return [text(said(first + n), split=splits[n % 8]) for n in range(count)]


@pytest.mark.slow
def test_an_update_keeps_what_cleaning_the_whole_would_keep(tmp_path):
    old = spread(0)
    base = [s.content for s in old]
    chain = changed(base[2], 5, 9)  # dropped when the old data were cleaned, and the new data repeat only this
    old += [text(chain), text(base[3].upper())]
    further = changed(chain, 30, 44)
    new = [
        *spread(100),
        text(base[5]), text(base[6].upper()), text(changed(base[7], 20)), text(changed(base[0], 3)), text(further),
        text(f"{said(900, 30)} {' '.join(base[1].split()[10:40])} {said(901, 30)}"),  # holds half of a validation text
        text(changed(base[12], 31), split="test"),
    ]  # fmt: skip
    whole = cleaned(tmp_path, [*old, *new], "whole")
    first, second = cleaned(tmp_path, old, "first"), cleaned(tmp_path, new, "second")
    update, run = updated(tmp_path, second, first)
    assert ids(first) & ids(update) == set()
    # The whole keeps a test text and drops the training text that it repeats; an update cannot take that one back.
    only_whole, only_parts = ids(whole) - ids(first, update), ids(first, update) - ids(whole)
    assert only_whole == {new[-1].id} and only_parts == {old[12].id}
    why = {s.id: s.drop for s in dropped(update)}
    assert why[new[40].id] == f"exact_duplicate: 1.00 (of {old[5].id}) against 1.00"
    assert why[new[42].id].startswith("near_duplicate: 0.8") and f"of {old[7].id}" in why[new[42].id]
    assert why[new[44].id].startswith("near_duplicate") and old[40].id in why[new[44].id]
    assert why[new[45].id].startswith("leakage: ") and old[1].id in why[new[45].id]
    assert "of 41 earlier texts were read again" in "".join(run.watcher.lines)
    again, _ = updated(tmp_path, second, first, step="again")
    assert [f.read_bytes() for f in sorted(update.path.rglob("*.parquet"))] == [
        f.read_bytes() for f in sorted(again.path.rglob("*.parquet"))
    ]
    third = cleaned(tmp_path, [*spread(300), text(changed(new[10].content, 8)), text(changed(base[9], 2))], "third")
    last, _ = updated(tmp_path, third, first, update, step="last")
    assert len(ids(third) - ids(last)) == 2 and len(ids(last)) == 40


def test_earlier_texts_are_not_touched_where_nothing_is_alike(tmp_path):
    first, second = cleaned(tmp_path, spread(0), "first"), cleaned(tmp_path, spread(500), "second")
    for file in (first.path / "data").glob("train-*"):
        file.write_bytes(b"no Parquet any more")
    update, _ = updated(tmp_path, second, first)
    assert ids(update) == ids(second)


def test_without_sketches_the_records_are_read_and_feedback_meets_feedback_only(tmp_path):
    old, new = spread(0), spread(100)
    feedback = text(changed(old[4].content, 7))
    feedback.source.origin = "feedback"
    first = made(tmp_path, old, "first")
    update, run = updated(tmp_path, made(tmp_path, [*new, text(changed(old[3].content, 1)), feedback], "new"), first)
    assert ids(update) == {s.id for s in new} | {feedback.id}
    assert sum("all its records were read" in line for line in run.watcher.lines) == 2
    assert len(kept(update.path)) == 42  # what was near is kept among the sketches, for the next update


def test_rows_and_nothing_new(tmp_path):
    def table(step, count):
        source = Source(uri="t", licence="MIT")
        with writer(run_in(tmp_path, step).out, modality="table") as out:
            out.write_all(Sample(id=str(n), shape="row", source=source, content=f'{{"a": {n}}}') for n in range(count))
        return Dataset(tmp_path / step)

    run = run_in(tmp_path, "out", modality="table")
    assert ids(collect.unseen(run, table("more", 6), table("few", 4))) == {"4", "5"}
    (guarded,) = json.loads((run.out / "leakage.json").read_text())["sets"]  # rows have no words, and that is told
    assert (guarded["name"], guarded["items"], guarded["records"]) == ("earlier-1", 0, 0)
    first = made(tmp_path, spread(0), "first")
    update, run = updated(tmp_path, first, first, step="same")
    assert ids(update) == set() and "0 of 40 records are new" in run.watcher.lines[-1]
    gone = run_in(tmp_path, "gone", forgotten=frozenset([spread(0)[2].id]))
    left = collect.unseen(gone, first, made(tmp_path, spread(200), "other"))
    assert len(ids(left)) == 39 and next(dropped(left)).content is None


@pytest.mark.parametrize("changes, stays", [(0, False), (6, False), (60, True)])
def test_pictures(tmp_path, changes, stays):
    import numpy as np

    from volant.modalities.image_delivery import png

    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 255, (16, 16, 3), np.uint8) for _ in range(3)]
    later = pictures[1].copy()
    later[:: max(1, 16 // max(1, changes // 6)), :, 0] ^= np.uint8(3 if changes < 60 else 255)
    other = draw.integers(0, 255, (16, 16, 3), np.uint8) if stays else later

    def shelf(step, arrays):
        source = Source(uri="t", licence="MIT")
        with writer(run_in(tmp_path, step).out, modality="image") as out:
            for n, array in enumerate(arrays):
                out.write(Sample(id=f"{step}{n}", shape="media", source=source, media=png(array)))
        return Dataset(tmp_path / step)

    run = run_in(tmp_path, "out", modality="image")
    assert bool(ids(collect.unseen(run, shelf("new", [other]), shelf("old", pictures)))) == stays
