"""`collect.synthesize`: what a model writes has parents, terms and an origin, and passes what it is asked to pass."""

import json
import re

import pytest

import tiny_models
from stand_in_service import hosted, serving
from tiny_models import dataset, run_in, watched
from volant.core.errors import DataError, LicenceError, RemoteError, SettingError
from volant.core.sample import Sample, Source
from volant.core.spec import Goal
from volant.stages import collect
from volant.stages.collect._agreement import agreed
from volant.stages.collect._evolution import malformed, taken
from volant.stages.collect._generated import _binding
from volant.store.dataset import dropped, rows

TERMS = "LicenseRef-stand-in"


def sums(count=12, licence="CC-BY-4.0"):
    found = []
    for n in range(count):
        source = Source(uri=f"sums.jsonl:{n}", licence=licence)
        split = "validation" if n == count - 1 else "train"
        fields = {"condition": f"What is {n} and {n * 3} together?", "target": f"It is {n + n * 3}."}
        found.append(Sample(id=f"sum{n}", shape="completion", source=source, split=split, group=f"g{n}", **fields))
    return found


def add(messages, seed):
    """Adds what is asked; of two seeds in five the answer is wrong, each in a way of its own."""
    numbers = [int(n) for n in re.findall(r"\d+", messages[-1]["content"])]
    return f"Let me see. #### {sum(numbers) + (seed % 97 + 1) * (seed % 5 < 2)}"


