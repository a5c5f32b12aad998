"""What can be checked without a judge: grammar, compiling, schemas, lengths, and tests run in a sandbox."""

from __future__ import annotations

import pytest

from volant.core.errors import DataError, MissingPackage
from volant.core.protocols import Output
from volant.core.sample import Sample, Source
from volant.scorers import build, sandbox
from volant.scorers.verifiable import code_of

here = pytest.mark.skipif(not sandbox.available(), reason="there is no bubblewrap here")
SOURCE = Source(uri="test:", licence="CC0-1.0")


def values(name, texts, tests="assert True", **settings):
    asked = [
        Sample(id=str(i), shape="completion", source=SOURCE, condition="p", target="t", attrs={"tests": tests})
        for i in range(len(texts))
    ]
    return build({name: settings})[name].values([Output(t) for t in texts], asked)


def test_code_comes_out_of_its_fence_and_its_indentation():
    assert code_of("Here:\n```python\nx = 1\n```\nDone.") == "x = 1"
    assert code_of("```x = 1```") == "x = 1"
    assert code_of("    x = 1\n    y = 2") == "x = 1\ny = 2"


def test_what_parses_need_not_compile():
    texts = ["def f():\n    return 1", "return 1", "def f(:", "", "x = '\\d'"]
    assert values("parses", texts) == [1, 1, 0, 0, 1]
    assert values("compiles", texts) == [1, 0, 0, 0, 1]


def test_json_fits_its_schema_or_not():
    schema = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]}
    texts = ['{"age": 3}', '{"age": -1}', "{}", "[1]", '{"age": 3', '```json\n{"age": 4}\n```', "[" * 100_000]
    assert values("fits_schema", texts, schema=schema) == [1, 0, 0, 0, 0, 1, 0]
    with pytest.raises(DataError, match="pattern"):
        values("fits_schema", ["{}"], schema={"pattern": "a"})


def test_a_length_says_which_way_is_better():
    assert values("word_count", ["one two three", "one", "a b c d e f g h", ""], least=2, most=4) == [1, 0.5, 0.5, 0]
    with pytest.raises(DataError, match="least <= most"):
        values("word_count", ["x"], least=3, most=2)


@here
def test_tests_are_run_and_nothing_gets_out(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s")
    outside = [
        f"open({str(secret)!r}).read()",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        "import socket; socket.create_connection(('127.0.0.1', 9), 1)",
        "open('/etc/passwd').read()",
    ]
    bad = [
        "while True: pass",
        "x = [0] * 10**10",
        "import os; os._exit(0)",
        "raise SystemExit(0)",
        "f = 1",
        "def f(",
        "",
    ]
    good = ["def f(a):\n    return a + 1", "f = lambda a: a + 1"]
    texts = [*outside, *bad, *good]
    tests = "assert f(1) == 2"
    found = sandbox.passed([(t, tests if t in (*good, *bad) else "") for t in texts], seconds=1)
    assert found == [False] * (len(outside) + len(bad)) + [True] * len(good)
    assert not (tmp_path / "new").exists()


@here
@pytest.mark.parametrize("kill", ["os.kill(os.getppid(), 9)", "os.kill(-1, 9)"])
def test_an_answer_that_kills_its_sandbox_has_failed_and_the_others_are_run(kill):
    pieces = [("x = 1", ""), (f"import os\n{kill}", ""), ("x = 2", "assert x == 2"), ("", "1 / 0")]
    assert sandbox.passed(pieces, seconds=1) == [True, False, True, False]


@here
def test_an_answer_that_stops_its_sandbox_has_failed(monkeypatch):
    monkeypatch.setattr(sandbox, "_OUTER_SECONDS", 0)
    assert sandbox.passed([("import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)", "")], seconds=1) == [False]


@here
def test_a_reference_without_tests_is_an_error():
    with pytest.raises(DataError, match="names no tests"):
        values("passes_tests", ["x = 1"], tests="")


def test_without_bubblewrap_nothing_is_run(monkeypatch):
    monkeypatch.setattr(sandbox, "available", lambda: False)
    with pytest.raises(MissingPackage, match="apt-get install -y bubblewrap"):
        sandbox.passed([("x = 1", "")])


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (3, "3 is no JSON Schema"),
        ({"properties": 3}, "'properties' takes a mapping, not 3"),
        ({"required": "name"}, "'required' takes a list"),
        ({"required": [{}]}, "'required' takes names"),
        ({"type": {"a": 1}}, "'type' takes names"),
        ({"type": [["string"]]}, "'type' takes names"),
        ({"minimum": "1"}, "'minimum' takes a number"),
    ],
)
def test_a_schema_that_is_none_is_refused_before_anything_is_judged(schema, said):
    with pytest.raises(DataError, match=said):
        build({"fits_schema": {"schema": schema}})


def test_a_schema_may_be_true_or_false():
    texts = ["{}", "3", "no JSON"]
    assert values("fits_schema", texts, schema=True) == [1, 1, 0]
    assert values("fits_schema", texts, schema=False) == [0, 0, 0]
    assert values("fits_schema", texts, schema={}) == values("fits_schema", texts) == [1, 0, 0]
