"""Gathering and cleaning: real small datasets through the methods, and the errors that users see."""

import hashlib
import json
import socket
from importlib.metadata import version
from types import SimpleNamespace

import pytest

from volant.core.artifact import payload_digest
from volant.core.errors import DataError, LicenceError, SettingError
from volant.core.outside import OutsideFile, Snapshot
from volant.core.run import Run
from volant.core.sample import Sample, Source, sample_id, split_of
from volant.core.spec import Goal
from volant.stages import collect
from volant.store import dataset as store


def run_in(folder, step="step", **named):
    (folder / step).mkdir(parents=True)
    (folder / f"{step}-work").mkdir()
    return Run(step=step, out=folder / step, work=folder / f"{step}-work", **named)


def snapshot_of(folder, names, kind="files", **facts):
    entries = []
    for name in names:
        raw = (folder / name).read_bytes()
        entries.append(OutsideFile(folder / name, name, len(raw), hashlib.sha256(raw).hexdigest()))
    return Snapshot(kind, str(folder), tuple(entries), facts)


def gather(folder, contents, step="files", goal=None, **settings):
    source = folder / f"{step}-source"
    source.mkdir()
    for name, content in contents.items():
        (source / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    run = run_in(folder, step, goal=goal or Goal())
    run.outside["glob"] = snapshot_of(source, sorted(contents))
    return collect.files(run, glob="*", **{"licence": "CC-BY-4.0", **settings}), run


def pairs(count, start=0):
    return "\n".join(
        json.dumps({"prompt": f"question {i} about {i * 7} things of kind {i % 5}", "completion": f"answer number {i}"})
        for i in range(start, start + count)
    )


def made(folder, samples, step="made"):
    run = run_in(folder, step)
    with store.writer(run.out) as out:
        out.write_all(samples)
    from volant.core.artifact import Dataset

    return Dataset(run.out)


def pair(prompt, answer, split="train", origin="human", group="", **more):
    source = Source(uri="t", licence="MIT", origin=origin)
    return Sample(id=sample_id(prompt, answer), shape="completion", source=source, condition=prompt, target=answer,
                  split=split, group=group or sample_id(prompt), **more)  # fmt: skip


ROOMS = [("cats", "train"), ("dogs", "train"), ("birds", "train"), ("fish", "validation"), ("ants", "test")]


def base(extra=()):
    rooms = [pair(f"how many {w} are in room {i}?", f"there are {i} {w} there", s) for i, (w, s) in enumerate(ROOMS)]
    return [*rooms, *extra]


# --- files ---------------------------------------------------------------------------------


def test_files_of_all_kinds_carry_terms_and_a_split(tmp_path):
    data, run = gather(tmp_path, {
        "a.jsonl": pairs(300), "b.md": "# Title\n\nSome text of a document.", "c.html": "<p>A page with text.</p>",
    }, consent="given")  # fmt: skip
    samples = list(store.rows(data))
    assert len(samples) == 302 and not run.watcher.lines[0].startswith("refused")
    assert {s.source.licence for s in samples} == {"CC-BY-4.0"} and {s.source.consent for s in samples} == {"given"}
    assert all(s.source.uri.startswith(("a.jsonl:", "b.md", "c.html")) for s in samples)
    for sample in samples:
        if sample.source.uri.startswith("a.jsonl"):
            assert sample.split == split_of(sample.group)


def test_the_same_files_give_the_same_digest(tmp_path):
    digests = {payload_digest(gather(tmp_path, {"a.jsonl": pairs(50)}, step=s)[0].path)[0] for s in ("one", "two")}
    assert len(digests) == 1


def test_few_records_still_fill_every_split(tmp_path):
    for count in (3, 4, 7):
        data, _ = gather(tmp_path, {"a.jsonl": pairs(count)}, step=f"n{count}")
        assert all(store.count(data, split) >= 1 for split in ("train", "validation", "test"))


def test_a_single_long_document_is_cut_and_split(tmp_path):
    book = "\n\n".join(f"Chapter {i}. " + f"sentence {i} of the book. " * 30 for i in range(60))
    data, _ = gather(tmp_path, {"book.txt": book}, piece_chars=600)
    assert all(store.count(data, split) >= 1 for split in ("train", "validation", "test"))


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ({"a.jsonl": pairs(1)}, r"1 record .*cannot be split"),
        ({"a.jsonl": b""}, r"a\.jsonl: the file is empty"),
        ({"a.jsonl": b"\n\n"}, r"holds no record"),
        ({"a.jsonl": "{}\n{}"}, r"a\.jsonl:1: has no fields"),
        ({"a.jsonl": pairs(3).replace("prompt", "query")}, r"Name yours with the setting `fields`"),
    ],
)
def test_unusable_files_give_one_readable_error(tmp_path, contents, says):
    with pytest.raises(DataError, match=says):
        gather(tmp_path, contents)


