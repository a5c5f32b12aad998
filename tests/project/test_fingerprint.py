import json
from pathlib import Path

import pytest

from volant.core import Dataset, Run
from volant.core.errors import DataError
from volant.core.method import method_of
from volant.core.outside import Snapshot
from volant.core.paths import Resolver
from volant.core.spec import Goal
from volant.project import Project, fingerprint
from volant.project.fingerprint import Code, CodeReader, inputs_key, key_parts, read_facts
from volant.project.looking import what_changed
from volant.project.project import FeedbackAfter
from volant.project.snapshots import Hashes, Snapshots, machine_facts
from volant.project.watching import RecordingWatcher


def test_docstrings_and_comments_do_not_count_and_code_does():
    base = read_facts('"""Doc."""\ndef f():\n    """One."""\n    return 1\n')
    assert base.tree == read_facts('"""Other."""\ndef f():\n    "Two."\n    # why\n    return 1\n').tree
    assert base.tree != read_facts('"""Doc."""\ndef f():\n    """One."""\n    return 2\n').tree
    assert read_facts('class A:\n    """Only words."""\n').packages == []


def test_what_a_file_uses_and_reads_is_found():
    facts = read_facts(
        "import numpy.linalg\nfrom volant.nets.loop import train\nfrom volant import core\nimport os\n"
        "try:\n    import faster\n    from faster2 import x\nexcept ImportError: pass\nfrom . import near\n"
        "version = 2\nVERSION: int = 3\ndef f(run): return run.goal.use, run.spec_steps\n"
    )
    assert "volant.nets.loop" in facts.imports and facts.packages == ["numpy"]
    assert facts.version == "2;3;" and facts.goal == ["use"] and facts.reads == ["spec_steps"]
    assert read_facts("def f(run): g(run.goal)").goal == ["*"]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A stand-in for Volant's own tree: a method that uses a net that uses an engine."""
    root = tmp_path / "volant"
    for folder in ("nets", "engines", "stages"):
        (root / folder).mkdir(parents=True)
    (root / "nets" / "small.py").write_text("from volant.engines import fast\nversion = 1\n")
    (root / "engines" / "__init__.py").write_text("")
    (root / "engines" / "fast.py").write_text("x = 1\n")
    (root / "stages" / "m.py").write_text("def m(run):\n    from volant.nets.small import y\n    return run.goal.use\n")
    monkeypatch.setattr(fingerprint, "ROOT", root)
    monkeypatch.setattr(fingerprint.inspect, "getfile", lambda function: str(root / "stages" / "m.py"))
    return root


def a_method(run: Run, *, rank: int = 1) -> Dataset:
    """A method."""
    return Dataset(run.out)


def test_code_reaches_through_imports_and_is_remembered(own, tmp_path):
    method = method_of(a_method)
    first = CodeReader(tmp_path / "cache.json")
    code = first.of(method)
    first.save()
    first.save()
    assert code.versions == {"nets/small.py": "1;"} and code.goal == ["use"]
    second = CodeReader(tmp_path / "cache.json")
    assert second.of(method).digest == code.digest and not second._changed
    (own / "engines" / "fast.py").write_text("x = 22\n")
    assert CodeReader(tmp_path / "cache.json").of(method).digest != code.digest
    (tmp_path / "cache.json").write_text("broken")
    assert CodeReader(tmp_path / "cache.json").of(method).digest != code.digest


def test_what_is_opened_by_name_is_code_where_its_package_is_used(own, tmp_path):
    def read(*opened):
        return CodeReader(tmp_path / "cache.json").of(method_of(a_method), opened)

    (own / "modalities").mkdir()
    (own / "modalities" / "__init__.py").write_text("")
    (own / "modalities" / "sound.py").write_text("from volant.engines import fast\nversion = 7\n")
    sound = "volant.modalities.sound"
    assert read(sound, "volant.nets.remote").digest == read().digest, "this method opens no modality"
    (own / "stages" / "m.py").write_text("from volant.modalities import open_modality\n")
    assert read(sound).versions == {"modalities/sound.py": "7;"} and read().versions == {}
    before = read(sound).digest
    (own / "modalities" / "sound.py").write_text("version = 7\nx = 22\n")
    assert read(sound).digest != before and read().digest == read().digest


def parts(method=None, **changes):
    given = {
        "settings": {"rank": 1}, "inputs": {"data": ["d"]}, "outside": {"p": Snapshot("files", "p")},
        "seed": 0, "goal": Goal(use="research"), "modality": "text", "spec_steps": [("a", "b", {}, {})],
    }  # fmt: skip
    code = Code("c", versions={"nets/x.py": "1"}, goal=changes.pop("reads_goal", []), reads=changes.pop("reads", []))
    return key_parts(method or method_of(a_method), code, **{**given, **changes})


