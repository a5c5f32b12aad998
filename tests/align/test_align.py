"""preferences -> reward -> dpo, on a tiny model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from tiny_models import dataset, model, pairs, run_in, samples, watched
from volant.core.artifact import Dataset, Model, payload_digest
from volant.core.errors import ArtifactError, DataError, GateRefused, MachineError, SettingError
from volant.core.method import method_of
from volant.core.outside import Snapshot
from volant.core.sample import Label, Sample, split_of
from volant.engines import open_model
from volant.modalities import open_modality
from volant.nets import judge
from volant.scorers.measure import answered, check_task
from volant.stages.align import dpo, kto, orpo, preferences, reward, simpo
from volant.stages.align.aligned import state_lengths
from volant.stages.align.from_pairs import _rated
from volant.stages.align.reward import _split
from volant.store.dataset import rows

MARK = {"ratings": Snapshot("records", "*", facts={"workload": "*", "requests": 0, "feedback": 0, "ratings": 9})}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Dataset, Dataset]:
    folder = tmp_path_factory.mktemp("align")
    choices = [*pairs(), *(s for s in samples() if s.split == "validation")]
    return model(folder, steps=30), dataset(folder / "data", samples()), dataset(folder / "choices", choices)


class Rated:
    """Records with these ratings."""

    def __init__(self, *ratings: tuple[str, str, str, str, str]) -> None:
        self.given = ratings

    def ratings(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        for number, (prompt, a, b, choice, rater) in enumerate(self.given):
            scores = {"a_score": 2, "b_score": 5} if rater == "ben" else {"a_score": None, "b_score": None}
            row = {"id": number, "at": "", "prompt": prompt, "a": a, "b": b, "choice": choice, "rater": rater}
            yield {**row, **scores}

    requests = feedback = runs = None  # type: ignore[assignment]


def scores(run: Any) -> dict[str, Any]:
    return {s.name if s.of == "model" else f"{s.name}/{s.of}": s for s in watched(run).scores}


def test_scored_pairs_name_their_judge_and_keep_the_split(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    run = run_in(tmp_path, outside=MARK, records=Rated())
    found = list(rows(preferences(run, *made[:2], prompts=20, answers=3, max_tokens=12, margin=0.01)))
    scored = [s for s in found if s.shape == "preference"]
    assert scored and {s.labels[0].by for s in scored} == {"scorer:relevance@1"}
    known = {s.id: s for s in samples()}
    for pair in scored:
        assert pair.split == known[pair.parents[0]].split and pair.source.origin == "generated"
        assert pair.attrs["chosen_value"] - pair.attrs["rejected_value"] >= 0.01 and pair.target != pair.rejected
    assert [s.id for s in found if s.shape == "completion"] == [s.id for s in samples() if s.split == "validation"]


def test_people_come_first(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    prompt = "def read_word(x):"
    records = Rated(
        (prompt, "Read it.", "Write it.", "b", "ana"),
        (prompt, "Read it.", "Write it.", "a", "ana"),  # she changed her mind
        (prompt, "Read it.", "No.", "tie", "ben"),
        ("def unheard():", "x", "y", "b", "ben"),
    )
    run = run_in(tmp_path, outside=MARK, records=records)
    found = [s for s in rows(preferences(run, *made[:2], prompts=400, answers=2, max_tokens=8)) if s.labels]
    people = [s for s in found if s.labels[0].by.startswith("person:")]
    assert [(s.target, s.rejected, s.labels[0].by) for s in people] == [
        ("Read it.", "Write it.", "person:ana"), ("y", "x", "person:ben"),
    ]  # fmt: skip
    assert [s.attrs for s in people] == [{}, {"chosen_score": 5, "rejected_score": 2}]
    assert people[0].parents == ["read_word"] and people[0].source.consent == "given"
    assert not [s for s in found if s.condition == prompt and s not in people]


def test_of_several_raters_most_decide(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    prompt = "def read_word(x):"
    records = Rated(
        (prompt, "Read it.", "Write it.", "a", "ana"),
        (prompt, "Write it.", "Read it.", "a", "cleo"),
        (prompt, "Write it.", "Read it.", "b", "dora"),
        (prompt, "Read it.", "No.", "a", "ana"),
        (prompt, "Read it.", "No.", "b", "cleo"),
    )
    run = run_in(tmp_path, outside=MARK, records=records)
    (pair,) = (s for s in rows(preferences(run, *made[:2], prompts=0)) if s.labels)
    assert (pair.target, pair.rejected) == ("Read it.", "Write it.")
    assert [label.by for label in pair.labels] == ["person:ana", "person:dora"]
    assert any("of 1 pairs as many raters chose one answer" in line for line in watched(run).lines)


@pytest.mark.parametrize(("choice", "kappa"), [(lambda n: "ba"[n % 2], 1.0), (lambda n: "ab"[n % 2], -1.0)])
def test_how_far_the_scorers_agree_with_people_is_said_before_they_label(
    made: tuple[Model, Dataset, Dataset], tmp_path: Path, choice: Any, kappa: float
) -> None:
    known = [s for s in samples() if s.split == "train"][:12]
    sides = [("x", str(s.target)) if n % 2 == 0 else (str(s.target), "x") for n, s in enumerate(known)]
    told = [(str(s.condition), *both, choice(n), "ana") for n, (s, both) in enumerate(zip(known, sides, strict=True))]
    run = run_in(tmp_path, outside=MARK, records=Rated(*told))
    asked = {"prompts": 4, "answers": 2, "max_tokens": 4}
    if kappa < 0:
        with pytest.raises(GateRefused, match=r"the scorers agree with people by a kappa of -1.00, less than 0"):
            preferences(run, *made[:2], **asked)
    else:
        preferences(run, *made[:2], **asked)
    score = {s.name: s for s in watched(run).scores}["judge_kappa"]
    assert (score.value, score.n) == (kappa, 12)


def test_only_a_raters_last_word_counts_in_the_agreement(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    known = [s for s in samples() if s.split == "train"][:12]
    first = [(str(s.condition), "x", str(s.target), "a", "ana") for s in known]
    again = [(str(s.condition), str(s.target), "x", "a", "ana") for s in known[:10]]  # she changed her mind
    ties = [(str(s.condition), "x", str(s.target), "tie", "ana") for s in known[10:]]
    run = run_in(tmp_path, outside=MARK, records=Rated(*first, *again, *ties))
    preferences(run, *made[:2], prompts=4, answers=2, max_tokens=4)
    score = {s.name: s for s in watched(run).scores}["judge_kappa"]
    assert (score.value, score.n) == (1.0, 10)


def test_the_same_seed_gives_the_same_pairs(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = run_in(tmp_path / name, seed=seed, outside=MARK, records=Rated())
        made_of = preferences(run, *made[:2], prompts=10, answers=2, max_tokens=8, margin=0.0)
        digests.append(payload_digest(made_of.path)[0])
    assert digests[0] == digests[1] != digests[2]


def test_nobody_prefers_anything(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pair to learn from") as caught:
        preferences(run_in(tmp_path, outside=MARK, records=Rated()), *made[:2], prompts=0)
    assert "volant rate" in caught.value.fix


def chatted() -> list[Sample]:
    """The samples as dialogues of a system turn, two of the user's and an answer between."""
    before = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."},
              {"role": "assistant", "content": "Hello."}]  # fmt: skip
    bare = {"shape": "messages", "condition": None, "target": None}
    return [s.model_copy(update={**bare, "content": json.dumps([*before, *s.messages])}) for s in samples()]


