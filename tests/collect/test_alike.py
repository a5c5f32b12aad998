"""`collect.alike`: texts in other words go, with what they are like and how much; other subjects and feedback stay."""

import pytest
from test_collect import made, run_in
from test_screen import text

import tiny_models
from volant.core.errors import ArtifactError, DataError
from volant.core.sample import Sample, Source
from volant.stages import collect
from volant.store.dataset import dropped, rows, writer

SEA = "The old harbour lies below the cliffs. Fishing boats come in at dawn. Gulls follow them to the market."
WOOD = "Deer cross the clearing at night. An owl watches from the oak. Moss covers the fallen trunks by the stream."
TURNED = "Gulls follow them to the market. The old harbour lies below the cliffs. At dawn fishing boats come in."
SHORT = "The old harbour lies below cliffs. Fishing boats come at dawn. Gulls follow to market."
OTHERS = [f"Number {n} tells of {n * 7} things and {n * 3} people who went to town {n}." for n in range(20)]


def judged(folder, samples, step="alike", **settings):
    run = run_in(folder, step)
    return collect.alike(run, made(folder, samples, f"{step}-in"), **settings), run


def test_what_says_the_same_goes_and_names_what_stays(tmp_path):
    correction = text(f"{SEA} Always.")
    correction.source.origin = "feedback"
    held_out = text(WOOD, split="test")
    samples = [
        text(SEA),
        *map(text, OTHERS[:6]),
        text(TURNED),
        text(SHORT),
        text(f"By night: {WOOD}"),
        held_out,
        correction,
    ]
    data, run = judged(tmp_path, samples)
    why = {s.content: s.drop for s in dropped(data)}
    assert set(why) == {TURNED, SHORT, f"By night: {WOOD}"}  # the test text stays, though it came later
    assert why[TURNED].endswith(f"(of {samples[0].id}) against 0.75") and why[TURNED] > "alike: 0.9"
    assert held_out.id in why[f"By night: {WOOD}"] and run.watcher.lines[0].startswith("3 of 11 texts say the same")
    assert {s.name: s.value for s in run.watcher.scores}["dropped_alike"] == 3
    stricter, _ = judged(tmp_path, samples, "strict", threshold=0.999)
    assert [s.content for s in dropped(stricter)] == [TURNED]


def test_no_chain_of_small_steps(tmp_path):
    words = [f"w{n}" for n in range(60)]
    steps = [text(" ".join(words[at : at + 30])) for at in range(0, 31, 5)]  # each like its neighbours alone
    data, _ = judged(tmp_path, steps, threshold=0.7)
    assert [s.content.split()[0] for s in rows(data)] == ["w0", "w10", "w20", "w30"]


@pytest.mark.slow
def test_a_local_model_tells(tmp_path):
    model = tiny_models.model(tmp_path / "model", steps=0)
    long = f"{SEA} {WOOD} " * 4  # more than it reads
    samples = [text(SEA), text(SEA.upper()), *map(text, OTHERS[:4]), text(long), text(f"{long} And then?")]
    data, _ = judged(tmp_path, samples, embedder=model, threshold=0.99)
    (gone,) = dropped(data)
    assert gone.content == samples[-1].content and gone.drop == f"alike: 1.00 (of {samples[-2].id}) against 0.99"
    again, _ = judged(tmp_path, samples, "again", embedder=model, threshold=0.99)
    assert [s.drop for s in dropped(again)] == [gone.drop]
    (model.path / "volant.json").write_text((model.path / "volant.json").read_text().replace("transformer", "vae"))
    with pytest.raises(ArtifactError, match="reads no text"):
        judged(tmp_path, samples, "vae", embedder=model)


def test_rows_are_no_texts(tmp_path):
    source = Source(uri="t", licence="MIT")
    run = run_in(tmp_path, "rows-in", modality="table")
    with writer(run.out, modality="table") as out:
        out.write(Sample(id="1", shape="row", source=source, content="{}"))
    from volant.core.artifact import Dataset

    with pytest.raises(DataError, match="no text to compare"):
        collect.alike(run_in(tmp_path, "rows", modality="table"), Dataset(run.out))
