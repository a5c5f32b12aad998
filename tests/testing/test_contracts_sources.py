"""Every method that gathers holds its source to the same terms: licence, consent, date; what the use forbids is out."""

from __future__ import annotations

import json

import pytest
from contract_world import TABLE

from volant.core import Dataset
from volant.core.errors import DataError, LicenceError, SettingError
from volant.core.method import methods
from volant.project import Project
from volant.store.dataset import rows

GATHERING = {
    name: method
    for name, method in methods().items()
    if method.stage == "collect" and method.returns is Dataset and not any(i.kind is Dataset for i in method.inputs)
}
# Its terms are known: the licence of Python.
OWN_TERMS = {"collect.python_packages", "collect.python_sources"}
NAMES = sorted(set(GATHERING) - OWN_TERMS)


@pytest.fixture
def call(tmp_path):
    """Call a gathering method with other terms than the contract's, in a project of a use."""

    def called(name: str, use: str = "commercial", **terms: str) -> Dataset:
        root = tmp_path / f"{name}-{use}-{len(list(tmp_path.iterdir()))}"
        root.mkdir()
        goal = f"goal: {{problem: A test, use: {use}}}"
        (root / "volant.yaml").write_text(f"volant: 1\nname: terms\n{goal}\nsteps: {{}}\n")
        project = Project(root, device="cpu", threads=1)
        return project.call("step", GATHERING[name], {**TABLE[name](project, None), **terms}).artifact  # type: ignore[arg-type, return-value]

    return called


def test_there_are_sources():
    assert len(NAMES) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_terms_are_stated_on_every_record(name, call):
    for setting in ("licence", "consent", "collected_at"):
        assert setting in GATHERING[name].fields, f"{name} takes no {setting}"
    data = call(name, "research", licence="cc-by-nc-4.0", consent="given", collected_at="2024-03-02")
    found = [sample.source for sample in rows(data)]
    assert {(s.licence, s.consent, s.collected_at) for s in found} == {("CC-BY-NC-4.0", "given", "2024-03-02")}
    assert all(s.uri and s.place for s in found) and len({s.uri for s in found}) == len(found)
    assert "CC-BY-NC-4.0" in json.dumps(data.read_json("dataset.json")["licences"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"licence": "CC-BY-NC-4.0"}, "forbids commercial use"),
        ({"licence": "CC-BY-ND-4.0"}, "forbids derived works"),
        ({"licence": "Freeware-9"}, "SPDX lists no licence"),
        ({"licence": "MIT", "consent": "withheld"}, "withheld consent"),
        ({"licence": "MIT", "consent": "perhaps"}, "consent"),
        ({"licence": "MIT", "collected_at": "2024-02-31"}, "no day of the calendar"),
    ],
)
def test_what_the_use_forbids_is_refused(name, terms, says, call):
    with pytest.raises((LicenceError, SettingError), match=says) as caught:
        call(name, **terms)
    assert caught.value.fix


@pytest.mark.parametrize("name", NAMES)
def test_no_licence_is_no_data(name, call):
    if name == "collect.git":  # reads its licence file, and says so
        assert {s.source.licence for s in rows(call(name, licence=""))} == {"MIT"}
        return
    with pytest.raises((LicenceError, DataError), match="no licence"):
        call(name, licence="")