def test_pairs_of_dialogues_keep_their_turns_and_are_learnt_from(
    made: tuple[Model, Dataset, Dataset], tmp_path: Path
) -> None:
    chats = chatted()
    prompt = "\n".join(turn["content"] for turn in chats[0].messages[:-1])
    run = run_in(tmp_path / "pairs", outside=MARK, records=Rated((prompt, "Good.", "Bad.", "a", "ana")))
    found = preferences(run, made[0], dataset(tmp_path / "chats", chats), prompts=8, answers=4, max_tokens=6, margin=0)
    kept = [s for s in rows(found) if s.shape == "preference"]
    assert [s.target for s in kept if s.labels[0].by == "person:ana"] == ["Good."] and len(kept) > 1
    asked = {s.id: s.messages for s in chats}
    for pair in kept:
        assert pair.turns == asked[pair.parents[0]][:-1] and pair.condition is None
        assert open_modality("text").check(pair) == [] and pair.messages[-1]["content"] == pair.target
    dpo(run_in(tmp_path / "dpo"), made[0], found, epochs=1, limit=4)


def test_new_answers_that_people_rated_to_what_pairs_ask_keep_its_turns_and_its_split(
    made: tuple[Model, Dataset, Dataset], tmp_path: Path
) -> None:
    bare = {"shape": "preference", "target": "Known.", "rejected": "Worse."}
    asked = [s.model_copy(update={**bare, "content": json.dumps(s.messages[:-1])}) for s in chatted()]
    both = [next(s for s in asked if s.split == split) for split in ("train", "validation")]
    told = [("\n".join(turn["content"] for turn in s.turns), "Good.", "Bad.", "a", "ana") for s in both]
    run = run_in(tmp_path, outside=MARK, records=Rated(*told))
    found = {s.split: s for s in rows(preferences(run, made[0], dataset(tmp_path / "pairs", asked), prompts=0))}
    assert {split: (s.turns, s.target) for split, s in found.items()} == {s.split: (s.turns, "Good.") for s in both}


