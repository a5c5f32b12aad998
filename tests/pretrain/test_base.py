"""Taking a base: a local transformers directory, a hosted service, and everything that is refused."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.outside import OutsideFile, Snapshot
from volant.core.protocols import Request
from volant.core.run import Run
from volant.engines import open_model
from volant.modalities import open_modality
from volant.stages.pretrain import base


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A tiny Llama as transformers and tokenizers save it, without anything of Volant's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=280, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["to be or not to be"], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=280, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_run(tmp_path, source=None):
    (tmp_path / "out").mkdir()
    run = Run(step="base", out=tmp_path / "out", work=tmp_path / "work", threads=1)
    if source is not None:
        files = [
            OutsideFile(
                p, p.relative_to(source).as_posix(), p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest()
            )
            for p in sorted(source.rglob("*"))
            if p.is_file()
        ]
        run.outside["source"] = Snapshot("hub", str(source), tuple(files), {"name": source.name, "local": True})
    return run


def copy(source, target, **config):
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    if config:
        body = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps({**body, **config}))
    return target


def test_a_local_directory_becomes_a_model_that_runs(llama, tmp_path):
    from transformers import AutoModelForCausalLM

    run = make_run(tmp_path, llama)
    model = base(run, source=str(llama))
    assert model.about.family == "transformer" and model.about.extra["architecture"] == "LlamaForCausalLM"
    assert model.about.parameters == sum(
        p.numel() for p in AutoModelForCausalLM.from_pretrained(model.path).parameters()
    )
    assert (model.path / "model.safetensors").read_bytes() == (llama / "model.safetensors").read_bytes()
    session = open_model(model)
    chunks = list(session.generate([Request(id="a", prompt="to be", max_tokens=5)]))
    assert chunks[-1].finish
    text = "".join(p.read_text(errors="ignore") for p in model.path.glob("*.json"))
    assert str(tmp_path) not in text and str(llama) not in text


THINKS = """
{%- for m in messages %}
    {%- set said = m.content.split('</think>')[-1].lstrip('\n') %}
    {%- set thought = m.content.split('</think>')[0].split('<think>')[-1].strip() if '</think>' in m.content else '' %}
    {%- set block = '<think>\n' ~ thought ~ '\n</think>\n\n' if m.role == 'assistant' and loop.last else '' %}
    {{- '<|' ~ m.role ~ '|>' ~ block ~ said ~ '</s>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}"""
"""Of the kind of Qwen3's: the last answer begins with a thought, an empty one where there is none."""


def test_of_a_template_that_can_think_the_answer_alone_is_learnt_and_served(llama, tmp_path):
    from transformers import AutoTokenizer

    thinker = copy(llama, tmp_path / "thinker")
    (thinker / "chat_template.jinja").write_text(THINKS)
    turns = [{"role": "user", "content": "to"}, {"role": "assistant", "content": "be"}]
    (tmp_path / "off").mkdir(), (tmp_path / "on").mkdir(), (tmp_path / "again").mkdir()
    off = base(run := make_run(tmp_path / "off", thinker), source=str(thinker))
    assert any("set not to" in line for line in run.watcher.lines)
    codec = open_modality("text").open_codec(off.path)
    for before in (turns[:1], [*turns, turns[0]]):
        asked = codec.encode_prompt(before)
        told = codec.encode_messages([*before, turns[1]])
        assert told.ids[: len(asked)] == asked and told.mask.index(True, len(asked) - 1) == len(asked)
        assert codec.tokenizer.decode(told.ids[len(asked) :], skip_special_tokens=False) == "be</s>"
    known = AutoTokenizer.from_pretrained(off.path)  # as anyone else opens it
    text = known.apply_chat_template(turns[:1], add_generation_prompt=True, tokenize=False)
    assert text == "<|user|>to</s><|assistant|><think>\n\n</think>\n\n"
    said = known.apply_chat_template(turns[:1], add_generation_prompt=True, tokenize=False, enable_thinking=True)
    assert said.endswith("<|assistant|>")
    on = base(make_run(tmp_path / "on", thinker), source=str(thinker), thinking=True)
    assert (on.path / "chat_template.jinja").read_text() == THINKS
    thought = [turns[0], {"role": "assistant", "content": "<think>why</think>be"}]
    counted = open_modality("text").open_codec(on.path)
    told = counted.encode_messages(thought)
    assert "why" in counted.decode([i for i, c in zip(told.ids, told.mask, strict=True) if c])
    with pytest.raises(DataError, match="hides an answer.*`thinking: true`"):
        codec.encode_messages(thought)
    again = base(make_run(tmp_path / "again", off.path), source=str(off.path))
    assert again.about.chat_template_sha256 == off.about.chat_template_sha256


def test_same_source_same_digest(llama, tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one, two = (base(make_run(tmp_path / n, llama), source=str(llama)) for n in "ab")
    assert one.digest == two.digest


def test_code_is_refused_and_never_run(llama, tmp_path):
    evil = copy(llama, tmp_path / "evil", auto_map={"AutoModelForCausalLM": "modeling.Evil"}, model_type="evil")
    canary = tmp_path / "canary"
    (evil / "modeling.py").write_text(f"open({str(canary)!r}, 'w')")
    with pytest.raises(ArtifactError, match="auto_map"):
        base(make_run(tmp_path, evil), source=str(evil))
    assert not canary.exists()


def test_a_pickle_is_refused_and_never_read(llama, tmp_path):
    pickled = copy(llama, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    (pickled / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    with pytest.raises(ArtifactError, match="pickle") as caught:
        base(make_run(tmp_path, pickled), source=str(pickled))
    assert str(pickled) in caught.value.where and "safetensors" in caught.value.fix


@pytest.mark.parametrize(
    ("missing", "says"), [("config.json", "no config.json"), ("tokenizer.json", "no tokenizer.json")]
)
def test_a_missing_file_is_named(llama, tmp_path, missing, says):
    part = copy(llama, tmp_path / "part")
    (part / missing).unlink()
    with pytest.raises(ArtifactError, match=says):
        base(make_run(tmp_path, part), source=str(part))


def test_a_tokenizer_of_another_model_is_refused(llama, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    other = copy(llama, tmp_path / "other")
    config = LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(other)
    with pytest.raises(ArtifactError, match="tokenizer knows 267 tokens and the model 100"):
        base(make_run(tmp_path, other), source=str(other))


def test_a_template_that_was_changed_beside_a_model_of_volant_s_own_is_refused(llama, tmp_path):
    other = copy(llama, tmp_path / "other")
    (other / "volant.json").write_text(json.dumps({"chat_template_sha256": "0" * 64}))
    with pytest.raises(ArtifactError, match=r"other: its chat template \(.*\) is not the one that it was trained with"):
        base(make_run(tmp_path, other), source=str(other))


def test_a_hosted_model_is_a_description(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "not-to-be-stored")
    model = base(make_run(tmp_path), source="big-model", address="http://127.0.0.1:9/v1", key_env="SOME_KEY")
    assert model.about.engine == "remote"
    assert model.about.extra["name"] == "big-model" and model.about.extra["key_env"] == "SOME_KEY"
    assert "not-to-be-stored" not in (model.path / "volant.json").read_text()
    open_model(model).close()


def test_an_address_with_a_password_is_refused(tmp_path):
    with pytest.raises(SettingError, match="password"):
        base(make_run(tmp_path), source="m", address="http://user:secret@host/v1")
