import errno
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from volant.core.artifact import CARD, Dataset, Model, Report
from volant.core.errors import ArtifactError, MachineError
from volant.core.sample import Sample, Source
from volant.core.score import Score
from volant.store import blobs, dataset, disk
from volant.store.blobs import Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / ".volant")


def made(store: Store, text: str = "weights", kind=Model, **card):
    draft = store.scratch("step")
    (draft / "codec").mkdir()
    (draft / "model.txt").write_text(text)
    (draft / "codec" / "vocab.txt").write_text("a b")
    return store.seal(kind, draft, **card)


def corpus(store: Store, splits=("train", "validation", "test"), drop: str = "") -> Dataset:
    draft = store.scratch("corpus")
    source = Source(uri="u", licence="MIT")
    with dataset.writer(draft) as out:
        for split in splits:
            out.write(Sample(id=split, shape="text", content=split, split=split, source=source))
            out.write(Sample(id=f"gone-{split}", shape="text", content="x", split=split, source=source, drop="rule: 1"))
    return store.seal(Dataset, draft, step="corpus")


def test_sealed_artifact_comes_back(store):
    score = Score.exact("relevance", 0.5)
    model = made(store, method="finetune.lora", step="tuned", settings={"rank": 8}, scores=[score], licences=["MIT"])
    assert isinstance(model, Model)
    again = store.get(model.digest[:10])
    assert isinstance(again, Model) and again == model
    assert again.card.method == "finetune.lora" and again.card.scores == [score] and again.card.created_at
    assert again.licences == ["MIT"]
    assert [entry.path for entry in again.card.files] == ["codec/vocab.txt", "model.txt"]
    assert store.digests() == [model.digest] and store.has(model.digest) and store.verify(model.digest) == []
    assert not [p for p in (store.root / "tmp").iterdir() if p.is_dir()]


def test_same_payload_keeps_the_first_card(store):
    first, second = made(store, step="one"), made(store, step="two")
    assert first.digest == second.digest and second.card.step == "one"
    assert store.digests() == [first.digest]


def test_same_payload_of_another_kind_is_refused(store):
    made(store)
    with pytest.raises(ArtifactError, match="stored as a Model already"):
        made(store, kind=Report)


def test_empty_and_linked_payloads_are_refused(store, tmp_path):
    with pytest.raises(ArtifactError, match="left no file"):
        store.seal(Model, store.scratch("x"))
    draft = store.scratch("x")
    (draft / "a").symlink_to(tmp_path)
    with pytest.raises(ArtifactError, match="not a plain file"):
        store.seal(Model, draft)
    assert store.digests() == []


def test_flipped_byte_is_named(store):
    model = made(store)
    file = model.path / "model.txt"
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)
    assert [p.split(":")[0] for p in store.verify(model.digest)] == ["model.txt"]
    assert "altered" in store.verify(model.digest)[0]
    assert store.get(model.digest)  # reading a card hashes nothing


def test_verify_names_missing_cut_and_added_files(store):
    model = made(store)
    (model.path / "model.txt").write_text("w")
    (model.path / "codec" / "vocab.txt").unlink()
    (model.path / "more.txt").write_text("?")
    problems = "\n".join(store.verify(model.digest))
    assert "codec/vocab.txt: missing" in problems
    assert "model.txt: 1 bytes, should be 7" in problems
    assert "more.txt: does not belong" in problems


def test_verify_names_a_damaged_card(store):
    model = made(store)
    card = model.path / CARD
    good = card.read_text()
    card.write_text(good.replace(model.card.files[0].sha256, "0" * 64))
    assert any(problem.startswith(CARD) for problem in store.verify(model.digest))
    card.write_text(good[:50])
    assert store.verify(model.digest)[0].startswith(CARD)
    with pytest.raises(ArtifactError, match="does not parse"):
        store.get(model.digest)
    card.write_text(good.replace('"Model"', '"Spell"'))
    with pytest.raises(ArtifactError, match="does not parse"):
        store.get(model.digest)


