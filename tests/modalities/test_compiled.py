"""Compiled loops are loaded without the compiler, and never from a file that is not what was kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from volant.modalities import compiled as door
from volant.modalities.sketch import LENGTH, shingles, sketches

PROGRAM = """
import sys
from volant.modalities.text_features import word_hashes
from volant.modalities.minhash import signatures
print(signatures(word_hashes(["a few words of a text"]))[0, 0], "numba" in sys.modules)
"""


def test_a_process_runs_kept_loops_without_numba() -> None:
    told = [subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True) for _ in "ab"]
    first, second = (one.stdout.split() for one in told)
    assert first[0] == second[0]
    assert second[1] == "False"


def test_damaged_machine_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(door, "_folders", lambda: (tmp_path / "file" / "none", tmp_path))
    door._write("loop", b"k" * 32, b"name\ncode")
    assert door._read("loop", b"k" * 32) == b"name\ncode"
    assert door._read("loop", b"other".ljust(32)) is None
    file = tmp_path / "loop"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert door._read("loop", b"k" * 32) is None


def test_who_has_no_home_has_one_place_for_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    two = door._folders()
    monkeypatch.setattr(door.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert door._folders() == two[:1]


def test_no_text_and_no_words() -> None:
    none, begin_N = np.zeros(0, np.uint64), np.zeros(1, np.int64)
    assert sketches(none, begin_N, 5).shape == (0, LENGTH)
    grams, edges = shingles(none, np.zeros(3, np.int64), 5)
    assert len(grams) == 0 and edges.tolist() == [0, 0, 0]


def test_arrays_have_to_be_contiguous() -> None:
    with pytest.raises(AssertionError):
        shingles(np.arange(20, dtype=np.uint64)[::2], np.array([0, 10]), 5)