def test_some_bad_lines_are_refused_and_kept_with_reasons(tmp_path):
    data, run = gather(tmp_path, {"a.jsonl": pairs(30) + '\n{"prompt": 1}\nnot json'})
    refused = [json.loads(line) for line in (data.path / "refused.jsonl").read_text().splitlines()]
    assert [r["where"] for r in refused] == ["a.jsonl:31", "a.jsonl:32"]
    assert any("2 of 32 records refused" in line for line in run.watcher.lines)
    with pytest.raises(DataError, match="2 of 32"):
        gather(tmp_path, {"a.jsonl": pairs(30) + '\n{"prompt": 1}\nnot json'}, step="strict", refuse_above=0.01)


def test_a_record_whose_own_terms_forbid_the_use_is_refused(tmp_path):
    rows = [{"text": f"text number {i} of many", "license": "cc-by-4.0", "day": "2020-01-01"} for i in range(8)]
    rows[3]["license"] = "cc-by-nc-4.0"
    fields = {"licence": "license", "collected_at": "day"}
    data, run = gather(tmp_path, {"a.jsonl": "\n".join(map(json.dumps, rows))}, fields=fields)
    kept = list(store.rows(data))
    assert len(kept) == 7 and {s.source.collected_at for s in kept} == {"2020-01-01"}
    refused = json.loads((data.path / "refused.jsonl").read_text())
    assert refused["where"] == "a.jsonl:4" and "forbids commercial use" in refused["reason"]
    data, _ = gather(
        tmp_path, {"a.jsonl": "\n".join(map(json.dumps, rows))}, "research", Goal(use="research"), fields=fields
    )
    assert len(list(store.rows(data))) == 8


def test_licences_and_consent_are_gates(tmp_path):
    with pytest.raises(LicenceError, match=r"a\.jsonl.*forbids commercial.*goal\.use: research"):
        gather(tmp_path, {"a.jsonl": pairs(5)}, step="nc", licence="CC-BY-NC-4.0")
    gather(tmp_path, {"a.jsonl": pairs(5)}, step="research", licence="CC-BY-NC-4.0", goal=Goal(use="research"))
    with pytest.raises(LicenceError, match="Did you mean"):
        gather(tmp_path, {"a.jsonl": pairs(5)}, step="typo", licence="CC-BY-4")
    with pytest.raises(LicenceError, match="withheld"):
        gather(tmp_path, {"a.jsonl": pairs(5)}, step="withheld", consent="withheld")


