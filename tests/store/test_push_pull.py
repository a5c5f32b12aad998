import json
from pathlib import Path

import pytest

from volant.core.artifact import CARD, Model
from volant.core.errors import ArtifactError, MachineError, MissingPackage, RemoteError
from volant.store import remote
from volant.store.blobs import Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "here")


@pytest.fixture
def model(store):
    draft = store.scratch("m")
    (draft / "codec").mkdir()
    (draft / "model.txt").write_text("weights")
    (draft / "codec" / "vocab.txt").write_text("a")
    return store.seal(Model, draft, step="tuned")


def test_push_and_pull(store, model, tmp_path):
    url = f"file://{tmp_path / 'there'}"
    assert store.push(url, [model.digest[:8]]) == [model.digest]
    assert store.push(url, [model.digest]) == []
    other = Store(tmp_path / "elsewhere")
    assert other.pull(url, [model.digest]) == [model.digest]
    assert other.pull(url, [model.digest]) == []
    assert other.verify(model.digest) == [] and other.get(model.digest).card == model.card
    assert not [p for p in (other.root / "tmp").iterdir() if p.is_dir()]


def test_damaged_is_not_pushed(store, model, tmp_path):
    (model.path / "model.txt").write_text("wEights")
    with pytest.raises(ArtifactError, match="damaged: model.txt"):
        store.push(str(tmp_path / "there"), [model.digest])


def test_hostile_and_broken_remotes(store, model, tmp_path):
    there = tmp_path / "there"
    store.push(str(there), [model.digest])
    other = Store(tmp_path / "elsewhere")
    home = there / "artifacts" / model.digest
    good = (home / CARD).read_text()
    (home / "model.txt").write_text("wEights")
    with pytest.raises(ArtifactError, match="does not hash"):
        other.pull(str(there), [model.digest])
    for name in ("../../evil", "/etc/passwd", "a\\..\\b"):
        card = json.loads(good)
        card["files"][0]["path"] = name
        (home / CARD).write_text(json.dumps(card))
        with pytest.raises(ArtifactError, match="leaves it"):
            other.pull(str(there), [model.digest])
    (home / CARD).write_text(good.replace(model.digest, "0" * 64))
    with pytest.raises(ArtifactError, match="another artifact's"):
        other.pull(str(there), [model.digest])
    (home / CARD).write_text("{")
    with pytest.raises(ArtifactError, match="does not parse"):
        other.pull(str(there), [model.digest])
    with pytest.raises(ArtifactError, match="no artifact"):
        other.pull(str(there), ["1" * 64])
    with pytest.raises(ArtifactError, match="no whole digest"):
        other.pull(str(there), ["1234"])
    assert other.digests() == [] and not list(tmp_path.glob("evil*"))


def test_addresses_that_do_not_answer(store, model, monkeypatch):
    with pytest.raises(RemoteError, match="does not answer"):
        store.push("nosuch://bucket", [model.digest])

    def no_package(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(remote, "_open", no_package)
    with pytest.raises(MissingPackage, match=r"volant\[s3\]"):
        store.push("s3://bucket/x", [model.digest])
    with pytest.raises(MissingPackage, match="'gs'"):
        store.push("gs://bucket/x", [model.digest])


def test_full_disk_while_pulling(store, model, tmp_path, monkeypatch):
    store.push(str(tmp_path / "there"), [model.digest])
    import fsspec.implementations.local as local

    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local.LocalFileSystem, "get_file", full)
    other = Store(tmp_path / "elsewhere")
    with pytest.raises(MachineError, match="the disk is full: pulling"):
        other.pull(str(tmp_path / "there"), [model.digest])
    assert other.digests() == [] and not [p for p in Path(other.root / "tmp").iterdir() if p.is_dir()]
