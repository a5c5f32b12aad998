import pytest

from volant.core.errors import SpecError
from volant.project.spec_file import load_spec, parse_value, scalar


def write(tmp_path, text):
    path = tmp_path / "volant.yaml"
    path.write_text(text)
    return path


def test_values_are_read_as_people_mean_them():
    assert scalar("1e-4") == 1e-4 and scalar("12:30:45") == "12:30:45" and scalar("no") == "no"
    assert (
        scalar("1_000") == 1000
        and scalar("true") is True
        and scalar("Null") is None
        and scalar("2026-01-01") == "2026-01-01"
    )
    assert scalar(".5") == 0.5 and scalar("0x10") == "0x10"
    assert parse_value("[1, two, '3']") == [1, "two", "3"]
    assert parse_value("") is None


def test_a_good_file_keeps_its_lines(tmp_path):
    spec = load_spec(write(tmp_path, "volant: 1\nname: a\nsteps:\n  s: {use: x.y, lr: 1e-4}\n"))
    assert spec.steps["s"].arguments == {"lr": 1e-4} and spec.where("steps", "s", "lr") == "volant.yaml:4 s"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("volant: 1\nname: a\nname: b\n", "volant.yaml:3: 'name' stands twice (first in line 2)."),
        ("volant: 1\nname: a\nsteps:\n  s: {use: x.y, lr: 1, lr: 2}\n", "volant.yaml:4: 'lr' stands twice"),
        ("volant: 2\nname: a\n", "volant.yaml:1: 'volant' cannot be 2"),
        ("volant: 1\n", "'name' is missing. Add `name:`."),
        ("volant: 1\nname: a\ngaol: {}\n", "volant.yaml:3: there is no key 'gaol'. Did you mean 'goal'?"),
        ("volant: 1\nname: a\ngoal: {problm: x}\n", "Did you mean 'problem'?"),
        ("volant: 1\nname: a\ngoal: {accept: {x: good}}\n", "'good' is no target"),
        ("volant: 1\nname: a\nsteps:\n  s: {use: x.y, seed: -1}\n", "volant.yaml:4: 'steps.s.seed' cannot be -1"),
        ("volant: 1\nname: a\nsteps:\n  s: {use: x.y, seed: 9223372036854775808}\n", "'steps.s.seed' cannot be 922"),
        ("volant: 1\nname: a b\n", "other characters"),
        ("volant: 1\nname: &a x\n", "anchors and aliases"),
        ("volant: 1\nname: !!python/name:os.system x\n", "is not used here"),
        ("volant: 1\nname: [\n", "this is no YAML"),
        ("volant: 1\n? [a]\n: b\n", "a key has to be a word"),
        ("- a\n", "holds no keys"),
        ("", "holds no keys"),
        ("a: " + "[" * 30 + "]" * 30, "nested deeper"),
        ("a: \x01", "no YAML"),
        ("x" * 1_000_001, "larger than"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, said):
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, text))
    assert said in str(caught.value), str(caught.value)
    assert caught.value.fix or "cannot be" in str(caught.value)


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    with pytest.raises(SpecError, match="there is no project file"):
        load_spec(tmp_path / "volant.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(SpecError, match=r"latin.yaml: cannot read"):
        load_spec(tmp_path / "latin.yaml")
