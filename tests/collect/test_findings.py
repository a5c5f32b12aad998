"""What `collect.clean` found of texts outlives the step: other thresholds read none, and damage is never trusted."""

import json
from threading import Event

import pytest

from volant.core.artifact import Dataset, payload_digest
from volant.core.errors import Interrupted
from volant.core.run import Run, Silent
from volant.core.sample import Sample, Source, sample_id
from volant.modalities import cleaning
from volant.project import Project, keeping
from volant.stages import collect
from volant.stages.collect import _sketched
from volant.store import dataset as store
from volant.store import shards
from volant.store.findings import Findings

LOOSE = {"gopher_min_words": 3, "gopher_top_2": 1, "gopher_top_3": 1, "gopher_top_4": 1, "c4_sentences": 1}
LOOSE_OF_GOPHER = {name: bound for name, bound in LOOSE.items() if name.startswith("gopher")}
LOOSER = {"rules": ["gopher", "c4"], "thresholds": LOOSE}
RULES = {"rules": ["gopher", "c4"], "thresholds": {**LOOSE, "gopher_min_words": 14}}
OWN, TIGHTER = {"min_words": 7}, {"min_words": 14}
ALL = ["the features of 72 of 72 records were found before, and are used again"]
SPEC = """\
volant: 1
name: found
device: cpu
threads: 1
steps:
  raw:   {use: collect.files, glob: "data/*.jsonl", licence: MIT}
  clean: {use: collect.clean, data: raw}
"""


def texts():
    words = [f"{a}{b}{c}" for a in ("bat", "kol", "lun") for b in ("rem", "ton") for c in ("ix", "yad", "zem")]
    for i, word in enumerate(words * 2):
        more = f"The {word[::-1]} of {i * i}x was with {word}{i} and {i}y had {word[1:]}." * (i % 3 > 0)
        yield {
            "content": f"The {word} and {i} of that.\nMenu {i}\n{more} "
            + f"Write to {word}@firm{i}.org then." * (i % 4 == 0)
        }
        yield {"condition": f"What is {word} {i}?", "target": f"A {word} {i}, of {word[:2]}."}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """72 records in nine row groups."""
    monkeypatch.setattr(shards, "_ROWS_A_GROUP", 8)
    with store.writer(tmp_path / "data") as out:
        for i, given in enumerate(texts()):
            split = ("test", "validation", *["train"] * 8)[i % 10]
            shape = "text" if "content" in given else "completion"
            source = Source(uri="t", licence="MIT")
            out.write(Sample(id=sample_id(*given.values()), shape=shape, source=source, split=split, **given))
    return Dataset(tmp_path / "data")


def cleaned(data, step, settings, findings=None):
    """The digest of what is made, and what is said of the features."""
    folder, watcher = data.path.parent, Silent()
    for name in (step, f"{step}-work"):
        (folder / name).mkdir()
    kept = findings and (lambda artifact, kind, about: findings.folder(artifact.digest, kind, about))
    run = Run(step, folder / step, folder / f"{step}-work", watcher=watcher, findings=kept)
    collect.clean(run, data, **settings)
    return payload_digest(run.out)[0], [line for line in watcher.lines if "found before" in line]


def counted(monkeypatch, name):
    """How many rows each call of a pass over texts looks at."""
    calls, one = [], getattr(cleaning, name)

    def looked(table, *rest):
        calls.append(len(rest[0]) if name == "masked" else table.num_rows)
        return one(table, *rest)

    monkeypatch.setattr(cleaning, name, looked)
    return calls


def test_another_threshold_reads_no_text_and_damage_is_never_trusted(data, monkeypatch):
    fresh, said = cleaned(data, "fresh", LOOSER)
    assert not said
    findings = Findings(data.path.parent / "findings")
    before, _ = cleaned(data, "before", RULES, findings)
    tagged, masked = counted(monkeypatch, "tagged"), counted(monkeypatch, "masked")
    digest, said = cleaned(data, "again", LOOSER, findings)
    assert digest == fresh != before and said == ALL
    assert not tagged and 0 < sum(masked) < 36  # those that are let in are looked at for personal data

    files = sorted(findings.root.glob("*/*/*"))
    stems = sorted({file.name.rsplit(".", 1)[0] for file in files if file.name.endswith("found")})
    kinds = ["marks", "words", "figures", "own", "changed", "found", "seal", "masked"]
    assert {file.name.split(".")[-1] for file in files} == set(kinds) and len(stems) == 9
    for number, kind in enumerate(kinds):  # each in a row group of its own
        (file,) = (f for f in files if f.name == f"{stems[number]}{'-mask' if kind == 'masked' else ''}.{kind}")
        whole = bytearray(file.read_bytes())
        whole[len(whole) // 2] ^= 1
        file.write_bytes(whole if number % 2 else whole[: len(whole) // 2])
    assert cleaned(data, "damaged", LOOSER, findings)[0] == fresh
    assert len(tagged) == 7  # the features of all but the one of whose masked rows a byte was lost


def test_thresholds_of_its_own_rules_read_no_text_either(data, monkeypatch):
    fresh, _ = cleaned(data, "fresh", TIGHTER)
    findings = Findings(data.path.parent / "findings")
    before, _ = cleaned(data, "before", OWN, findings)
    looked = counted(monkeypatch, "tagged"), counted(monkeypatch, "masked")
    assert cleaned(data, "again", TIGHTER, findings) == (fresh, ALL) and fresh != before
    assert looked == ([], [])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stop_reaches_the_sketches_that_are_written_beside_the_records(data, tmp_path, monkeypatch, threads):
    begun, real, stop = [], _sketched._part, Event()

    def stopped(rows, part, places):
        begun.append(part)
        stop.set()
        return real(rows, part, places)

    monkeypatch.setattr(_sketched, "_part", stopped)
    run = Run(step="clean", out=tmp_path / "out", work=tmp_path / "work", threads=threads, stop=stop)
    with pytest.raises(Interrupted):
        collect.clean(run, data)
    assert len(begun) == 1  # of nine


def test_a_project_reuses_findings_and_collects_those_that_are_over(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text("\n".join(json.dumps({"text": " ".join(t.values())}) for t in texts()))
    (tmp_path / "volant.yaml").write_text(SPEC)
    watcher = Silent()
    Project(tmp_path).go()
    looked = counted(monkeypatch, "tagged")
    Project(tmp_path, watcher=watcher).go(settings={"clean.min_words": 6})
    assert not looked and ALL[0] in "\n".join(watcher.lines)
    assert not list((tmp_path / ".volant" / "work").glob("*/*"))
    Project(tmp_path).go(settings={"clean.rules": ["gopher"], "clean.thresholds": LOOSE_OF_GOPHER})
    (home,) = (tmp_path / ".volant" / "findings").iterdir()
    assert len(list(home.iterdir())) == 2
    for stray in (home, home.parent):  # as a file manager leaves them
        (stray / ".DS_Store").write_bytes(b"x")
    dry = keeping.collect_garbage(Project(tmp_path), dry=True)
    freed = keeping.collect_garbage(Project(tmp_path))
    assert dry.findings == freed.findings > 0 and len(list(home.iterdir())) == 2
    assert Findings(home.parent).collect(set()) > 0 and not home.exists()