@pytest.mark.parametrize("method", [reward, dpo])
def test_too_little_memory_is_said_before_anything_is_computed(
    made: tuple[Model, Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    monkeypatch.setattr("volant.nets.memory.free_bytes", lambda device: 1000)
    with pytest.raises(MachineError, match="needs about [0-9]+ MiB of memory") as caught:
        method(run_in(tmp_path), made[0], made[2])
    assert "`rows`" in caught.value.fix and not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("method", [reward, dpo])
def test_pairs_that_the_context_cuts_away_are_said(
    made: tuple[Model, Dataset, Dataset], tmp_path: Path, method: Any
) -> None:
    same = "Read the file and then " * 60
    kept = [s.model_copy(update={"target": f"{same} a.", "rejected": f"{same} b."}) for s in pairs()]
    long = dataset(tmp_path / "long", kept)
    with pytest.raises(DataError) as caught:
        method(run_in(tmp_path), made[0], long)
    assert "give shorter texts" in caught.value.fix


def test_data_without_pairs_say_what_pairs_are(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    for learn, said in ((reward, "holds no pairs of answers"), (dpo, "no pair to learn from"), (kto, "no answer to")):
        with pytest.raises(DataError, match=said) as caught:
            learn(run_in(tmp_path / said), *made[:2])
        assert "`prompt`, `chosen` and `rejected`" in caught.value.fix


def test_opening_a_judge_shows_no_bar_of_transformers(made: tuple[Model, Dataset, Dataset]) -> None:
    logging.enable_progress_bar()
    judge.fresh(made[0].path, seed=0, pad=0)
    assert not logging.is_progress_bar_enabled()


def test_reward_opens_alone_and_tells_right_from_wrong(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    run = run_in(tmp_path)
    judge = reward(run, made[0], made[2], epochs=4, lr=1e-3)
    assert scores(run)["reward_accuracy"].value >= 0.9
    assert "reward_accuracy/baseline:length" in scores(run)
    net = AutoModelForSequenceClassification.from_pretrained(judge.path)
    tokenizer = AutoTokenizer.from_pretrained(judge.path)
    told = []
    for answer in ("Sort the tree.", "Do something else with it now."):
        turns = [{"role": "user", "content": "def sort_tree(x):"}, {"role": "assistant", "content": answer}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        told.append(net(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).logits.item())
    assert told[0] > told[1] and judge.about.engine == "reward"


def test_few_held_out_pairs_are_taken_from_train(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    only_train = dataset(tmp_path / "train", [s for s in pairs() if s.split == "train"])
    run = run_in(tmp_path)
    reward(run, made[0], only_train, epochs=1)
    assert "reward_accuracy" in scores(run) and any("held out" in line for line in watched(run).lines)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.4])
def test_the_share_that_is_asked_for_is_held_out_of_train_in_whole_groups(share: float, tmp_path: Path) -> None:
    kept = [
        pairs()[0].model_copy(update={"id": f"{n}/{turn}", "group": f"g{n}", "split": "train"})
        for n in range(2500)
        if split_of(f"g{n}") == "train"
        for turn in range(2)
    ]
    train, held = _split(run_in(tmp_path), dataset(tmp_path / "data", kept), share)
    assert len(train) + len(held) == len(kept)
    assert not {s.group for s in train} & {s.group for s in held}
    assert len(held) / len(kept) == pytest.approx(share, abs=0.025)


def test_pairs_of_one_group_are_learnt_from_whatever_its_hash(tmp_path: Path) -> None:
    for group in "abcdefgh":
        alone = [s.model_copy(update={"group": group, "split": "train"}) for s in pairs()[:3]]
        train, held = _split(run_in(tmp_path / group), dataset(tmp_path / group / "data", alone), 0.6)
        assert (len(train), held) == (3, [])


@pytest.mark.parametrize(("rejected", "accuracy"), [(lambda t: t[::-1], 0.5), (lambda t: t + "!", 1.0)])
def test_the_rule_of_length_knows_nothing_of_answers_that_are_as_long(
    rejected: Any, accuracy: float, made: tuple[Model, Dataset, Dataset], tmp_path: Path
) -> None:
    alike = [s.model_copy(update={"rejected": rejected(str(s.target))}) for s in pairs()]
    run = run_in(tmp_path / "run")
    reward(run, made[0], dataset(tmp_path / "data", alike), epochs=0.3)
    assert scores(run)["reward_accuracy/baseline:length"].value == accuracy


def test_dpo_aligns_and_reports(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    before = payload_digest(made[0].path)[0]
    run = run_in(tmp_path)
    aligned = dpo(run, made[0], made[2], lr=3e-4, epochs=3)
    found = scores(run)
    assert found["pair_accuracy"].value >= 0.9 and 0 < found["logratio"].value <= 10
    assert {"answer_length", "answer_length_change", "relevance", "relevance_change"} <= set(found)
    assert json.loads((aligned.path / "validation.json").read_text())["metric"] == "relevance"
    assert payload_digest(made[0].path)[0] == before
    net = AutoModelForCausalLM.from_pretrained(aligned.path)
    assert net.config.vocab_size == 320 and aligned.about.extra["dpo"]["pairs"] == 36


@pytest.mark.parametrize("function", [kto, simpo])
def test_the_others_align_as_well(function: Any, made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    run = run_in(tmp_path)
    aligned = function(run, made[0], made[2], lr=3e-4, epochs=3, bound=100)
    scores = {s.name: s for s in watched(run).scores}
    assert scores["pair_accuracy"].value > 0.7 and scores["logratio"].value > 0
    told = aligned.about.extra[function.__name__]
    assert told["answers"] == 72 if function is kto else told["pairs"] == 36


def test_orpo_teaches_a_base_the_answers_too(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    """The model of the others knows the answers already; one that hardly began gains by ORPO's first term."""
    run = run_in(tmp_path / "run")
    orpo(run, model(tmp_path / "base", steps=4), made[2], weight=2.0, lr=1e-3, epochs=4)
    scores = {s.name: s for s in watched(run).scores}
    assert scores["pair_accuracy"].value > 0.7 and scores["chosen_logratio"].value > 1


def test_accuracy_on_what_people_chose_is_told_apart(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    every = pairs()
    by_scorer = [Label(name="preference", value="chosen", by="scorer:relevance@1")]
    mixed = [p.model_copy(update={"labels": by_scorer}) if n % 2 else p for n, p in enumerate(every)]
    run = run_in(tmp_path)
    reward(run, made[0], dataset(tmp_path / "mixed", mixed), epochs=1.0)
    own, of_people = scores(run)["reward_accuracy"], scores(run)["reward_accuracy/people"]
    assert 0 < of_people.n < own.n


def test_pairs_that_teach_the_wrong_thing_are_taken_back_where_the_task_metric_falls(
    made: tuple[Model, Dataset, Dataset], tmp_path: Path
) -> None:
    base, data, _ = made
    turned = [p.model_copy(update={"target": p.rejected, "rejected": p.target}) for p in pairs()]
    choices = dataset(tmp_path / "turned", [*turned, *(s for s in samples() if s.split == "validation")])
    run = run_in(tmp_path / "run")
    tuned = dpo(run, base, choices, epochs=6.0, lr=3e-3, bound=1e6)
    lines = watched(run).lines
    assert any("by the task metric, relevance" in line and "going back to 0.25 of the way" in line for line in lines)
    assert scores(run)["relevance_change"].value > -0.1
    # What is told is told of the weights that are kept.
    again = run_in(tmp_path / "again")
    check_task(again, open_model(tuned), choices)
    assert scores(again)["relevance"].value == pytest.approx(scores(run)["relevance"].value)


def test_kto_learns_from_thumbs_alone(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    """No pair is left in the train split; those of the validation split say whether it helped."""
    kept = []
    for n, sample in enumerate(rows(made[2])):
        if sample.shape == "preference" and sample.split == "train":
            says = Label(name="rating", value="1" if n % 2 else "-1", by="client")
            target = sample.target if n % 2 else sample.rejected
            update = {"shape": "completion", "target": target, "rejected": None, "labels": [says]}
            sample = sample.model_copy(update=update)
        kept.append(sample)
    run = run_in(tmp_path / "run")
    aligned = kto(run, made[0], dataset(tmp_path / "thumbs", kept), lr=3e-4, epochs=4)
    assert {s.name: s for s in watched(run).scores}["pair_accuracy"].value > 0.7
    assert aligned.about.extra["kto"]["answers"] == 36


def thumbs(rating: str, **attrs: Any) -> list[Sample]:
    """The samples, each with a rating."""
    label = [Label(name="rating", value=rating, by="client")]
    return [s.model_copy(update={"labels": label, "attrs": attrs}) for s in samples()]


def test_a_correction_is_a_good_answer_whatever_was_said_of_the_one_that_it_corrects(
    made: tuple[Model, Dataset, Dataset], tmp_path: Path
) -> None:
    codec = open_modality("text").open_codec(made[0].path)
    for number, (kept, sides) in enumerate([
        (thumbs("-1", taught_by="correction"), (36, 0)), (thumbs("-1", taught_by="rating"), (0, 36)),
        ([s.model_copy(update={"labels": []}) for s in thumbs("", taught_by="correction")], (36, 0)),
        (samples(), (0, 0)),
    ]):  # fmt: skip
        good, bad = _rated(codec, dataset(tmp_path / str(number), kept), "train", [])
        assert (len(good), len(bad)) == sides


def test_a_bad_answer_from_a_file_is_neither_fine_tuned_on_nor_measured_against() -> None:
    told = [("-1", {}), ("0", {}), ("1", {}), ("5", {}), ("many", {}), ("-1", {"taught_by": "correction"})]
    wanted = [False, False, True, True, True, True]
    assert [answered(thumbs(rating, **attrs)[0]) for rating, attrs in told] == wanted


def test_ratings_that_say_nothing_of_good_and_bad_are_told(
    made: tuple[Model, Dataset, Dataset], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"a rating that is no number: 'True'. Give numbers: above 0"):
        kto(run_in(tmp_path / "a"), made[0], dataset(tmp_path / "words", thumbs("True")))
    run = run_in(tmp_path / "b")
    kto(run, made[0], dataset(tmp_path / "stars", thumbs("3")), epochs=0.5)
    assert any("all 36 answers are good: without bad ones" in line for line in watched(run).lines)
    same = [s.model_copy(update={"condition": "def f(x):"}) for s in thumbs("1")]
    with pytest.raises(DataError, match="no answer to learn from. Give answers to two prompts or more"):
        kto(run_in(tmp_path / "c"), made[0], dataset(tmp_path / "same", same))


def test_dpo_repeats_bit_by_bit(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    digests = {payload_digest(dpo(run_in(tmp_path / n), made[0], made[2], epochs=1, limit=4).path)[0] for n in "ab"}
    assert len(digests) == 1


def test_a_reward_model_weeds_out_doubtful_pairs(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    judge = reward(run_in(tmp_path / "judge"), made[0], made[2], epochs=4, lr=1e-3)
    swapped = [
        s.model_copy(update={"target": s.rejected, "rejected": s.target}) if n % 2 else s for n, s in enumerate(pairs())
    ]
    run = run_in(tmp_path / "run")
    aligned = dpo(run, made[0], dataset(tmp_path / "swapped", swapped), reward=judge, epochs=1, limit=4)
    assert aligned.about.extra["dpo"]["pairs"] in range(15, 22), watched(run).lines


def test_a_model_that_writes_is_no_judge(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="a reward model has one"):
        dpo(run_in(tmp_path), made[0], made[2], reward=made[0])


@pytest.mark.parametrize("function", [reward, dpo, kto, orpo, simpo])
def test_a_converted_model_is_not_trained(function: Any, made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    about = made[0].about.model_copy(update={"engine": "ctranslate2"})
    (tmp_path / "volant.json").write_text(about.model_dump_json())
    for file in made[0].path.glob("*token*"):
        shutil.copy(file, tmp_path)
    with pytest.raises(SettingError, match="ctranslate2"):
        function(run_in(tmp_path / "run"), Model(tmp_path), made[2])


def test_without_pairs(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pair"):
        dpo(run_in(tmp_path), *made[:2])


def test_the_task_metric_of_the_step_before_is_read_again(made: tuple[Model, Dataset, Dataset], tmp_path: Path) -> None:
    run = run_in(tmp_path / "first")
    check_task(run, open_model(made[0]), made[1])
    kept = json.loads((run.out / "validation.json").read_text())
    aligned = dpo(run_in(tmp_path / "second"), made[0], made[2], epochs=1)
    again = json.loads((aligned.path / "validation.json").read_text())
    assert {k: kept[k] for k in ("ids", "scorer", "metric")} == {k: again[k] for k in ("ids", "scorer", "metric")}


@pytest.mark.parametrize("function", [preferences, reward, dpo, kto, orpo, simpo])
def test_every_setting_is_documented(function: Any) -> None:
    method = method_of(function)
    assert set(method.fields) <= set(method.setting_docs)
    json.dumps(method.json_schema())
    torch.set_num_threads(1)


def test_the_likeliest_answer_may_be_among_those_that_are_ranked(tmp_path):
    from volant.stages.align.preferences import _requests

    run, asked = run_in(tmp_path), samples()[:3]
    heats = {
        wanted: [made.temperature for made in _requests(run, asked, 4, 8, None, 0.9, wanted).values()]
        for wanted in (True, False)
    }
    assert heats[True] == [0.0, 0.9, 0.9, 0.9] * 3
    assert heats[False] == [0.9] * 12


def test_pairs_that_are_held_out_are_not_denied_where_the_length_is_not_measured(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    state_lengths(run, [], [])
    assert watched(run).lines[-1].endswith("the validation split has no prompts with answers")