def test_the_key_has_what_matters_and_nothing_else():
    base = inputs_key(parts())
    assert base == inputs_key(parts()) == inputs_key(parts(goal=Goal(use="personal")))
    for change in ({"settings": {"rank": 2}}, {"seed": 1}, {"inputs": {"data": ["e"]}}, {"modality": "image"}):
        assert inputs_key(parts(**change)) != base
    assert parts(reads_goal=["use"])["goal"] == {"use": "research"}
    assert parts(reads_goal=["targets"])["goal"]["metric"] == "relevance"
    assert "steps" in parts(reads=["spec_steps"]) and "steps" not in parts()


def test_what_changed_is_told_in_words():
    before, after = parts(), parts(settings={"rank": 2}, seed=4, inputs={"data": ["e"]}, modality="image")
    told = what_changed(before, after)
    assert (
        "rank 1 -> 2" in told and "seed 0 -> 4" in told and "inputs data changed" in told and "modality changed" in told
    )
    assert what_changed({"settings": {"a": "x" * 90}}, {"settings": {"a": "y"}}) == "a changed"


@pytest.fixture
def snapshots(tmp_path):
    root = tmp_path / "p"
    (root / "model" / ".git").mkdir(parents=True)
    (root / "model" / "w.bin").write_text("w")
    (root / "model" / ".git" / "x").write_text("w")
    (root / "a.txt").write_text("a")
    project = Project(root)
    return Snapshots(Resolver.for_project(root), Hashes(root / ".volant" / "h.json"), lambda: project.records)


def test_folders_hubs_records_and_machine(snapshots):
    assert [f.name for f in snapshots.take("folder", "model").files] == ["w.bin"]
    local = snapshots.take("hub", "./model")
    assert local.facts == {"name": "model", "local": True} and local.files
    assert snapshots.take("hub", "model").facts["local"]
    assert snapshots.take("hub", "org/name").facts == {"name": "org/name", "local": False}
    assert snapshots.take("records", "*").facts["feedback"] == 0
    assert snapshots.take("machine", "here").facts["cores"] >= 1
    with pytest.raises(DataError, match="there is no folder 'nothing'"):
        snapshots.take("folder", "nothing")
    assert [f.name for f in snapshots.take("files", ["a.txt", ""]).files] == ["a.txt"]


def test_hashes_are_kept_until_the_file_changes(snapshots, monkeypatch):
    first = snapshots.take("files", "a.txt").digest
    snapshots.hashes.save()
    again = Hashes(snapshots.hashes.cache)
    monkeypatch.setattr("volant.project.snapshots.file_sha256", lambda path: pytest.fail("read again"))
    path = snapshots.resolver.root / "a.txt"
    assert again.sha256(path)[1] == snapshots.take("files", "a.txt").files[0].sha256
    monkeypatch.undo()
    path.write_text("b")
    assert snapshots.take("files", "a.txt").digest != first


def test_machine_facts_without_proc(monkeypatch, tmp_path):
    real = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda self, *a: (_ for _ in ()).throw(OSError()) if "cpuinfo" in str(self) else real(self, *a),
    )
    facts = machine_facts(tmp_path)
    assert facts["bf16"] is False and facts["disk_free_bytes"] > 0 and json.dumps(facts)


def test_feedback_that_was_judged_is_left_out():
    class Reader:
        def requests(self, snapshot):
            return iter([{"id": 1}])

        feedback = ratings = requests

        def runs(self, method=None):
            return iter([{"method": method}])

    view = FeedbackAfter(Reader())
    assert list(view.feedback(Snapshot("records", "*", facts={"feedback_after": 1}))) == []
    assert list(view.feedback(Snapshot("records", "*"))) == [{"id": 1}]
    assert list(view.requests(Snapshot("records", "*"))) == list(view.ratings(Snapshot("records", "*"))) == [{"id": 1}]
    assert list(view.runs("m")) == [{"method": "m"}]


def test_points_are_written_in_batches(tmp_path):
    written = []

    class Records:
        def add_metrics(self, run, points):
            written.append(len(points))

    from volant.core.run import Silent
    from volant.core.score import Score

    outer = Silent()
    watcher = RecordingWatcher(Records(), "r", outer)
    for i in range(1500):
        watcher.metric("s", "loss", 1.0, i)
    watcher.flush()
    watcher.flush()
    assert written == [1000, 500] and len(outer.metrics) == 1500
    watcher.score("s", Score.exact("a", 1))
    watcher.score("s", Score.exact("a", 2))
    watcher.say("s", "hi")
    assert [s.value for s in watcher.scores] == [2] and outer.lines == ["hi"]