def test_making_a_damaged_artifact_again_mends_it(store):
    model = made(store)
    (model.path / "model.txt").write_text("broken!")
    assert store.verify(model.digest)
    assert made(store).digest == model.digest
    assert store.verify(model.digest) == []


@pytest.mark.parametrize("name", ["xyz!", "abc", "../../etc", "0" * 65, ""])
def test_what_is_no_digest(store, name):
    with pytest.raises(ArtifactError, match="no digest"):
        store.get(name)


def test_unknown_and_ambiguous_digests(store, monkeypatch):
    with pytest.raises(ArtifactError, match="begins so"):
        store.get("abcd")
    with pytest.raises(ArtifactError, match="there is no artifact"):
        store.get("0" * 64)
    with pytest.raises(ArtifactError, match="there is no artifact"):
        store.verify("0" * 64)
    with pytest.raises(ArtifactError, match="there is no artifact"):
        store.delete("../tmp")
    assert store.digests() == [] and not store.has("0" * 64)
    monkeypatch.setattr(store, "digests", lambda: ["abcd" + "0" * 60, "abcd" + "1" * 60])
    with pytest.raises(ArtifactError, match="2 artifacts begin so"):
        store.get("abcd")


def test_delete_frees_what_it_says(store):
    data = corpus(store)
    store.view(data)
    size = sum(f.stat().st_size for f in data.path.rglob("*") if f.is_file())
    assert store.delete(data.digest) == size
    assert store.digests() == [] and not (store.views / data.digest).exists()
    model = made(store)
    assert store.delete(model.digest) > 0


def test_view_has_no_test_shards(store):
    data = corpus(store)
    view = store.view(data)
    assert view.digest == data.digest and view.path != data.path
    there = {f.relative_to(view.path).as_posix() for f in view.path.rglob("*.parquet")}
    assert there == {
        "data/train-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
        "dropped/dropped-train-00000-of-00001.parquet",
        "dropped/dropped-validation-00000-of-00001.parquet",
    }
    assert sorted(s.id for s in dataset.rows(view)) == ["train", "validation"]
    assert "gone-test" not in {s.id for s in dataset.dropped(view)}
    assert b"gone-test" not in b"".join(f.read_bytes() for f in view.path.rglob("*") if f.is_file())
    assert (view.path / "data/train-00000-of-00001.parquet").samefile(data.path / "data/train-00000-of-00001.parquet")
    assert store.view(data).path == view.path
    assert len(list(dataset.rows(data, "test"))) == 1


def test_view_without_test_split_is_the_dataset(store):
    data = corpus(store, splits=("train",))
    assert store.view(data) is data


def test_view_copies_where_links_do_not_exist(store, monkeypatch):
    data = corpus(store)

    def no_link(self, target):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", no_link)
    assert len(list(dataset.rows(store.view(data), "train"))) == 1


def test_view_passes_other_errors(store, monkeypatch):
    data = corpus(store)

    def broken(self, target):
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(Path, "hardlink_to", broken)
    with pytest.raises(OSError, match="broken disk"):
        store.view(data)
    assert not (store.views / data.digest).exists()


def test_losing_a_race_for_a_view_or_a_seal(store, monkeypatch):
    data, real = corpus(store), Path.rename
    view = store.views / data.digest

    def late_view(self, target):
        if Path(target) == view and not view.exists():
            view.mkdir(parents=True)
            (view / "theirs").write_text("x")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", late_view)
    assert (store.view(data).path / "theirs").exists()

    def late_seal(self, target):
        if Path(target).parent == store.artifacts and not Path(target).exists():
            import shutil

            shutil.copytree(self, target)
        return real(self, target)

    monkeypatch.setattr(Path, "rename", late_seal)
    assert store.verify(made(store).digest) == []
    assert not [p for p in (store.root / "tmp").iterdir() if p.is_dir()]


