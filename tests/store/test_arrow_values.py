"""Arrow values made of bytes: as Arrow's own functions make them, and without pandas."""

import subprocess
import sys
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.sample import SPLITS, Sample, Source, sample_id
from volant.store import arrow_functions as pc
from volant.store.arrow_values import numbers, one, strings, values, whole
from volant.store.dataset import writer

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
KINDS = ["<i4", "<i8", "<u1", "<u8", "<f8", "?"]


@given(st.lists(TEXTS), st.sampled_from([pa.string(), pa.large_string()]))
def test_texts_are_those_that_arrow_makes(texts, kind):
    made = strings(texts, kind)
    made.validate(full=True)
    assert made.equals(pa.array(texts, kind))


@given(st.lists(st.integers(0, 99)), st.sampled_from(KINDS), st.integers(0, 20), st.integers(1, 3))
def test_numbers_are_those_that_arrow_makes_and_come_back(found, kind, first, step):
    array = np.array(found, kind)[::step]
    made = numbers(array)
    made.validate(full=True)
    assert made.equals(pa.array(array))
    part = made.slice(first)
    for column in (part, pa.chunked_array([part, made]), pa.chunked_array([], made.type)):
        back = values(column)
        assert back.dtype == array.dtype
        assert back.tolist() == column.to_pylist()


def test_single_values_fill_nulls_of_their_type():
    assert one("a").equals(pa.scalar("a"))
    assert one("a", pa.large_string()).equals(pa.scalar("a", pa.large_string()))
    assert one(-1, pa.int32()).equals(pa.scalar(-1, pa.int32()))
    assert whole(pa.chunked_array([], pa.string())).equals(pa.array([], pa.string()))


def test_functions_are_those_of_arrow():
    texts, many = pa.chunked_array([["a:b", None], ["", "b"]]), pa.array([[1, 2], [], None])
    where = pa.array([True, False, True, None])
    assert pc.filter(texts, where).equals(pyarrow.compute.filter(texts, where))
    assert pc.take(texts, pa.array([3, 0])).equals(texts.take([3, 0]))
    assert pc.is_in(texts, value_set=texts.chunk(0)).equals(pyarrow.compute.is_in(texts, value_set=texts.chunk(0)))
    assert pc.split_pattern(texts, ":", max_splits=1).equals(pyarrow.compute.split_pattern(texts, ":", max_splits=1))
    assert pc.fill_null(texts, one("x")).equals(texts.fill_null("x"))
    assert pc.cast(texts, pa.large_string()).equals(texts.cast(pa.large_string()))
    assert pc.list_flatten(many).equals(many.flatten())
    assert pc.and_(where, where).equals(pyarrow.compute.and_(where, where))
    assert pc.any(where.slice(1, 0), min_count=0).as_py() is False
    assert pc.if_else(where, texts, one("x")).equals(pyarrow.compute.if_else(where, texts, "x"))
    with pytest.raises(AttributeError, match="no function 'equals'"):
        pc.equals(texts, texts)


def test_half_a_surrogate_pair_is_no_text():
    with pytest.raises(UnicodeEncodeError):
        strings(["\ud800"])


def test_cleaning_plain_texts_loads_no_pandas_and_no_documentation_of_functions(tmp_path):
    words, random = ["river", "stone", "lamp", "of", "and", "that", "with", "bread", "window", "garden"], Random(0)
    texts = ["\n".join(f"{' '.join(random.choices(words, k=20))}." for _ in range(6)) for _ in range(30)]
    with writer(tmp_path / "in") as out:
        for i, text in enumerate([*texts, texts[2], "Call 030 12345678.\n" + texts[2]]):
            name = sample_id("text", "", text, "", str(i))
            source = Source(uri=f"a.txt:{i}", licence="MIT")
            out.write(Sample(id=name, shape="text", content=text, source=source, split=SPLITS[i % 3], group=name))
    program = """
import sys
from pathlib import Path
from volant.core import Dataset, Run
from volant.stages import collect
folder = Path(sys.argv[1])
made = collect.clean(Run(step="clean", out=folder / "out", work=folder), Dataset(folder / "in"), rules=["c4_loose"])
print(made.about["dropped"], *(name in sys.modules for name in ("pyarrow", "pyarrow.compute", "pandas")))
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "2 True False False\n", done.stdout + done.stderr
