"""Every built-in method keeps the contract of methods; broken ones are found out."""

from __future__ import annotations

import os

import broken_methods as broken
import pytest
from contract_world import OF_CONTENT, TABLE, World, make

from volant.core import Dataset, Run
from volant.core.method import methods
from volant.testing import check_method, dataset, tasks

BUILT_IN = {name: method for name, method in methods().items() if method.builtin}
# Starts a server in a process of its own each time, which takes seconds.
SLOW = {"deploy.container"}


@pytest.fixture(scope="module")
def world(shelf, tmp_path_factory: pytest.TempPathFactory) -> World:
    return make(tmp_path_factory.mktemp("world"), shelf)


def test_no_method_is_missing():
    assert set(TABLE) == set(BUILT_IN)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in TABLE])
def test_method(name, world, tmp_path):
    check_method(BUILT_IN[name].function, lambda p: TABLE[name](p, world), folder=tmp_path)


@pytest.mark.parametrize("name", OF_CONTENT)
def test_method_with_content(name, world, tmp_path):
    check_method(BUILT_IN[name].function, lambda p: OF_CONTENT[name](p, world), folder=tmp_path, stops=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_method_survives_kills(name, world, tmp_path):
    kills = int(os.environ.get("VOLANT_KILLS", "3"))
    arguments = TABLE[name]
    check_method(
        BUILT_IN[name].function, lambda p: arguments(p, world), folder=tmp_path, stops=0, edges=False, kill=True,
        kills=kills,
    )  # fmt: skip


def given(project):
    (project.root / "numbers.txt").write_text("1 2 3")
    return {"data": dataset(project, tasks(30))}


def test_a_method_of_ones_own(tmp_path):
    made = check_method(broken.good, lambda p: {**given(p), "path": "numbers.txt"}, folder=tmp_path)
    assert len(made.read_json("copied.json")) == 27  # without the test split


@pytest.mark.parametrize(
    "function, sentence",
    [
        (broken.undocumented, "does not document more"),
        (broken.misdocumented, "documents what it does not take: speed"),
        (broken.bad_default, "its defaults do not survive"),
        (broken.tells_time, r"same seed; these differ: \['when.txt'"),
        (broken.tells_place, "wrote the project's place into where.txt"), (broken.scribbles, "is damaged.*notes.txt"),
        (broken.forgets, "stopped and resumed, makes another"), (broken.panics, "answers Ctrl-C with RuntimeError"),
        (broken.invents, "made a generated record of nothing known: new from 'model:'"),
        (broken.unlicensed, "records under an unknown licence.*'free'"),
        (broken.divides, "n = 0, or to refuse it with a fix, but ZeroDivisionError"),
        (broken.shrugs, "n = 0, or to refuse it with a fix, but the error names no fix"),
    ],
)  # fmt: skip
def test_broken_method(function, sentence, tmp_path):
    with pytest.raises(AssertionError, match=sentence):
        check_method(function, given, folder=tmp_path)


def test_an_edit_that_goes_unnoticed(tmp_path, monkeypatch):
    monkeypatch.setattr("volant.project.snapshots.file_sha256", lambda path: "0" * 64)
    with pytest.raises(AssertionError, match=r"does not run again after a byte of numbers.txt \(path\) changed"):
        check_method(broken.good, lambda p: {**given(p), "path": "numbers.txt"}, folder=tmp_path)


def test_arguments_that_change(tmp_path):
    sizes = iter((20, 21, 22))
    with pytest.raises(AssertionError, match="builder .* makes other inputs"):
        check_method(broken.good, lambda p: {"data": dataset(p, tasks(next(sizes)))}, folder=tmp_path)


@pytest.mark.slow
def test_kills_that_are_survived_and_one_that_is_not(tmp_path, monkeypatch):
    check_method(broken.good, given, folder=tmp_path / "good", kill=True, kills=4, seed=1)
    with pytest.raises(AssertionError, match="made another artifact"):
        check_method(broken.half_written, given, folder=tmp_path / "bad", kill=True, kills=4, seed=1)
    monkeypatch.setattr("volant.testing.stopping._GONE_SECONDS", 1.0)
    with pytest.raises(AssertionError, match="leaves processes behind"):
        check_method(broken.leaves_child, given, folder=tmp_path / "child", stops=0, kill=True, kills=8)


def test_a_method_that_children_cannot_import(tmp_path):
    def local(run: Run, data: Dataset) -> Dataset:
        """Copy the samples."""
        return broken.undocumented(run, data)

    with pytest.raises(AssertionError, match="cannot import the method"):
        check_method(local, given, folder=tmp_path, kill=True)
