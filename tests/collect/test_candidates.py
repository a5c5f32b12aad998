"""Candidates are ranked by what is known of them: relevance, licence, size, overlap; and nothing is gathered."""

import json
import random

import pytest
from PIL import Image

import small_sources
from volant.core.errors import RemoteError, SettingError
from volant.project import Project
from volant.stages import collect

TOPICS = {
    "bees": "The {n}th hive of bees gave {m} jars of honey in the garden.",
    "trains": "Train number {n} left platform {m} with a delay in the morning.",
    "mixed": "Report {n}: the bees, a train on platform {m}, and the weather.",
}


KINDS = ("honey", "wax", "hive", "queen", "bee", "rose")
ENDS = ("", "pot", "man", "way", "day")


def texts(topic, count, start=0):
    made = [TOPICS[topic].format(n=n, m=n * 7 % 101) for n in range(start, start + count)]
    return "".join(json.dumps({"text": text}) + "\n" for text in made)


def stories(count, seed):
    """Texts about bees that have no run of words in common."""
    rng = random.Random(seed)
    words = [f"{a}{b}" for a in KINDS for b in ENDS]
    return "".join(json.dumps({"text": " ".join(rng.choices(words, k=30))}) + "\n" for _ in range(count))


@pytest.fixture
def project(tmp_path):
    goal = "goal: {problem: Answer questions about bees and honey}"
    (tmp_path / "volant.yaml").write_text(f"volant: 1\nname: bees\n{goal}\nsteps: {{}}\n")
    return Project(tmp_path, device="cpu", threads=1)