def test_failing_rename_of_a_view_is_said(store, monkeypatch):
    data = corpus(store)
    monkeypatch.setattr(Path, "rename", lambda self, target: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        store.view(data)


# --- a full disk ------------------------------------------------------------------------------


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["volant.store.blobs.sync_tree", "volant.store.blobs.sync_file"])
def test_full_disk_while_sealing_loses_nothing(store, monkeypatch, where):
    kept = made(store, "kept")
    draft = store.scratch("step")
    (draft / "model.txt").write_text("new")
    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        with pytest.raises(MachineError, match=r"the disk is full: sealing Model .* needs 3 bytes.*volant gc"):
            store.seal(Model, draft)
    assert store.verify(kept.digest) == []
    if draft.exists():  # not yet renamed: the work of the method is still there, without a card
        assert not (draft / CARD).exists() and (draft / "model.txt").read_text() == "new"
        assert store.digests() == [kept.digest]
        store.seal(Model, draft)
    assert len(store.digests()) == 2 and all(store.verify(d) == [] for d in store.digests())


def test_full_disk_elsewhere(store, monkeypatch):
    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(MachineError, match="starting tuned"):
        store.scratch("tuned")


def test_what_a_full_disk_looks_like(tmp_path):
    assert disk.is_full(OSError(errno.EDQUOT, "quota"))
    assert disk.is_full(RuntimeError("PytorchStreamWriter failed: No space left on device"))
    try:
        try:
            full()
        except OSError as error:
            raise ValueError("could not save") from error
    except ValueError as error:
        assert disk.is_full(error)
    assert not disk.is_full(OSError(errno.EIO, "broken"))
    with pytest.raises(ValueError, match="other"), disk.room(tmp_path, "x"):
        raise ValueError("other")
    with pytest.raises(MachineError, match="inner"), disk.room(tmp_path, "outer"), disk.room(tmp_path, "inner"):
        full()
    assert "not known" in str(disk.full_error(tmp_path / "absent", "x"))
    assert disk.tree_bytes(tmp_path / "absent") == 0


# --- litter -----------------------------------------------------------------------------------

LITTER = """
import os, sys
from pathlib import Path
from volant.store.blobs import Store
draft = Store(Path(sys.argv[1])).scratch("dead")
(draft / "half.bin").write_bytes(b"x" * 1000)
print(draft, flush=True)
{end}
"""


def run_child(root: Path, end: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", LITTER.format(end=end), str(root)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def test_sweep_takes_the_dead_and_leaves_the_living(store):
    mine = store.scratch("mine")
    assert store.sweep() == 0 and mine.is_dir()
    with run_child(store.root, "os._exit(9)") as child:
        dead = Path(child.stdout.readline().strip())
    with run_child(store.root, "sys.stdin.read()") as child:
        living = Path(child.stdout.readline().strip())
        assert dead.is_dir() and living.is_dir()
        assert store.sweep() == 1000
        assert not dead.exists() and living.is_dir() and mine.is_dir()
        child.communicate("")
    assert store.sweep() == 1000 and not living.exists()
    assert [p.suffix for p in (store.root / "tmp").glob("*.owner")] == [".owner"]  # mine


def test_sweep_of_nothing_and_of_strangers(store):
    assert store.sweep() == 0
    (store.root / "tmp" / "stranger").mkdir(parents=True)
    store.sweep()
    assert not (store.root / "tmp" / "stranger").exists()


def test_scratch_again_after_the_folder_went_away(store):
    import shutil

    store.scratch("a")
    shutil.rmtree(store.root)
    assert store.scratch("b c/d").is_dir()


def test_lock_file_taken_away_while_waiting(tmp_path, monkeypatch):
    from volant.store import scratch

    file = tmp_path / "x.owner"
    swept = SimpleNamespace(LOCK_EX=0, LOCK_NB=0, flock=lambda handle, mode: file.unlink())
    monkeypatch.setattr(scratch, "fcntl", swept)
    assert scratch._take(file, block=True) is None
    assert scratch._take(tmp_path / "absent.owner", block=False) is None


def test_names_of_test_shards_agree_with_the_writer(store):
    data = corpus(store)
    names = [f.relative_to(data.path).as_posix() for f in data.path.rglob("*.parquet")]
    assert sum(name.startswith(blobs.SEALED) for name in names) == 2
    assert all(name.startswith(blobs.SEALED) == ("test-" in name) for name in names)
