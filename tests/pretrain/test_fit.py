"""`pretrain.fit`: any family that a modality has a space for learns, with the same bytes from the same seed."""

from __future__ import annotations

import pytest

import small_content as tiny
from tiny_models import watched
from volant.core.artifact import Model, payload_digest
from volant.core.errors import DataError, Interrupted, SettingError, VolantError
from volant.core.protocols import Request
from volant.engines import open_model
from volant.modalities import open_modality
from volant.nets.conv import open_judge
from volant.nets.vae import family as vae
from volant.stages.pretrain import fit
from volant.testing.stopping import StopsAt

CASES = {
    "flow": ("image", {"steps": 8, "batch": 8, "size": tiny.FLOW, "controls": {"steps": 3.0, "guidance": 1.5}}),
    "vae": ("image", {"steps": 8, "batch": 8, "size": {"z": 3, "width": 8}}),
    "gaussian": ("image", {}),
    "tree": ("table", {"size": {"leaf": 5}, "controls": {"smooth": 0.5}}),
    "vae of rows": ("table", {"steps": 8, "batch": 8, "size": {"z": 3, "width": 16, "ranges": 4}}),
    "transformer": ("table", {"steps": 8, "batch": 8, "size": {"depth": 1, "width": 32}}),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {
        "image": tiny.stored(folder / "pictures", tiny.pictures()),
        "table": tiny.stored(folder / "people", tiny.people(constraints=["age >= 18"])),
    }


def drawn(model: Model, n: int = 4, ask: str = ""):
    session = open_model(model)
    try:
        ends = list(session.generate([Request(id=str(i), prompt=ask, seed=i) for i in range(n)]))
    finally:
        session.close()
    assert all(end.finish == "stop" for end in ends), ends
    return [end.sample for end in ends]


@pytest.mark.parametrize("name", CASES)
def test_a_family_learns_draws_and_is_the_same_again(name, data, tmp_path):
    modality, settings = CASES[name]
    family = name.split()[0]
    run = tiny.content_run(tmp_path / "a", modality, seed=3)
    made = fit(run, data[modality], family=family, **settings)
    about = made.about
    assert (about.family, about.modality, about.engine) == (family, modality, "sampler")
    assert about.parameters > 0 and about.extra["controls"] == settings.get("controls", {})
    said = {s.name for s in watched(run).scores}
    assert {"parameters", run.goal.metric} <= said and (made.path / "validation.json").is_file()
    samples = drawn(made)
    assert len({s.media or s.content for s in samples}) > 1
    assert [open_modality(modality).check(s) for s in samples] == [[]] * 4
    again = fit(tiny.content_run(tmp_path / "b", modality, seed=3), data[modality], family=family, **settings)
    assert payload_digest(again.path) == payload_digest(made.path)


def test_a_condition_is_met(data, tmp_path):
    made = tiny.flow(tmp_path, data["image"])
    judge = tiny.judge(tmp_path / "judge", data["image"])
    for name in tiny.CLASSES:
        told = open_judge(judge).classify(drawn(made, 8, name))
        assert told.count(name) >= 7


def test_a_vae_draws_from_where_the_data_lie(data, tmp_path):
    """`finish` was called: the latents' Gaussians are no standard normals any more."""
    made = fit(tiny.content_run(tmp_path, "image"), data["image"], family="vae", steps=8, size={"z": 3, "width": 8})
    assert float(vae.load(made.path).posterior.mean_KZ.abs().max()) > 0


def test_without_a_name_grids_get_a_flow_and_tables_a_tree(data, tmp_path):
    assert fit(tiny.content_run(tmp_path / "t", "table"), data["table"]).about.family == "tree"
    made = fit(tiny.content_run(tmp_path / "i", "image"), data["image"], steps=1, batch=4, size=tiny.FLOW)
    assert made.about.family == "flow"


@pytest.mark.parametrize(
    "modality, settings, kind, said",
    [
        ("image", {"size": {"widht": 8}}, SettingError, r"widht.*width"),
        ("image", {"family": "flwo"}, VolantError, r"flwo.*flow"),
        ("image", {"controls": {"guidence": 1.0}, "steps": 1, "size": tiny.FLOW}, SettingError, r"guidence.*guidance"),
        ("image", {"controls": {"guidance": 99.0}, "steps": 1, "size": tiny.FLOW}, SettingError, "out of bounds"),
        ("image", {"family": "transformer"}, SettingError, "a transformer learns tokens, and image is grid"),
        ("table", {"family": "flow"}, SettingError, "a flow learns grid, and table is mixed or tokens"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_nearest_name(modality, settings, kind, said, data, tmp_path):
    run = tiny.content_run(tmp_path, modality)
    with pytest.raises(kind, match=said) as refused:
        fit(run, data[modality], **settings)
    assert refused.value.fix and not list(run.out.iterdir())


def test_an_empty_train_split_is_refused(tmp_path):
    data = tiny.stored(tmp_path / "data", [s for s in tiny.pictures(24) if s.split != "train"])
    with pytest.raises(DataError, match="the train split is empty"):
        fit(tiny.content_run(tmp_path, "image"), data)


@pytest.mark.parametrize("family", ["flow", "vae"])
def test_what_is_stopped_goes_on(family, data, tmp_path):
    settings = {"steps": 12, "batch": 8, "family": family, "size": CASES[family][1]["size"]}
    whole = fit(tiny.content_run(tmp_path / "whole", "image"), data["image"], **settings)
    run = tiny.content_run(tmp_path / "cut", "image")
    run.watcher = StopsAt(at=5, stop=run.stop)
    with pytest.raises(Interrupted):
        fit(run, data["image"], **settings)
    assert not (run.out / "volant.json").exists() and list(run.work.iterdir())
    on = fit(tiny.content_run(tmp_path / "cut", "image"), data["image"], **settings)
    assert payload_digest(on.path) == payload_digest(whole.path)


def test_latents_are_learnt_in_place_of_pixels(data, tmp_path):
    size = {"latent_channels": 2, "width": 16}
    vae = fit(tiny.content_run(tmp_path / "vae", "image"), data["image"], family="vae", steps=8, batch=8, size=size)
    run = tiny.content_run(tmp_path / "flow", "image")
    made = fit(run, data["image"], latent=vae, steps=4, batch=8, size=tiny.FLOW, controls={"steps": 2.0})
    assert made.about.space["channels"] == 2
    assert [open_modality("image").check(s) for s in drawn(made, 2, "left")] == [[], []]
