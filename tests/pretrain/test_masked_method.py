"""Masked pre-training as a method: it finds hidden words, opens with transformers alone, and resumes bit by bit."""

from __future__ import annotations

import random

import pytest

from tiny_models import dataset, run_in
from volant.core.artifact import payload_digest
from volant.core.errors import ArtifactError
from volant.core.sample import Sample, Source, sample_id
from volant.engines.torch import engine
from volant.nets.masked import family, fill, mask_id
from volant.stages.pretrain import masked

SOURCE = Source(uri="test:", licence="CC0-1.0")
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
SMALL = {"depth": 1, "vocab": 300, "context": 32, "batch_tokens": 256, "tokens": 60_000, "checkpoint_tokens": 0}


def text(seed, split="train"):
    start = random.Random(seed).randrange(10)
    content = " ".join(WORDS[(start + i) % 10] for i in range(60))
    return Sample(
        id=sample_id(content, str(seed)), shape="text", source=SOURCE, content=content, split=split, group=str(seed)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked")
    data = dataset(folder / "data", [text(i) for i in range(40)] + [text(900 + i, "validation") for i in range(4)])
    run = run_in(folder / "run")
    return masked(run, data, **SMALL), run, data


def test_it_finds_hidden_words_and_says_how_many(made):
    _, run, _ = made
    scores = {s.of: s for s in run.watcher.scores if s.name == "masked_accuracy"}
    assert scores["model"].low > scores["baseline:commonest"].high
    assert scores["model"].value > 0.8


def test_the_budget_holds_where_the_data_are_shorter_than_a_step(made, tmp_path):
    run = run_in(tmp_path)
    few = masked(run, made[2], **{**SMALL, "tokens": 20_000, "batch_tokens": 100_000_000})
    (said,) = [line for line in run.watcher.lines if " parameters, " in line]
    steps, step_tokens = (int(word) for word in said.split() if word.isdigit())
    assert steps > 1 and 20_000 - step_tokens < few.about.extra["tokens"] == steps * step_tokens <= 20_000


def test_transformers_alone_fills_the_gap(made):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model, *_ = made
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    net = AutoModelForMaskedLM.from_pretrained(model.path)
    assert tokenizer.mask_token_id == mask_id(net)
    ids = tokenizer(
        " two three four <|mask|> six seven eight nine ten one two three four", return_tensors="pt"
    ).input_ids
    place = (ids[0] == tokenizer.mask_token_id).nonzero().flatten()
    assert tokenizer.decode(net(input_ids=ids).logits[0, place].argmax(-1)).strip() == "five"


def test_a_gap_is_filled_surest_first(made):
    model, *_ = made
    net = family.load(model.path)
    assert fill(net, [mask_id(net)] * 3, [0.1, 0.5, 0.9], 3, 0.0).count(mask_id(net)) == 0


def test_no_engine_writes_with_it(made):
    model, *_ = made
    with pytest.raises(ArtifactError, match="masked"):
        engine.open(model)


def test_the_same_seed_gives_the_same_bytes(made, tmp_path):
    model, _, data = made
    again = masked(run_in(tmp_path / "again"), data, **SMALL)
    assert payload_digest(again.path)[0] == payload_digest(model.path)[0]
