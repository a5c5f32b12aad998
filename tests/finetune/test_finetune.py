"""Fine-tuning: what counts in the loss, that it helps, that adapters and merged weights are one model."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from volant.core.artifact import Dataset, Model
from volant.core.errors import ArtifactError, DataError, GateRefused, MachineError, MissingPackage, SettingError
from volant.core.run import Run
from volant.core.sample import Sample, Source, sample_id
from volant.modalities import open_modality
from volant.modalities.text_codec import masked_preview
from volant.nets.batches import fit
from volant.stages.finetune import adapters, full, lora, qlora
from volant.stages.pretrain import transformer
from volant.store.dataset import writer

SOURCE = Source(uri="test:", licence="CC0-1.0")
ANIMALS = ["cat", "dog", "cow", "pig", "hen", "fox", "owl", "bee", "ant", "elk"]


def pairs(n, split, says="says"):
    for i in range(n):
        animal, number = ANIMALS[i % 10], i // 10
        prompt = f"what {says} the {animal} number {number} ?"
        answer = f"{animal[::-1]} {animal[::-1]}"
        yield Sample(
            id=sample_id(prompt, split), shape="completion", source=SOURCE, condition=prompt, target=answer, split=split
        )


def texts(n, split):
    for i in range(n):
        content = " ".join(f"the {ANIMALS[(i * 7 + j) % 10]} sees the {ANIMALS[(i + j * 3) % 10]} ." for j in range(30))
        yield Sample(id=sample_id(content, split), shape="text", source=SOURCE, content=content, split=split)


def dataset(folder, *samples):
    folder.mkdir()
    with writer(folder) as out:
        for some in samples:
            out.write_all(some)
    return Dataset(folder)


def make_run(folder, **more):
    (folder / "out").mkdir(parents=True, exist_ok=True)
    return Run(step="tuned", out=folder / "out", work=folder / "work", threads=1, **more)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return dataset(folder / "d", pairs(60, "train"), pairs(12, "validation", "said"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    corpus = dataset(folder / "corpus", texts(40, "train"), texts(4, "validation"))
    return transformer(make_run(folder), corpus, depth=1, tokens=4000, vocab=300, context=64, batch_tokens=256)


def scores(run):
    return {s.name: s for s in run.watcher.scores if s.of == "model"}


def test_full_learns_the_task_and_leaves_its_input_alone(model, data, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    before = model.digest
    run = make_run(tmp_path)
    tuned = full(run, model, data, steps=40, lr=0.01)
    found = scores(run)
    change = next(s for s in run.watcher.scores if s.name == "bits_per_byte_change")
    assert change.high < 0 and found["bits_per_byte"].value < 2.0
    assert found["relevance"].value >= 0
    assert model.digest == before != tuned.digest
    assert (tuned.path / "validation.json").is_file()
    AutoTokenizer.from_pretrained(tuned.path)
    AutoModelForCausalLM.from_pretrained(tuned.path)
    losses = [v for n, v, _ in run.watcher.metrics if n == "loss"]
    assert losses[-1] < losses[0] / 2


def test_three_examples_are_shown_with_their_mask(model, data, tmp_path):
    run = make_run(tmp_path)
    lora(run, model, data, steps=1)
    shown = [line for line in run.watcher.lines if line.startswith("example ")]
    assert len(shown) == 3
    assert all("[[" in line and "what says the" not in line.split("[[", 2)[2] for line in shown)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_lora_adapter_and_merged_weights_are_one_model(model, data, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = make_run(tmp_path)
    tuned = lora(run, model, data, steps=20, rank=4, lr=0.01)
    assert scores(run)["merge_difference"].value < 1e-3 and scores(run)["adapter_difference"].value < 1e-4
    whole = full(make_run(tmp_path / "whole"), tuned, data, steps=1).about.extra
    assert tuned.about.extra["rank"] == 4 and whole["tuned"] == "full" and not {"rank", "base"} & set(whole)
    carried = open_modality("text").open_codec(tuned.path / "adapter")
    assert carried.template_sha256 == tuned.about.chat_template_sha256 != ""
    template = tuned.path / "adapter" / "chat_template.jinja"
    was = template.read_text()
    template.write_text(was + "changed")
    with pytest.raises(ArtifactError, match="its chat template"):
        open_modality("text").open_codec(tuned.path / "adapter")
    template.write_text(was)
    assert next(s for s in run.watcher.scores if s.name == "bits_per_byte_change").high < 0
    ids = torch.arange(10, 40)[None]
    base = AutoModelForCausalLM.from_pretrained(model.path)
    plain = base(ids).logits.detach().clone()
    beside = PeftModel.from_pretrained(base, tuned.path / "adapter")(ids).logits
    merged = AutoModelForCausalLM.from_pretrained(tuned.path)(ids).logits
    assert torch.allclose(beside, merged, atol=1e-3) and not torch.allclose(plain, merged, atol=1e-1)
    config = (tuned.path / "adapter" / "adapter_config.json").read_text()
    assert json.loads(config)["base_model_name_or_path"] == "" and str(tmp_path) not in config
    payload = "".join(p.read_text() for p in tuned.path.rglob("*.json"))
    assert str(tmp_path) not in payload and str(model.path) not in payload


def test_an_adapter_that_is_not_saved_as_it_was_trained_is_refused(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr("volant.stages.finetune.adapters._beside", lambda net, *_: net.eval())  # a file of nothing
    with pytest.raises(GateRefused, match="the logits of the adapter as saved differ by"):
        lora(make_run(tmp_path), model, data, steps=20, rank=4, lr=0.01)


def test_an_adapter_of_weights_that_two_layers_share_is_refused_before_training(model, data, tmp_path):
    run = make_run(tmp_path)
    with pytest.raises(SettingError, match=r"lm_head, whose weights are those of model\.embed_tokens") as caught:
        lora(run, model, data, targets="q_proj,lm_head")
    assert "finetune.full" in caught.value.fix and not (tmp_path / "work").exists()


@pytest.mark.parametrize(("target", "said"), [("q_prj", "Did you mean 'q_proj'"), ("mlp", "Known: .*up_proj")])
def test_an_adapter_of_a_layer_that_is_not_there_is_refused_before_the_data_is_prepared(
    model, data, tmp_path, target, said
):
    with pytest.raises(SettingError, match=f"names '{target}', and no layer is called so. {said}"):
        lora(make_run(tmp_path), model, data, targets=f"v_proj,{target}")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("variant", ["loha", "lokr"])
def test_adapters_that_there_are_not_for_a_layer_are_refused_with_a_way_out(variant):
    from transformers import GPT2Config, GPT2LMHeadModel

    net = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=2, n_positions=16))
    with pytest.raises(SettingError, match="adapters of this kind cannot be put in: .*Conv1D") as caught:
        adapters._adapted(net, adapters.config_of(variant, 4, 0.0, 0.0, "all-linear"))
    assert "Leave it out" in caught.value.fix


@pytest.mark.parametrize("variant", ["rslora", "dora", "loha", "lokr"])
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_other_adapters_learn_and_open_with_peft(model, data, tmp_path, variant):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = make_run(tmp_path)
    tuned = lora(run, model, data, steps=20, rank=4, lr=0.01, variant=variant)
    assert next(s for s in run.watcher.scores if s.name == "bits_per_byte_change").high < 0
    ids = torch.arange(10, 40)[None]
    base = AutoModelForCausalLM.from_pretrained(model.path)
    beside = PeftModel.from_pretrained(base, tuned.path / "adapter")(ids).logits
    merged = AutoModelForCausalLM.from_pretrained(tuned.path)(ids).logits
    assert torch.allclose(beside, merged, atol=1e-3) and tuned.about.extra["tuned"] == variant


@pytest.mark.parametrize(("variant", "moments"), [("lora", {"momentum"}), ("lokr", {"exp_avg", "exp_avg_sq"})])
def test_the_two_matrices_of_lora_learn_by_muon_with_one_moment(model, data, tmp_path, variant, moments, monkeypatch):
    from safetensors.torch import load_file

    from volant.nets.optim import Optimisers

    step, held = Optimisers.step, []

    def watched(self, factor):
        step(self, factor)
        held.append({name: t for name, t in self.tensors().items() if t.ndim})

    monkeypatch.setattr(Optimisers, "step", watched)
    tuned = lora(make_run(tmp_path), model, data, steps=1, variant=variant)
    learnt = sum(t.numel() for t in load_file(tuned.path / "adapter" / "adapter_model.safetensors").values())
    assert {name.rpartition(".")[2] for name in held[0]} == moments
    assert sum(t.numel() for t in held[0].values()) == len(moments) * learnt
    assert variant == "lokr" or tuned.about.extra["rank"] == 12


def test_qlora_trains_over_four_bits_and_saves_what_it_trained(model, data, tmp_path):
    run = make_run(tmp_path)
    tuned = qlora(run, model, data, steps=20, rank=4, lr=0.01)
    assert scores(run)["merge_difference"].value < 1e-3 and scores(run)["adapter_difference"].value < 1e-4
    assert next(s for s in run.watcher.scores if s.name == "bits_per_byte_change").high < 0
    from transformers import AutoModelForCausalLM

    before, after = (AutoModelForCausalLM.from_pretrained(m.path).state_dict() for m in (model, tuned))
    same = {n for n in before if torch.equal(before[n], after[n])}
    assert all("proj" not in n for n in same) and any("norm" in n for n in same)
    assert tuned.about.extra["tuned"] == "qlora" and (tuned.path / "adapter" / "adapter_model.safetensors").is_file()


def test_what_is_forgotten_is_measured_and_said(model, data, tmp_path):
    known = dataset(tmp_path / "known", texts(4, "train"), texts(12, "validation"))
    run = make_run(tmp_path / "hard")
    full(run, model, data, steps=40, lr=0.01, retain=known)
    change = next(s for s in run.watcher.scores if s.name == "retention_change")
    assert change.low > 0 and change.n == 12  # a rate that high drives out what was there
    assert any("WARNING: it forgets" in line for line in run.watcher.lines)
    with pytest.raises(DataError, match="forgetting cannot be measured"):
        full(make_run(tmp_path / "none"), model, data, steps=1, retain=dataset(tmp_path / "t", texts(4, "train")))


@pytest.mark.parametrize(("lr", "faded"), [(0.02, True), (1e-5, False)])
def test_without_other_data_what_the_base_writes_itself_says_how_much_is_forgotten(model, data, tmp_path, lr, faded):
    run = make_run(tmp_path)
    full(run, model, data, steps=30, lr=lr)
    change = next(s for s in run.watcher.scores if s.name == "retention_change")
    assert 16 < change.n <= 32 and (change.value > 0.2 if faded else abs(change.value) < 0.2)
    assert any(line.startswith("what the base wrote itself, in bits per byte") for line in run.watcher.lines)
    assert faded == any("WARNING: it forgets" in line for line in run.watcher.lines)


def test_adapters_that_forget_are_not_told_to_use_adapters(model, data, tmp_path):
    run = make_run(tmp_path)
    lora(run, model, data, steps=40, lr=0.5, patience=0)
    (said,) = [line for line in run.watcher.lines if "WARNING: it forgets" in line]
    assert "lower `lr`" in said and "finetune.lora" not in said


def test_without_bitsandbytes_qlora_says_what_to_install(model, data, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(MissingPackage, match=r"volant\[qlora\]"):
        qlora(make_run(tmp_path), model, data, steps=1)


@pytest.mark.parametrize("method", [full, lora, qlora])
def test_same_seed_same_digest_other_seed_another(model, data, tmp_path, method):
    digests = [
        method(make_run(tmp_path / str(i), seed=seed), model, data, steps=3).digest for i, seed in enumerate((1, 1, 2))
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("method", [full, lora, qlora])
def test_a_kill_resumes_to_the_same_digest(model, data, tmp_path, method, monkeypatch):
    from volant.nets import loop

    more = {"dropout": 0.1} if method is lora else {}
    whole = method(make_run(tmp_path / "whole"), model, data, steps=14, **more)
    step = loop._Training._one_step

    def deadly(self):
        if self.step == 12:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Training, "_one_step", deadly)
        with pytest.raises(KeyboardInterrupt):
            method(make_run(tmp_path / "cut"), model, data, steps=14, **more)
    run = make_run(tmp_path / "cut")
    for left in run.out.iterdir():
        left.unlink()
    again = method(run, model, data, steps=14, **more)
    assert any("carrying on from the checkpoint at step 10" in line for line in run.watcher.lines)
    assert again.digest == whole.digest


def test_answers_that_are_all_masked_stop_with_the_reason(model, tmp_path):
    empty = [
        Sample(
            id=str(i),
            shape="messages",
            source=SOURCE,
            content=json.dumps([{"role": "user", "content": f"what says the cow {i}"}]),
        )
        for i in range(4)
    ]
    data = dataset(tmp_path / "d", empty)
    with pytest.raises(DataError, match="loss mask of all 4 examples is empty"):
        lora(make_run(tmp_path), model, data, steps=1)
    assert not list((tmp_path / "out").iterdir())


def test_text_alone_is_refused_with_a_mend(model, tmp_path):
    data = dataset(tmp_path / "d", texts(3, "train"))
    with pytest.raises(DataError, match="no prompts with answers"):
        full(make_run(tmp_path), model, data)


def test_without_a_validation_split_it_trains_and_says_so(model, tmp_path):
    run = make_run(tmp_path)
    lora(run, model, dataset(tmp_path / "d", pairs(1, "train")), steps=2)
    assert any("no validation split" in line for line in run.watcher.lines)
    assert "bits_per_byte" not in scores(run)


def test_too_little_memory_is_said_before_training_and_the_way_that_fits_is_named(model, data, tmp_path, monkeypatch):
    from volant.nets import memory
    from volant.nets.transformer import family

    needed = memory.ways(family.load(model.path), tokens=512, counted=512)
    assert needed["full"] > needed["lora"] > needed["qlora"] > 0
    run = make_run(tmp_path)
    lora(run, model, data, steps=1)
    assert any(line.startswith("memory: lora takes about") and "finetune.qlora" in line for line in run.watcher.lines)
    for free, fits in ((needed["lora"], "Use `finetune.lora`, which fits"), (1000, "Nothing fits")):
        monkeypatch.setattr("volant.nets.memory.free_bytes", lambda device, free=free: free)
        monkeypatch.setattr("volant.nets.memory.ways", lambda *a, **k: needed)
        with pytest.raises(MachineError, match=rf"(?s)finetune\.lora about .* {fits}"):
            full(make_run(tmp_path / str(free)), model, data, steps=1)
        assert not (tmp_path / str(free) / "work").exists()


def test_memory_is_planned_for_the_step_of_the_longest_example(model, data, tmp_path, monkeypatch):
    asked = []

    def planned(run, net, **sizes):
        asked.append(sizes)
        return "memory: enough"

    monkeypatch.setattr("volant.nets.memory.check_ways", planned)
    short = [Sample(id=str(i), shape="completion", source=SOURCE, condition=f"{i}", target="a") for i in range(40)]
    one_long = Sample(id="long", shape="completion", source=SOURCE, condition="long", target="a" + " the cat" * 30)
    for number, samples in enumerate((short, [*short, one_long])):
        chosen = dataset(tmp_path / f"d{number}", samples)
        full(make_run(tmp_path / str(number)), model, chosen, steps=1, batch=16)
    assert [a["row"] for a in asked] == [32, 64] and [a["tokens"] for a in asked] == [16 * 32, 16 * 64]


def test_a_merge_that_changes_the_model_is_refused(model, data, tmp_path, monkeypatch):
    from volant.nets.transformer import Transformer

    load = Transformer.load

    def spoilt(self, folder, **more):
        net = load(self, folder, **more)
        if folder == tmp_path / "out":
            with torch.no_grad():
                net.model.norm.weight.mul_(1.5)
        return net

    monkeypatch.setattr(Transformer, "load", spoilt)
    with pytest.raises(GateRefused, match="logits of the merged weights as saved differ"):
        lora(make_run(tmp_path), model, data, steps=1)


def test_a_hosted_model_is_refused(data, tmp_path):
    (tmp_path / "volant.json").write_text(json.dumps({"family": "remote", "modality": "text", "engine": "remote"}))
    with pytest.raises(ArtifactError, match="'remote' cannot be fine-tuned"):
        full(make_run(tmp_path), Model(tmp_path), data)


def test_a_changed_chat_template_is_refused_wherever_the_model_is_opened(model, data, tmp_path):
    from volant.engines import open_model
    from volant.stages.align import grpo, preferences
    from volant.stages.compress import quantise
    from volant.stages.prompt import few_shot

    (tmp_path / "changed").mkdir()
    for file in model.path.iterdir():
        if file.is_file():
            (tmp_path / "changed" / file.name).write_bytes(file.read_bytes())
    template = tmp_path / "changed" / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    changed = Model(tmp_path / "changed")
    for number, opens in enumerate((
        lambda run: full(run, changed, data),
        lambda run: lora(run, changed, data),
        lambda run: grpo(run, changed, data, scorers=["relevance"], steps=1),
        lambda run: preferences(run, changed, data, prompts=4, scorers=["relevance"]),
        lambda run: few_shot(run, changed, data),
        lambda run: quantise(run, changed, data),
        lambda run: open_model(changed),  # what serving opens
    )):  # fmt: skip
        run = make_run(tmp_path / str(number))
        run.outside["ratings"] = None
        with pytest.raises(ArtifactError, match=r"chat template \([0-9a-f]{12}\) is not the one .*volant verify"):
            opens(run)


def test_the_template_travels_by_its_hash(model, data, tmp_path):
    from volant.modalities import open_modality
    from volant.stages.compress import quantise

    said = model.about.chat_template_sha256
    tuned = lora(make_run(tmp_path / "tuned"), model, data, steps=1)
    small = quantise(make_run(tmp_path / "small"), tuned, data)
    for made in (model, tuned, small):
        codec = open_modality("text").open_codec(made.path)
        assert made.about.chat_template_sha256 == said == codec.template_sha256 and len(said) == 64


def test_data_that_went_through_a_template_already_is_refused(model, tmp_path):
    made = [s.model_copy(update={"condition": f"<|im_start|>user\n{s.condition}<|im_end|>"}) for s in pairs(8, "train")]
    with pytest.raises(DataError, match=r"8 of 8 samples hold '<\|im_(start|end)\|>'.*as they are"):
        lora(make_run(tmp_path), model, dataset(tmp_path / "d", made), steps=1)


def test_a_vocabulary_that_does_not_match_is_refused(model, data, tmp_path):
    for file in model.path.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] - 8}))
    with pytest.raises(ArtifactError, match=r"the tokenizer knows \d+ tokens and the model \d+"):
        lora(make_run(tmp_path), Model(tmp_path), data)


@pytest.mark.parametrize("method", [full, lora])
def test_a_base_whose_weights_are_no_numbers_is_refused(model, data, tmp_path, method):
    damaged = tmp_path / "damaged"
    shutil.copytree(model.path, damaged)
    weights = load_file(damaged / "model.safetensors")
    name = next(n for n in weights if n.endswith("norm.weight"))
    weights[name][0] = float("nan")
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match="not all numbers: .*norm.weight") as caught:
        method(make_run(tmp_path / "run"), Model(damaged), data)
    assert caught.value.where == "tuned" and "Take another base" in caught.value.fix


def chats(n, split, turns):
    for i in range(n):
        said = [turn for j in range(turns) for turn in (
            {"role": "user", "content": f"the {ANIMALS[(i + j) % 10]} ?"},
            {"role": "assistant", "content": ANIMALS[(i + j) % 10][::-1]},
        )]  # fmt: skip
        yield Sample(id=f"{split}{i}", shape="messages", source=SOURCE, content=json.dumps(said), split=split)


def test_a_chat_that_is_too_long_is_told_to_lose_its_last_answers_and_shown_as_it_is_learnt(model, tmp_path):
    codec = open_modality("text").open_codec(model.path)
    long, short = list(chats(4, "train", 8)), [s.model_copy(update={"id": f"s{s.id}"}) for s in chats(1, "train", 1)]
    assert all(len(codec.encode(sample).ids) > 64 for sample in long)
    run = make_run(tmp_path)
    full(run, model, dataset(tmp_path / "d", long, short), steps=1)
    told = "4 of 5 examples are over 64 tokens: of 0 the prompt is shortened in the middle, of 4 the answers are cut"
    assert any(line.startswith(told) for line in run.watcher.lines)
    assert any(line.startswith("WARNING: most examples lose the end of") for line in run.watcher.lines)
    shown = [line for line in run.watcher.lines if line.startswith("example ")]
    assert len(shown) == 3
    uncut = [str(masked_preview(codec, codec.encode(sample))) for sample in long]
    assert not any(text in line for text in uncut for line in shown)
    learnt = [str(masked_preview(codec, fit(codec.encode(sample), 64))) for sample in long]
    assert any(line.endswith(text) for text in learnt for line in shown)


def test_a_long_prompt_is_told_to_lose_its_middle(model, tmp_path):
    asked = [s.model_copy(update={"condition": f"{s.condition} " * 8}) for s in pairs(6, "train")]
    run = make_run(tmp_path)
    full(run, model, dataset(tmp_path / "d", asked), steps=1)
    told = "6 of 6 examples are over 64 tokens: of 6 the prompt is shortened in the middle, of 0 the answers are cut"
    assert any(line.startswith(told) for line in run.watcher.lines)
    assert not any("most examples lose" in line for line in run.watcher.lines)


@pytest.mark.parametrize("method", [full, lora])
def test_a_context_without_room_is_refused(model, data, tmp_path, method):
    with pytest.raises(SettingError, match="a `context` of 15 tokens has no room") as caught:
        method(make_run(tmp_path), model, data, context=15, steps=1)
    assert "16 or more" in caught.value.fix
    method(make_run(tmp_path / "least"), model, data, context=16, steps=1)


def test_fewer_examples_than_a_step_takes_is_said(model, tmp_path):
    run = make_run(tmp_path)
    lora(run, model, dataset(tmp_path / "d", pairs(3, "train")), steps=1)
    assert any("examples: 3, fewer than the 16 of a step" in line for line in run.watcher.lines)
    said = r"steps: 1 of up to 3 examples, rate [\d.]+ \([\d.]+ by Muon, which is shown\)$"
    assert any(re.search(said, line) for line in run.watcher.lines), (
        "what a step takes, and the rate that the bar shows"
    )


def test_packed_examples_are_learnt_as_well(model, data, tmp_path):
    run = make_run(tmp_path)
    tuned = lora(run, model, data, steps=30, lr=0.01, pack=True)
    change = next(s for s in run.watcher.scores if s.name == "bits_per_byte_change")
    assert change.high < 0 and tuned.about.extra["steps"] == 30
    assert any(line.startswith("packed: up to 16 examples in ") for line in run.watcher.lines)
