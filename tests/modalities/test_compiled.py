"""Compiled loops are loaded without the compiler, and never from a file that is not what was kept."""

from __future__ import annotations

import platform
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from volant.modalities import compiled as door
from volant.modalities import sketch
from volant.modalities.machine_code import address_of
from volant.modalities.sketch import LENGTH, shingles, sketches

_OWN_LOADER = sys.platform == "linux" and platform.machine() == "x86_64"
PROGRAM = """
import sys
from volant.modalities.text_features import word_hashes
from volant.modalities.minhash import signatures
print(signatures(word_hashes(["a few words of a text"]))[0, 0], "numba" in sys.modules, "llvmlite" in sys.modules)
"""


def test_a_process_runs_kept_loops_without_numba() -> None:
    told = [subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True) for _ in "ab"]
    first, second = (one.stdout.split() for one in told)
    assert first[0] == second[0]
    assert second[1] == "False"
    assert second[2] == str(not _OWN_LOADER)


def test_a_loop_runs_the_same_where_llvm_links_it(monkeypatch: pytest.MonkeyPatch) -> None:
    words, begin_N = np.arange(40, dtype=np.uint64), np.array([0, 15, 40])
    expected = sketches(words, begin_N, 5)
    monkeypatch.setattr(door, "address_of", lambda name, code: None)
    monkeypatch.setattr(sketch._sketches, "_code", {})
    assert (sketches(words, begin_N, 5) == expected).all()


@pytest.mark.skipif(not _OWN_LOADER, reason="object files of this system are left to LLVM")
def test_an_object_file_of_another_kind_is_left_to_llvm() -> None:
    sketches(np.arange(9, dtype=np.uint64), np.array([0, 9]), 5)
    file = next(file for folder in door._folders() for file in folder.glob("sketch._sketches-*.loop"))
    name, _, code = file.read_bytes()[2 * door._SUM :].partition(b"\n")
    assert address_of(name.decode(), code)
    other = bytearray(code)
    other[18] = 183  # for another processor
    assert address_of(name.decode(), bytes(other)) is None
    (table,), (count,) = struct.unpack_from("<Q", code, 40), struct.unpack_from("<H", code, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, table + 64 * at) for at in range(count)]
    place = next(own[4] for own in sections if own[1] == 4)  # the first place that takes an address
    other = bytearray(code)
    other[place + 8] = 2  # takes it in another way
    assert address_of(name.decode(), bytes(other)) is None
    other = bytearray(code)
    other[table + 64 * next(at for at, own in enumerate(sections) if own[2] & 2 and own[5]) + 8] |= 1  # written to
    assert address_of(name.decode(), bytes(other)) is None


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