def lay(project, name, licence, content, ending="jsonl"):
    folder = project.root / "lake" / name
    folder.mkdir(parents=True)
    (folder / f"data.{ending}").write_text(content)
    if licence:
        (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n# {name}\n")


def ranked(project, *inputs, **settings):
    made = project.run(collect.candidates, *inputs, **{"folder": "lake", **settings})
    return made, {row["name"]: row for row in made.read_json("plan.json")["candidates"]}


def test_relevant_usable_and_new_data_comes_first(project):
    lay(project, "hives", "mit", texts("bees", 200))
    lay(project, "railway", "mit", texts("trains", 200))
    lay(project, "notes", "cc-by-4.0", texts("mixed", 200))
    lay(project, "shut", "cc-by-nc-4.0", texts("bees", 200, 500))
    lay(project, "unknown", "", texts("bees", 200, 900))
    lay(project, "broken", "mit", "{" * 500)
    (project.root / "lake" / "single.jsonl").write_text(texts("bees", 50, 2000))
    (project.root / "lake" / "LICENSE").write_text(small_sources.MIT)
    made, rows = ranked(project)
    assert list(rows)[:3] == ["hives", "notes", "railway"]
    assert rows["hives"]["relevance"] > rows["notes"]["relevance"] > rows["railway"]["relevance"] == 0
    assert {name: row["hindrance"] for name, row in rows.items() if row["hindrance"]} == {
        "shut": "CC-BY-NC-4.0 forbids commercial use", "unknown": "it states no licence",
        "single.jsonl": "it states no licence", "broken": "no record in it can be read",
    }  # fmt: skip
    assert rows["hives"]["found"] == ["honey", "bee"] and rows["hives"]["sampled"] == 200
    page = (made.path / "index.html").read_text()
    assert "hives" in page and "forbids commercial use" in page
    taken = rows["hives"]["take"]
    assert rows["hives"]["fields"] == ["text"]
    assert taken == {"use": "collect.files", "glob": ["lake/hives/**/*.jsonl"], "licence": "mit"}
    taken.pop("use")
    assert sum(project.run(collect.files, **taken).about["splits"].values()) == 200


def test_what_is_there_already_ranks_lower(project):
    lay(project, "old", "mit", stories(200, 1))
    lay(project, "half", "mit", stories(100, 1) + stories(100, 2))
    lay(project, "new", "mit", stories(200, 3))
    data = project.run(collect.files, glob="lake/old/*.jsonl", licence="MIT", piece_chars=0)
    _, rows = ranked(project, None, data)
    assert list(rows) == ["new", "half", "old"]
    # A tenth of it is in validation and another in test, which are no training data.
    assert rows["new"]["overlap"] < 0.05 and 0.35 < rows["half"]["overlap"] < 0.55 and rows["old"]["overlap"] > 0.75


def test_records_are_read_whatever_their_fields_are_called(project):
    asked = [
        {"question": f"How do bees make honey {n}?", "turns": [{"reply": ["In cells."]}], "n": n} for n in range(30)
    ]
    lay(project, "asked", "mit", "".join(json.dumps(one) + "\n" for one in asked))
    (project.root / "lake" / "asked" / "LICENSE").write_text("Further terms.")
    lay(project, "dull", "mit", texts("trains", 30))
    _, rows = ranked(project)
    assert list(rows) == ["asked", "dull"] and rows["asked"]["fields"] == ["n", "question", "turns"]
    assert rows["asked"]["sampled"] == 30 and rows["asked"]["hindrance"] == ""


def test_past_runs_are_candidates_of_their_own(project):
    lay(project, "hives", "mit", texts("bees", 60))
    lay(project, "railway", "cc-by-nc-4.0", texts("trains", 60))
    data = project.step("gathered").run(collect.files, glob="lake/hives/*.jsonl", licence="MIT")
    _, rows = ranked(project)
    mine = next(row for name, row in rows.items() if name.startswith("gathered "))
    assert mine["where"] == "past run" and mine["records"] == "60" and mine["licence"] == "MIT"
    assert mine["take"] == {"step": "gathered"} and mine["relevance"] == rows["hives"]["relevance"]
    _, rows = ranked(project, None, data)
    assert not any(name.startswith("gathered ") for name in rows)


def test_the_hub_is_asked_only_when_online(project, monkeypatch):
    import huggingface_hub
    from huggingface_hub.hf_api import DatasetInfo

    asked = []
    listed = [
        DatasetInfo(id="a/honey", sha="1" * 40, tags=["license:mit", "size_categories:1M<n<10M", "modality:text"],
                    description="Questions about honey and bees"),
        DatasetInfo(id="b/pictures", sha="2" * 40, tags=["license:mit", "modality:image"]),
        DatasetInfo(id="c/honey", sha="3" * 40, tags=["license:cc-by-nc-4.0", "size_categories:n<1K"]),
        DatasetInfo(id="d/honey", sha="4" * 40, tags=["license:mit"], gated="auto"),
    ]  # fmt: skip

    def found(self, *, search, sort, limit, full):
        asked.append(search)
        return listed

    monkeypatch.setattr(huggingface_hub.HfApi, "list_datasets", found)
    lay(project, "hives", "mit", texts("bees", 60))
    ranked(project)
    assert asked == []
    _, rows = ranked(project, online=True)
    assert len(asked) == 3 and set(asked) <= {"answer", "question", "about", "honey", "bee"}
    assert set(rows) == {"hives", "a/honey", "c/honey", "d/honey"} and rows["a/honey"]["records"] == "1M<n<10M"
    assert rows["a/honey"]["take"]["revision"] == "1" * 40 and rows["a/honey"]["overlap"] is None
    assert "consent" in rows["d/honey"]["hindrance"] and "NC" in rows["c/honey"]["hindrance"]

    def offline(self, **_):
        raise huggingface_hub.errors.OfflineModeIsEnabled("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_datasets", offline)
    with pytest.raises(RemoteError, match="online: false"):
        project.step("again", refresh=True).run(collect.candidates, online=True)


def test_without_a_problem_there_is_nothing_to_look_for(tmp_path):
    with pytest.raises(SettingError, match="what data"):
        Project(tmp_path, device="cpu", threads=1).run(collect.candidates)


@pytest.mark.parametrize("modality", ["image", "table"])
def test_pictures_and_rows_are_sampled_as_their_modality_reads_them(modality, tmp_path):
    metric, rival = {"image": ("sharpness", "gaussian"), "table": ("marginals", "cart")}[modality]
    goal = f"goal: {{problem: Cats and dogs by age, modality: {modality}, metric: {metric}, baseline: {rival}}}"
    (tmp_path / "volant.yaml").write_text(f"volant: 1\nname: t\n{goal}\nsteps: {{}}\n")
    lake = tmp_path / "lake"
    for name, words in (("pets", ["cat", "dog"]), ("tools", ["saw", "axe"])):
        for number in range(12):
            place = lake / name / words[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            if modality == "image":
                shade = Image.new("L", (8, 8), 10 * number)
                shade.save(place / f"{number}.png")
        if modality == "table":
            rows = "".join(f"{words[n % 2]},{n}\n" for n in range(30))
            (lake / name / "rows.csv").write_text(f"kind,age\n{rows}")
        (lake / name / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    made = Project(tmp_path, device="cpu", threads=1).run(collect.candidates, folder="lake")
    found = made.read_json("plan.json")["candidates"]
    assert [row["name"] for row in found] == ["pets", "tools"] and all(row["sampled"] >= 12 for row in found)
    assert {"cat", "dog"} <= set(found[0]["found"]) and found[0]["relevance"] > found[1]["relevance"]
