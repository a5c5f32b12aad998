"""`collect.questions`: pairs whose answers stand in their passage stay, others are dropped with their figure."""

import json
import re

import pytest

from stand_in_service import hosted, serving
from tiny_models import dataset, run_in, watched
from volant.core.errors import DataError
from volant.core.sample import Sample, Source
from volant.core.spec import Goal
from volant.stages import collect
from volant.stages.collect._passages import asked_and_answered, passages, problem, same_answer, support
from volant.store.dataset import dropped, rows

NAMES = ("Ada", "Bela", "Cyrus", "Dora", "Edgar", "Fanny", "Gustav", "Hilda")
TOWNS = ("Aarhus", "Bergen", "Calais", "Dresden", "Evora", "Faro", "Genoa", "Hull")


def documents():
    found = []
    for n, (name, town) in enumerate(zip(NAMES, TOWNS, strict=True)):
        text = (
            f"{name} founded the lighthouse of {town} in the year {1800 + 7 * n}. It was painted white at first, and "
            f"later red.\nThe keeper of {town} lit {n + 3} lamps every evening, whatever the weather was out at sea."
        )
        split = "validation" if n == 7 else "train"
        source = Source(uri=f"towers/{n}.md", licence="CC-BY-SA-4.0")
        found.append(Sample(id=f"doc{n}", shape="text", content=text, split=split, group=f"d{n}", source=source))
    return found


def reader(messages, seed):
    """Asks about founders rightly, and at some seeds wrongly; reads founders out of passages."""
    asked = messages[-1]["content"]
    name, town, year = re.search(r"(\w+) founded the lighthouse of (\w+) in the year (\d+)", asked).groups()
    if "Answer in as few words" in asked:
        return f"It was {name}." if "Who" in asked else "It was painted white."
    told = {
        0: (f"Who founded the lighthouse of {town}?", name),
        1: (f"When was the lighthouse of {town} founded?", f"In the year {int(year) + 1}"),
        2: ("What does the passage say?", name),
        3: (f"What colour is the lighthouse of {town}?", "It was red"),
        4: (f"Who kept the lighthouse of {town}?", "A retired captain of the navy"),
    }.get(seed % 6)
    return json.dumps(dict(zip(("question", "answer"), told, strict=True))) if told else "I would rather not {say}."


def test_only_pairs_that_their_passage_bears_out_stay(tmp_path):
    data = dataset(tmp_path / "data", documents())
    run = run_in(tmp_path / "run", seed=3)
    with serving(reader) as service:
        model = hosted(tmp_path / "far", service.url)
        made = collect.questions(run, model, data, each=8, words=60, count=64, licence="LicenseRef-stand-in")
        asked = len(service.bodies)
    texts = {d.id: d for d in documents()}
    kept = list(rows(made))
    assert kept and {s.split for s in kept} <= {"train", "validation"}
    for one in kept:
        document = texts[one.parents[0]]
        assert one.condition.startswith("Who founded") and one.target in document.content
        assert document.content[one.attrs["answer_at"] :].startswith(one.target) and one.split == document.split
        assert one.source.licence == "CC-BY-SA-4.0 AND LicenseRef-stand-in" and one.source.origin == "generated"
        assert one.attrs["support"] == one.attrs["round_trip"] == 1.0 and one.group == document.group
    rules = {s.drop.split(":")[0] for s in dropped(made)}
    assert {"malformed", "unsupported", "points", "round_trip"} <= rules
    wrong = [s for s in dropped(made) if s.condition.startswith(("When", "Who kept"))]
    assert wrong and all(s.drop.startswith("unsupported: 0.00") for s in wrong)
    told = json.loads((made.path / "questions.json").read_text())
    assert told["tried"] == 64 and told["requests"] == asked and told["word_for_word"] == len(kept) == told["kept"]
    counted = {s.name: s.value for s in watched(run).scores}
    assert counted["malformed"] == told["dropped"]["malformed"] > 0


def test_the_cap_the_passage_in_the_prompt_and_the_same_bytes(tmp_path):
    data = dataset(tmp_path / "data", documents())
    settings = {"each": 8, "words": 60, "licence": "MIT", "with_passage": True, "round_trip": 0.0}
    found = []
    with serving(reader) as service:
        model = hosted(tmp_path / "far", service.url)
        for name in ("one", "two"):
            run = run_in(tmp_path / name, seed=3)
            run.goal = Goal(generated=0.25)
            found.append(collect.questions(run, model, data, **settings))
    assert found[0].digest == found[1].digest and found[0].about["splits"]["train"] == 2
    assert all("founded the lighthouse" in s.condition and s.condition.endswith("?") for s in rows(found[0]))


def test_no_documents(tmp_path):
    short = [d.model_copy(update={"content": "Short."}) for d in documents()]
    with pytest.raises(DataError, match="no passage") as caught:
        model = hosted(tmp_path / "far", "http://127.0.0.1:9/v1")
        collect.questions(run_in(tmp_path / "run"), model, dataset(tmp_path / "d", short), licence="MIT")
    assert "words" in caught.value.fix


def test_passages_cover_a_text_in_whole_sentences():
    text = " ".join(f"Sentence {n} has exactly six words." for n in range(20)) + "\n\nAn end"
    found = list(passages(text, 30))
    assert all(text[p.at :].startswith(p.text) and p.text.endswith(".") for p in found)
    assert sum(len(p.text.split()) for p in found) == 120 and max(len(p.text.split()) for p in found) <= 30
    assert list(passages("", 30)) == [] and len(list(passages("word " * 500, 30))) == 1


def test_support_and_agreement():
    passage = "In 1843 Ada Lovelace wrote notes on an engine of 1,000 wheels."
    assert support("ada lovelace", passage) == (1.0, 8)
    assert support("Lovelace", "The Lovelaces") == (0.0, -1)
    assert support("notes that Lovelace wrote", passage)[0] == 1.0
    assert support("Ada Lovelace wrote in 1844", passage) == (0.0, -1)
    assert support("an engine of 1000 wheels", passage)[0] == pytest.approx(2 / 3)
    assert support("", passage) == (0.0, -1)
    assert same_answer("1843", "It was in 1843.") == 1.0 and same_answer("in 1843", "in 1844") == 0.0
    assert asked_and_answered("Question: Who?\nAnswer: Ada") == ("Who?", "Ada")
    assert asked_and_answered('{"question": 3, "answer": "x"}') == ("", "")
    assert problem("Who wrote notes?", "Ada", passage) == ""
    assert problem("Who was mentioned above?", "Ada", passage).startswith("points")
    assert problem("Did Ada Lovelace write notes?", "Ada Lovelace", passage).startswith("given_away")
    assert problem("Why is grass green?", "Ada", passage).startswith("unrelated")