def rewrite(messages, seed):
    """Rewrites what it is asked to rewrite, answers the rest; some answers are none."""
    asked = messages[-1]["content"]
    if not re.search("request:|requests:|texts:", asked):
        return f"The answer to that has {len(asked)} letters and number {seed}."
    if seed % 5 == 0:
        return "I'm sorry, but I can't help with that."
    words = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath")
    told = " ".join(words[seed // 8**k % 8] for k in range(8))
    return f'Here is the new request:\n\n"Tell of {told} number {seed}"'


def synthesized(tmp_path, model, samples=None, name="out", goal=None, seed=0, **settings):
    if not (tmp_path / "data").exists():
        dataset(tmp_path / "data", samples or sums())
    run = run_in(tmp_path / name, seed=seed)
    run.goal = goal or Goal()
    from volant.core.artifact import Dataset

    return collect.synthesize(run, model, Dataset(tmp_path / "data"), **settings), run


def test_draws_that_agree_are_kept_with_their_share(tmp_path):
    with serving(add) as service:
        settings = {"how": "answers", "count": 11, "draws": 7, "decides": r"#### (.+)", "licence": TERMS}
        made, run = synthesized(tmp_path, hosted(tmp_path / "far", service.url), agree=0.55, **settings)
    kept = list(rows(made))
    assert len(service.bodies) == 77 and kept
    right = {n["condition"]: n["target"] for n in (s.model_dump() for s in sums())}
    for one in kept:
        assert one.target.split("#### ")[1] == right[one.condition].split()[2].rstrip(".")
        assert one.attrs["agreement"] >= 0.55 and one.source.origin == "generated" and one.split == "train"
        assert one.source.licence == "CC-BY-4.0 AND LicenseRef-stand-in"
        assert one.parents == [f"sum{re.findall(r'[0-9]+', one.condition)[0]}"] and one.attrs["model"] in one.source.uri
    out = list(dropped(made))
    assert len(kept) + len(out) == 11 and all(s.drop.startswith("disagreement: 0.") for s in out)
    told = json.loads((made.path / "synthesis.json").read_text())
    assert told["requests"] == 77 and told["tokens"] > 0 and told["kept"] == len(kept)
    assert any("at most 77 requests" in line for line in watched(run).lines)


def test_evolved_records_name_the_one_before_and_refusals_are_counted(tmp_path):
    with serving(rewrite) as service:
        model = hosted(tmp_path / "far", service.url)
        made, run = synthesized(tmp_path, model, how="evolve", count=24, generations=3, licence=TERMS)
    every = {s.id: s for s in (*rows(made), *dropped(made))}
    known = {s.id for s in sums()}
    chains = [s for s in every.values() if s.parents[0] in every]
    assert chains and all(len(s.parents) == 1 and s.parents[0] in {*known, *every} for s in every.values())
    assert all(every[s.parents[0]].attrs["draft"] == s.attrs["draft"] - 1 for s in chains)
    assert all(s.condition.startswith("Tell of ") and s.group.startswith("g") for s in rows(made))
    assert {s.source.licence for s in every.values()} == {f"CC-BY-4.0 AND {TERMS}"}  # however long the chain
    refused = [s for s in every.values() if s.drop.startswith("malformed: the model refused")]
    counted = {s.name: s.value for s in watched(run).scores}
    assert refused and counted["malformed"] == len([s for s in every.values() if s.drop.startswith("malformed")])
    assert {s.attrs["way"] for s in every.values()} == {"deeper", "broader", "constraints", "concretise"}


def test_a_killed_run_asks_for_nothing_twice(tmp_path):
    settings = {"how": "evolve", "count": 16, "licence": TERMS}
    with serving(rewrite) as service:
        model = hosted(tmp_path / "far", service.url, concurrency=1)
        whole, _ = synthesized(tmp_path, model, name="whole", **settings)
        asked = len(service.bodies)
        service.bodies.clear()
        service.dies_after = 20
        with pytest.raises(RemoteError, match="401"):
            synthesized(tmp_path, model, name="dead", **settings)
        kept = (tmp_path / "dead" / "work" / "answers.jsonl").read_text().splitlines()
        assert len(kept) == 20
        (tmp_path / "dead" / "work" / "answers.jsonl").write_text("\n".join([*kept, kept[0][:40]]))
        service.bodies.clear()
        service.dies_after = 0
        again, run = synthesized(tmp_path, model, name="dead", **settings)
        assert len(service.bodies) == asked - 20 and again.digest == whole.digest
    assert any("20 were kept from a run before" in line for line in watched(run).lines)


def test_the_limit_of_tokens_holds(tmp_path):
    with serving(rewrite) as service:
        model = hosted(tmp_path / "far", service.url)
        limited, run = synthesized(tmp_path, model, how="evolve", count=640, max_tokens=40, tokens=9000, licence=TERMS)
    told = json.loads((limited.path / "synthesis.json").read_text())
    assert told["tokens"] <= 9000 and told["tried"] < 640
    assert any("limit of tokens is reached" in line for line in watched(run).lines)


def test_examples_of_texts_and_the_plans_cap(tmp_path):
    texts = [
        Sample(id=f"t{n}", shape="text", group=f"t{n}", content=f"A short note on matter {n}, as it stands.",
               source=Source(uri=f"notes.txt:{n}", licence="MIT"))
        for n in range(12)
    ]  # fmt: skip
    with serving(rewrite) as service:
        model = hosted(tmp_path / "far", service.url)
        dataset(tmp_path / "data", texts)
        settings = {"count": 40, "licence": TERMS, "examples": 2}
        for idle in ({"draws": 3}, {"decides": "#### (.+)"}):
            with pytest.raises(SettingError, match="plain texts, which have no answer to agree on"):
                synthesized(tmp_path, model, **settings, **idle)
        assert not service.bodies
        made, run = synthesized(tmp_path, model, goal=Goal(generated=0.4), **settings)
    kept = list(rows(made))
    assert len(kept) == 8  # of 8 + 12 records 0.4
    assert all(s.shape == "text" and len(s.parents) == 2 and s.source.licence == f"{TERMS} AND MIT" for s in kept)
    told = json.loads((made.path / "synthesis.json").read_text())
    assert told["tried"] < 16  # not 40, nor a whole round
    assert any("no more are asked for" in line for line in watched(run).lines)


def test_clean_and_mix_keep_the_cap(tmp_path):
    own = [
        Sample(id=f"h{n}", shape="text", group=f"h{n}", split=("train", "train", "validation", "test")[n % 4],
               content=f"Person {n} wrote of {n * 7} hills and of {n * 11} rivers that nobody had counted before {n}.",
               source=Source(uri="h", licence="MIT"))
        for n in range(40)
    ]  # fmt: skip
    source = Source(uri="model:abcdef0123", licence="MIT", origin="generated")
    made = [
        Sample(id=f"m{n}", shape="text", group=f"m{n}", source=source,
               content=f"Machine {n} told the tale of {n * 13} lamps and {n * 17} doors in a tower of {n * 19} steps.")
        for n in range(30)
    ]  # fmt: skip
    data, more = dataset(tmp_path / "own", own), dataset(tmp_path / "made", made)
    for method in (collect.clean, collect.mix):
        found = []
        for name in ("one", "two"):
            run = run_in(tmp_path / method.__name__ / name)
            run.goal = Goal(generated=0.2)
            found.append(method(run, data, more))
        kept = [s.source.origin for s in rows(found[0], "train")]
        assert kept.count("generated") / len(kept) <= 0.2 < (kept.count("generated") + 1.5) / len(kept)
        assert found[0].digest == found[1].digest
        over = [s for s in dropped(found[0]) if s.drop.startswith("generated_cap: 0.600 of the training records")]
        assert len(over) == 30 - kept.count("generated")
    free = collect.mix(run_in(tmp_path / "free"), data, more)
    assert free.about["splits"]["train"] == 50 and not free.about["dropped"]


def test_an_own_model_gives_the_same_bytes_and_filters_hold(tmp_path):
    model = tiny_models.model(tmp_path / "tiny", steps=12)
    dataset(tmp_path / "data", tiny_models.samples())
    settings = {"how": "answers", "count": 24, "draws": 3, "agree": 0.3, "max_tokens": 12, "temperature": 1.0}
    settings["filters"] = {"token_f1": ">= 0.2", "word_count": {"least": 2, "keep": ">= 1"}}
    one, run = synthesized(tmp_path, model, name="one", **settings)
    two, _ = synthesized(tmp_path, model, name="two", **settings)
    other, _ = synthesized(tmp_path, model, name="three", seed=1, **settings)
    assert one.digest == two.digest != other.digest
    assert all(s.source.licence == "CC0-1.0" for s in rows(one))
    rules = {s.drop.split(":")[0] for s in dropped(one)}
    assert rules & {"token_f1", "exact_duplicate", "disagreement", "cut"}
    assert any("states no licence" in line for line in watched(run).lines)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({}, LicenceError, "terms of what a-stand-in-for-tests writes are not known"),
        ({"licence": "CC-BY-NC-4.0"}, LicenceError, "forbids commercial use"),
        ({"licence": TERMS, "draws": 2, "temperature": 0.0}, SettingError, "2 draws at temperature 0"),
        ({"licence": TERMS, "filters": {"grammar": "high"}}, SettingError, "has no bound"),
        ({"licence": TERMS, "filters": {"gramar": ">= 0"}}, SettingError, "no scorer"),
        ({"licence": TERMS, "tokens": 10}, DataError, "nothing was asked for within the limit"),
    ],
)
def test_what_is_refused_before_anything_is_sent(tmp_path, settings, error, said):
    with serving(add) as service:
        with pytest.raises(error, match=said):
            synthesized(tmp_path, hosted(tmp_path / "far", service.url), **settings)
        assert not service.bodies