# --- hub -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever is gathered from local data opens no connection."""

    def refuse(self, address):
        raise AssertionError(f"a connection to {address} was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def gather_hub(folder, source, step="hub", **settings):
    run = run_in(folder, step)
    names = sorted(p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file())
    run.outside["dataset"] = snapshot_of(source, names, "hub", name="mine", local=True)
    return collect.hub(run, dataset=str(source), **{"licence": "MIT", **settings})


def test_hub_reads_a_local_directory_and_keeps_its_splits(tmp_path):
    source = tmp_path / "data"
    source.mkdir()
    for split, start in (("train", 0), ("validation", 100), ("test", 200)):
        (source / f"{split}.jsonl").write_text(pairs(10, start))
    data = gather_hub(tmp_path, source)
    assert {s: store.count(data, s) for s in ("train", "validation", "test")} == dict.fromkeys(
        ("train", "validation", "test"), 10
    )
    assert {s.source.uri.split("[")[0] for s in store.rows(data, "test")} == {"hub:mine/test"}


def test_hub_deals_a_dataset_without_splits_and_takes_a_limit(tmp_path):
    source = tmp_path / "data"
    source.mkdir()
    (source / "all.jsonl").write_text(pairs(80))
    assert sum(gather_hub(tmp_path, source).about["splits"].values()) == 80
    limited = gather_hub(tmp_path, source, step="limited", limit=20)
    assert sum(limited.about["splits"].values()) == 20 and all(limited.about["splits"].values())


def test_hub_errors_are_readable(tmp_path):
    source = tmp_path / "data"
    source.mkdir()
    (source / "train.jsonl").write_text("{broken")
    with pytest.raises(DataError, match="cannot read"):
        gather_hub(tmp_path, source)


def test_what_we_write_the_hub_method_reads(tmp_path):
    first, _ = gather(tmp_path, {"a.jsonl": pairs(60)})
    again = gather_hub(tmp_path, first.path, fields={"prompt": "condition", "completion": "target"})
    assert again.about["splits"] == first.about["splits"]


# --- python sources ---------------------------------------------------------------------------


def test_python_pairs_are_split_by_module(tmp_path):
    data = collect.python_sources(run_in(tmp_path), what="pairs", modules=60)
    samples = list(store.rows(data))
    assert len(samples) > 100 and {s.source.licence for s in samples} == {"PSF-2.0"}
    for sample in samples:
        module = sample.source.uri.removeprefix("python:").rsplit(":", 1)[0]
        residue = int(hashlib.sha256(module.encode()).hexdigest(), 16) % 10
        assert sample.split == {0: "test", 1: "validation"}.get(residue, "train")
        assert sample.target not in sample.condition.replace("#", "") or "#" in sample.condition
        compile(sample.condition.lstrip() if sample.condition[0] != "@" else "pass", "x", "exec")


def test_lines_are_counted_as_the_parser_counts_them():
    from volant.stages.collect._functions import pairs

    text = 'import os\n\f\nX = "\x1c\u2028"\r\n\ndef f(a):\n    """Give back what was given here."""\n    return a\n'
    (found,) = pairs(text, 1000, group="m", source=lambda line: Source(uri=f"m:{line}", licence="PSF-2.0"))
    assert found.condition == "def f(a):\n    return a"


def test_python_text_holds_the_reference_and_no_test_module_in_train(tmp_path):
    data = collect.python_sources(run_in(tmp_path), what="text", modules=40, max_megabytes=2)
    train = list(store.rows(data, "train"))
    assert any(s.source.uri.startswith("python:pydoc_data.topics.") for s in train)
    assert all(split_of(s.source.uri.removeprefix("python:").split("#")[0]) == "train" for s in train)
    assert sum(len(s.text) for s in train) <= 2e6 and store.count(data, "test") > 0


def test_packages_are_split_whole_under_their_own_licences(tmp_path):
    names = ["packaging", "uvicorn", "httpx", "tqdm"]  # by hash: test, validation, training; MPL-2.0 in part
    data = collect.python_packages(run_in(tmp_path), what="pairs", packages=names)
    found = {(s.group, s.split, s.source.licence) for s in store.rows(data)}
    assert found == {
        ("packaging", "test", "Apache-2.0 OR BSD-2-Clause"),
        ("uvicorn", "validation", "BSD-3-Clause"),
        ("httpx", "train", "LicenseRef-BSD"),
    }
    manifest = json.loads((data.path / "manifest.json").read_text())
    assert manifest["left_out"] == {"tqdm": "its licence is MPL-2.0 AND MIT"}
    own = manifest["packages"]["httpx"]
    assert own["version"] == version("httpx") and own["files"] > 5 and len(own["sha256"]) == 64
    assert own["records"] == sum(s.group == "httpx" for s in store.rows(data))
    with pytest.raises(SettingError, match="no package 'httpxx' is installed"):
        collect.python_packages(run_in(tmp_path / "b"), packages=["httpxx"])


def test_package_text_is_capped_and_holds_neither_tests_nor_copies(tmp_path):
    data = collect.python_packages(
        run_in(tmp_path), packages=["networkx", "packaging", "uvicorn"], package_megabytes=0.3
    )
    texts = [s for s in store.rows(data) if s.group == "networkx"]
    assert 2e5 < sum(len(s.text) for s in texts) <= 3e5
    assert not [s for s in texts if "/tests/" in s.source.uri]


@pytest.mark.parametrize(
    ("said", "expression", "free"),
    [
        ({"License-Expression": "MIT OR GPL-2.0-only"}, "MIT OR GPL-2.0-only", True),
        ({"License-Expression": "MIT AND MPL-2.0"}, "MIT AND MPL-2.0", False),
        ({"License": "Apache 2.0 License"}, "Apache-2.0", True),
        ({"License": "Lesser General Public License, not BSD"}, "Lesser General Public License, not BSD", False),
        ({"Classifier": "License :: OSI Approved :: BSD License"}, "LicenseRef-BSD", True),
        ({}, "", False),
    ],
)
def test_what_a_package_states(said, expression, free):
    from email.message import Message

    from volant.stages.collect._licence_stated import permissive, stated

    metadata = Message()
    for key, value in said.items():
        metadata[key] = value
    assert stated(SimpleNamespace(metadata=metadata)) == expression and permissive(expression) is free


def test_functions_lose_their_docstring_and_nothing_else():
    from volant.stages.collect.python_sources import _pairs

    source = '''
class A:
    @property
    def name(self):
        """Return the name of the thing.

        More.
        """
        # kept
        return self._name

    def nothing(self): """Do nothing at all here."""

    def only(self):
        """Say what it would do."""

    def semi(self):
        """Share a line with code."""; return 1
'''
    (only,) = _pairs("m", source, 1000)
    assert only.condition == "@property\ndef name(self):\n    # kept\n    return self._name"
    assert only.target == "Return the name of the thing." and only.group == "m"


# --- clean -----------------------------------------------------------------------------------


def cleaned(folder, *parts, step="clean", **settings):
    run = run_in(folder, step)
    datasets = [made(folder, samples, f"{step}-in{i}") for i, samples in enumerate(parts)]
    result = collect.clean(run, *datasets, **settings)
    return {s.text: s.drop for s in [*store.rows(result), *store.dropped(result)]}, result, run


def test_every_drop_keeps_rule_value_and_threshold(tmp_path):
    long = " ".join(f"word{i}" for i in range(60))
    extra = [
        pair("How many CATS are in room 0?", "there are 0  cats there"),
        pair("tell me of it", long),
        pair("tell me of it", long.replace("word30", "other")),
        pair("repeat", "spam ham eggs " * 20),
        pair("leaky " + long, "see above"),
        pair("guarded " + " ".join(f"word{i}" for i in range(40, 60)), "kept as it is", "test"),
    ]
    drops, result, _ = cleaned(tmp_path, base(extra))
    by_rule = {drop.split(":")[0]: drop for drop in drops.values() if drop}
    assert set(by_rule) == {"exact_duplicate", "near_duplicate", "max_top_phrase", "leakage"}
    assert all(" against " in drop for drop in by_rule.values())
    assert "shared with test" in by_rule["leakage"] and "word40 word41" in by_rule["leakage"]
    assert not any(s.drop for s in store.rows(result, "test")) and store.count(result, "test") == 2


def test_a_duplicate_across_splits_falls_on_the_training_side(tmp_path):
    twin = pair("the same prompt for both of them", "with the same answer")
    drops, result, _ = cleaned(tmp_path, base([twin]), [twin.model_copy(update={"split": "test"})])
    assert [s.split for s in store.dropped(result)] == ["train"] and drops


def test_personal_data_is_masked_with_a_new_id_or_dropped(tmp_path):
    private = pair("who wrote this page?", "write to ann@firm.com please")
    _, result, _ = cleaned(tmp_path, base([private]))
    found = next(s for s in store.rows(result) if "<email>" in s.text)
    assert found.parents == [private.id] and found.id != private.id and found.attrs["masked"] == {"email": 1}
    drops, _, _ = cleaned(tmp_path, base([private]), step="drop", personal="drop")
    assert drops[private.text] == "personal_data: 1 email against 0"


def test_feedback_trains_only_and_is_capped_per_client(tmp_path):
    rows = [pair(f"prompt {i} of client", f"corrected answer {i}", "test", "feedback", "client-a") for i in range(30)]
    rows += [pair("another prompt of b", "corrected by b", "validation", "feedback", "client-b")]
    drops, result, _ = cleaned(tmp_path, base(), rows, client_cap=0.4)
    kept = [s for s in store.rows(result) if s.source.origin == "feedback"]
    assert {s.split for s in kept} == {"train"} and sorted(s.group for s in kept) == ["client-a"] * 2 + ["client-b"]
    assert sum(d == "client_cap: 30 rows of one client against 2" for d in drops.values()) == 28
    assert store.count(result, "test") == 1


def test_a_correction_is_no_duplicate_but_a_test_answer_is_a_leak(tmp_path):
    body = "def f(a):\n" + "\n".join(f"    step_{i} = a + {i}" for i in range(30))
    original = pair(body, "Add up the steps.")
    better = pair(body, "Add thirty numbers to a.", origin="feedback", group="c")
    drops, _, _ = cleaned(tmp_path, base([original]), [better], client_cap=1)
    assert drops[better.text] == "" and drops[original.text] == ""
    guarded = original.model_copy(update={"split": "test"})
    drops, _, _ = cleaned(tmp_path, base([guarded]), [better], step="leak", client_cap=1)
    assert drops[better.text].startswith("leakage")


def test_a_leak_behind_feedback_is_found(tmp_path):
    text = " ".join(f"word{i}" for i in range(30))
    copied = pair(" ".join(f"else{i}" for i in range(60)) + " " + text, "other")
    heard = [pair(f"asked for {i}", f"corrected to {i}", origin="feedback", group=f"c{i}") for i in range(3)]
    rows = [heard[0], copied, *heard[1:], *base([pair(text, "the answer", "test")])]
    drops, _, _ = cleaned(tmp_path, rows, client_cap=1)
    assert drops[copied.text].startswith("leakage") and [d for d in drops.values() if d] == [drops[copied.text]]


def test_another_dataset_guards_without_adding_records(tmp_path):
    text = " ".join(f"word{i}" for i in range(30))
    held = pair(text, "the answer", "test")
    data, guard = made(tmp_path, base([pair("copied: " + text, "other")]), "d"), made(tmp_path, [held], "g")
    result = collect.clean(run_in(tmp_path, "clean"), data, guard=[guard])
    assert [s.drop.split(":")[0] for s in store.dropped(result)] == ["leakage"]
    assert held.id not in {s.id for s in store.rows(result)}
    empty = made(tmp_path, [held.model_copy(update={"split": "train"})], "nothing-held-out")
    run = run_in(tmp_path, "said")
    result = collect.clean(run, data, guard=[empty])
    assert any("1 training records are not guarded" in line for line in run.watcher.lines)
    sets = json.loads((result.path / "leakage.json").read_text())["sets"]
    assert [(one["name"], one["items"] > 0) for one in sets] == [("test", True), ("validation", True), ("guard", False)]


def test_several_benchmarks_guard_in_one_pass(tmp_path):
    texts = [" ".join(f"{name}{i}" for i in range(30)) for name in ("maths", "code")]
    guards = [made(tmp_path, [pair(text, "the answer", "test")], f"g{n}") for n, text in enumerate(texts)]
    data = made(tmp_path, base([pair(f"copied: {text}", "other") for text in texts]), "d")
    result = collect.clean(run_in(tmp_path, "clean"), data, guard=guards)
    assert [s.drop.split(":")[0] for s in store.dropped(result)] == ["leakage"] * 2
    names = [one["name"] for one in json.loads((result.path / "leakage.json").read_text())["sets"]]
    assert len(set(names)) == len(names) == 4  # though both come from steps of one name


def test_cleaning_is_deterministic_and_leaves_its_input_alone(tmp_path):
    data = made(tmp_path, base())
    before = payload_digest(data.path)[0]
    results = [payload_digest(collect.clean(run_in(tmp_path, s), data).path)[0] for s in ("one", "two")]
    assert results[0] == results[1] and payload_digest(data.path)[0] == before


@pytest.mark.parametrize("samples", [[], [pair("a b c", "d e f")]])
def test_too_little_data_is_a_readable_error(tmp_path, samples):
    with pytest.raises(DataError, match=r"too few|no record|empty"):
        cleaned(tmp_path, samples)


def test_nothing_left_names_the_rule(tmp_path):
    samples = [pair(f"p{i}", "spam ham eggs " * 20, s) for i, s in enumerate(["train", "validation", "test"])]
    with pytest.raises(DataError, match="no record is left in train.*max_top_phrase"):
        cleaned(tmp_path, samples)


# --- split -----------------------------------------------------------------------------------


def test_split_keeps_groups_whole_and_shares_near(tmp_path):
    rows = [pair(f"prompt {i} text", f"answer {i} {j}", group=f"g{i}") for i in range(300) for j in range(2)]
    data = made(tmp_path, rows)
    result = collect.split(run_in(tmp_path, "s"), data, validation=0.2, test=0.3)
    sides = {}
    for sample in store.rows(result):
        assert sides.setdefault(sample.group, sample.split) == sample.split
    counts = result.about["splits"]
    assert abs(counts["test"] - 180) < 40 and abs(counts["validation"] - 120) < 40
    other = collect.split(run_in(tmp_path, "t"), data, salt="again")
    assert {s.id: s.split for s in store.rows(other)} != {s.id: s.split for s in store.rows(result)}
    with pytest.raises(SettingError, match="nothing to train"):
        collect.split(run_in(tmp_path, "u"), data, validation=0.5, test=0.5)


def test_clean_makes_the_same_bytes_by_any_number_of_threads(tmp_path, monkeypatch):
    from volant.project import Project
    from volant.store import shards

    monkeypatch.setattr(shards, "_ROWS_A_GROUP", 64)
    texts = [f"Text {i} of {i * 7 % 90} speaks of the year {1900 + i % 120}, and of little more." for i in range(400)]
    made = []
    for threads in (1, 2, 3):
        root = tmp_path / str(threads)
        (root / "data").mkdir(parents=True)
        lines = [json.dumps({"text": text}) for text in [*texts, *texts[:40]]]
        (root / "data" / "a.jsonl").write_text("\n".join(lines))
        project = Project(root, device="cpu", threads=threads)
        gathered = project.run(collect.files, glob="data/*.jsonl", licence="MIT")
        assert len(list(store.tables(gathered, "train"))) > 3
        made.append(project.run(collect.clean, gathered, near=1.0).digest)
    assert len(set(made)) == 1
