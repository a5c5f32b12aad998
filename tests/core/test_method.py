from collections.abc import Sequence
from typing import Annotated

import pytest
from pydantic import Field

from volant.core import Dataset, Files, Model, Run
from volant.core import method as method_module
from volant.core.errors import SettingError
from volant.core.method import method_named, method_of, methods


def tune(
    run: Run,
    model: Model,
    data: Dataset,
    *more: Dataset,
    rank: Annotated[int, Field(ge=1)] = 8,
    lr: float = 2e-4,
    glob: Files = "",
    reward: Model | None = None,
) -> Model:
    """Tune a model.

    Args:
        rank: the rank of the adapters,
            in dimensions.
        lr: the step size.

    Returns:
        A model.
    """
    return Model(run.out)


def needy(run: Run, *, licence: str) -> Dataset:
    """Needs a licence.

    Args:
        licence: an SPDX expression.
    """
    return Dataset(run.out)


def test_the_signature_is_the_schema(tmp_path):
    read = method_of(tune)
    assert [(i.name, i.optional, i.many) for i in read.inputs] == [
        ("model", False, False), ("data", False, False), ("more", True, True), ("reward", True, False),
    ]  # fmt: skip
    assert read.outside == {"glob": "files"} and read.returns is Model and read.summary == "Tune a model."
    assert read.setting_docs["rank"] == "the rank of the adapters, in dimensions."
    schema = read.json_schema()
    assert schema["properties"]["rank"] == {
        "default": 8, "minimum": 1, "title": "Rank", "type": "integer", "description": read.setting_docs["rank"],
    }  # fmt: skip
    assert schema["x-returns"] == "Model" and schema["x-inputs"]["more"]["many"]
    assert not read.builtin and read.stage == ""


def test_bind_fills_defaults_and_call_puts_everything_in_its_place(tmp_path):
    read = method_of(tune)
    model, data, reward = Model(tmp_path), Dataset(tmp_path), Model(tmp_path)
    bound = read.bind({"model": model, "data": [data], "more": [data, data], "reward": reward, "rank": 2})
    assert bound.settings == {"rank": 2, "lr": 2e-4, "glob": ""}
    seen = {}

    def spy(
        run: Run, model: Model, data: Dataset, *more: Dataset, rank: int = 8, reward: Model | None = None,
        guard: Sequence[Dataset] = (),
    ) -> Model:  # fmt: skip
        """Spy."""
        seen.update(model=model, more=more, rank=rank, reward=reward, guard=guard)
        return Model(run.out)

    spied = method_of(spy)
    run = Run("s", tmp_path, tmp_path)
    spied.call(run, spied.bind({"model": model, "data": data, "more": [data], "reward": reward, "rank": 3}))
    assert seen == {"model": model, "more": (data,), "rank": 3, "reward": reward, "guard": ()}
    assert [i.name for i in spied.inputs if i.many] == ["more", "guard"]
    assert [i.name for i in spied.inputs if i.rest] == ["more"]
    spied.call(run, spied.bind({"model": model, "data": data, "guard": [data, data]}))
    assert seen["guard"] == (data, data)
    with pytest.raises(SettingError, match="not None"):
        spied.bind({"model": model, "data": data, "guard": [data, None]})
    spied.call(run, spied.bind({"model": model, "data": data}))
    assert seen["reward"] is None and seen["more"] == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "a", "data": "b", "rnak": 1}, "has no setting 'rnak'. Did you mean 'rank'?"),
        ({"model": "a", "data": "b", "rank": 0}, "does not take 0 for 'rank'"),
        ({"model": "a", "data": "b", "rank": "many"}, "the rank of the adapters"),
        ({"data": "b"}, "needs a Model as 'model'"),
        ({"model": ["a", "b"], "data": "b"}, "takes one Model as 'model', not 2"),
    ],
)
def test_wrong_arguments_are_named_with_a_mend(arguments, said):
    with pytest.raises(SettingError) as caught:
        method_of(tune, "finetune.tune").bind(arguments, where="v.yaml:8 tuned")
    assert said in str(caught.value) and str(caught.value).startswith("v.yaml:8 tuned: finetune.tune")


def test_swapped_artifacts_and_missing_settings_are_refused(tmp_path):
    with pytest.raises(SettingError, match="takes a Model as 'model', not a Dataset"):
        method_of(tune).bind({"model": Dataset(tmp_path), "data": Dataset(tmp_path)})
    with pytest.raises(SettingError, match="needs the setting 'licence'. an SPDX expression"):
        method_of(needy).bind({})
    with pytest.raises(SettingError, match=r"v.yaml:9"):
        method_of(needy).bind({"licence": 3}, where="v.yaml:7", places={"licence": "v.yaml:9"})


def no_run(model: Model) -> Model:
    return model


def no_artifact(run: Run) -> int:
    return 1


def untyped(run: Run, *, rank=8) -> Model:
    return Model(run.out)


def positional(run: Run, rank: int = 8) -> Model:
    return Model(run.out)


@pytest.mark.parametrize(
    ("function", "said"),
    [(no_run, "not `run: Run`"), (no_artifact, "does not return"), (untyped, "'rank'"), (positional, "'rank'")],
)
def test_what_is_no_method_is_refused_with_the_reason(function, said):
    with pytest.raises(SettingError, match=said):
        method_of(function)


def test_methods_are_found_by_name(monkeypatch):
    found = methods()
    for name, read in found.items():
        assert method_named(name) is read or method_named(name).name == name
    with pytest.raises(SettingError, match="there is no method 'finetune.lorra'"):
        method_named("finetune.lorra")
    with pytest.raises(SettingError, match="cannot import 'no_such_module:f'"):
        method_named("no_such_module:f")

    class Point:
        name = "acme.tune"

        @staticmethod
        def load():
            return tune

    monkeypatch.setattr(method_module.importlib.metadata, "entry_points", lambda group: [Point])
    assert method_named("acme.tune").name == "acme.tune"


def test_a_function_is_named_by_its_module(monkeypatch):
    assert method_of(needy).name.endswith(":needy")
    named = method_named(f"{__name__}:needy")
    assert named.function is needy and named.stage == ""


def test_several_artifacts_may_be_needed_and_are_read_in_one_way_only():
    def needs(run: Run, *, parts: Sequence[Dataset]) -> Dataset:
        """Needs parts."""
        return Dataset(run.out)

    def hidden(run: Run, *, parts: list[Dataset] | None = None) -> Dataset:
        """Would have no lineage."""
        return Dataset(run.out)

    with pytest.raises(SettingError, match="needs a Dataset as 'parts'"):
        method_of(needs).bind({})
    with pytest.raises(SettingError, match="in a way that is not read"):
        method_of(hidden)