def test_a_plan_without_generated_data_and_seeds_that_forbid(tmp_path):
    model = hosted(tmp_path / "far", "http://127.0.0.1:9/v1")
    with pytest.raises(DataError, match="allows no generated record"):
        synthesized(tmp_path, model, goal=Goal(generated=0), licence=TERMS)
    with serving(rewrite) as service, pytest.raises(LicenceError, match="forbids commercial"):
        data = sums(licence="CC-BY-NC-4.0")
        synthesized(tmp_path / "nc", hosted(tmp_path / "near", service.url), data, how="evolve", licence=TERMS)


def test_agreement_by_numbers_words_and_a_part():
    assert agreed(["It is 41.", "It is 42.", "it is 42"]) == (1, pytest.approx(2 / 3))
    assert agreed(["yes"], of=4) == (0, 0.25)
    assert agreed(["a #### 5", "b ####  5", "c"], r"#### *(.+)") == (0, pytest.approx(2 / 3))
    assert agreed(["c", "d"], r"#### (.+)")[1] == 0
    long = "The answer is therefore that the sum of both is {}"
    assert agreed([long.format(41), long.format(42)])[1] == 0.5


def test_what_is_taken_out_of_what_a_model_says():
    assert taken('Sure, here is the request:\n\n1. "Name a bird."') == "Name a bird."
    assert taken("```\nName a bird.\n```") == "Name a bird."
    assert taken("Name a bird: any.") == "Name a bird: any."
    assert malformed("name a BIRD", ["Name a bird."]).startswith("malformed: what it was shown")
    assert malformed("", []) and malformed("I cannot do that.", []) and not malformed("Name a fish.", ["Name a bird."])


@pytest.mark.parametrize(
    ("licence", "parts"),
    [
        ("(MIT AND (ISC OR Zlib)) AND CC0-1.0", ["MIT", "(ISC OR Zlib)", "CC0-1.0"]),
        ("MIT OR ISC", ["(MIT OR ISC)"]),
        ("((MIT OR ISC))", ["(MIT OR ISC)"]),
    ],
)
def test_what_of_an_expression_binds(licence, parts):
    assert _binding(licence) == parts
