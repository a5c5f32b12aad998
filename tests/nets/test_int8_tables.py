"""Embedding and head in 8 bits: the numbers, the gradient, what is shared, the bytes, and the way back."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PhiConfig, PhiForCausalLM, Qwen3Config, Qwen3ForCausalLM

from volant.nets import int8, int8_tables, memory, nf4, watching
from volant.nets.transformer import family
from volant.stages.finetune import adapters

VOCAB, WIDTH = 300, 64
IDS = torch.arange(24).view(2, 12) * 11 % VOCAB


def qwen3(tied):
    shape = {"vocab_size": VOCAB, "hidden_size": WIDTH, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": tied}
    return Qwen3ForCausalLM(Qwen3Config(**shape, **heads, max_position_embeddings=64))


def gpt2():
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCAB, n_embd=WIDTH, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    )


def phi():
    shape = {"vocab_size": VOCAB, "hidden_size": WIDTH, "intermediate_size": 128, "num_hidden_layers": 1}
    net = PhiForCausalLM(PhiConfig(**shape, num_attention_heads=2, max_position_embeddings=64))
    nn.init.normal_(net.lm_head.bias)
    return net


FAMILIES = {"tied": lambda: qwen3(True), "untied": lambda: qwen3(False), "gpt2": gpt2, "biased": phi}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("piece", [4 * WIDTH * 70, 2**24])
def test_the_head_and_its_gradient_are_those_of_the_floats_that_the_bits_stand_for(monkeypatch, bias, piece):
    monkeypatch.setattr(int8_tables, "_PIECE_BYTES", piece)
    plain = nn.Linear(WIDTH, VOCAB, bias=bias)
    numbers, scale = int8.by_row(plain.weight.detach())
    floats = numbers.double() * scale.double()[:, None]
    assert (floats - plain.weight).abs().amax(1).le(scale / 2 * 1.001).all()
    own = None if plain.bias is None else plain.bias.detach().double()
    head = int8_tables.Head(plain)
    hidden = torch.randn(2, 5, WIDTH, requires_grad=True)
    wanted_by = hidden.detach().double().requires_grad_()
    wanted = nn.functional.linear(wanted_by, floats, own)
    back = torch.randn(2, 5, VOCAB)
    got = head(hidden)
    got.backward(back)
    wanted.backward(back.double())
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hidden.grad.double(), wanted_by.grad, rtol=1e-5, atol=1e-5)


def test_floats_of_the_whole_table_are_never_made(monkeypatch):
    monkeypatch.setattr(int8_tables, "_PIECE_BYTES", 4 * WIDTH * 70)
    seen = []
    real = int8.of_rows
    monkeypatch.setattr(int8, "of_rows", lambda n, s: seen.append(n.shape) or real(n, s))
    net = qwen3(True)
    int8_tables.hold(net)
    net.requires_grad_(False)
    assert not any(p.shape == (VOCAB, WIDTH) and p.is_floating_point() for p in net.parameters())
    embedded = net.get_input_embeddings()(IDS).requires_grad_()
    net(inputs_embeds=embedded).logits.sum().backward()
    assert embedded.grad.abs().sum() > 0
    assert seen[0] == (*IDS.shape, WIDTH) and len(seen) == 1 + 2 * 5 and max(s[0] for s in seen) == 70


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_base_of_any_family_trains_over_bits_and_is_saved_as_those_bits_say(kind, tmp_path):
    pytest.importorskip("bitsandbytes")
    net = FAMILIES[kind]().eval()
    embedding, head = int8_tables.tables(net)
    tied, whole = embedding.weight is head.weight, nf4.weight_bytes(net)
    rest = sum(p.nbytes for n, p in net.named_parameters() if p.ndim == 1 or "wpe" in n)
    matrices = sum(
        p.numel() for n, p in net.named_parameters() if p.ndim == 2 and p.size(0) != VOCAB and "wpe" not in n
    )
    stood = [int8.of_rows(*int8.by_row(layer.weight.detach())) for layer in (embedding, head)]
    planned = memory.ways(net, tokens=64, counted=64)
    assert watching.flops_a_token(net) == 6 * sum(p.numel() for p in net.parameters())
    frozen = 4 * sum(p.numel() for p in net.parameters())
    nf4.quantise(net)
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert watching.flops_a_token(net) == pytest.approx(frozen + 2 * trained, rel=0.05)  # two numbers lie in a byte
    tables = (1 if tied else 2) * VOCAB * (WIDTH + 4)
    freed = whole - nf4.weight_bytes(net)
    assert planned["lora"] - planned["qlora"] == pytest.approx(freed, rel=0.03)
    # Blocks of 64 numbers share a byte, and 256 of them a float, where a matrix has as many.
    assert tables + rest + matrices / 2 < nf4.weight_bytes(net) < tables + rest + matrices * 0.53
    assert nf4.weight_bytes(net) < whole / 4 or kind == "gpt2"  # half of which is learned positions here
    adapted = adapters._adapted(net, adapters.config_of("lora", 4, 0.0, 0.0, "all-linear"))
    assert {type(layer) for layer in int8_tables.tables(adapted)} == {int8_tables.Embedding, int8_tables.Head}
    assert list(memory.ways(adapted, tokens=64, counted=64)) == ["qlora"]
    adapted.train()(input_ids=IDS, labels=IDS).loss.backward()
    learnt = [p for p in adapted.parameters() if p.requires_grad]
    assert learnt and all(p.grad is not None for p in learnt)
    with torch.no_grad():
        for weight in learnt:
            weight.normal_(std=0.05)
        wanted = adapted.eval()(input_ids=IDS).logits
    family.save(nf4.merged(adapted), tmp_path)
    again = family.load(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=IDS).logits, wanted, rtol=1e-4, atol=1e-5)
    after = int8_tables.tables(again)
    assert (after[0].weight is after[1].weight) is tied
    assert all(torch.equal(layer.weight, floats) for layer, floats in zip(after, stood, strict=True))


def test_a_table_stays_in_floats_where_an_adapter_or_an_unknown_layer_needs_it():
    config = adapters.config_of("lora", 4, 0.0, 0.0, ["q_proj", "lm_head"])
    for tied, kinds in ((True, (nn.Embedding, nn.Linear)), (False, (int8_tables.Embedding, nn.Linear))):
        net = qwen3(tied)
        int8_tables.hold(net, but=lambda name: adapters._targeted(config, name))
        assert tuple(type(layer) for layer in int8_tables.tables(net)) == kinds
    net.set_output_embeddings(nn.Identity())
    int8_tables.hold(net)
    assert isinstance(net.get_output_embeddings(), nn.Identity)


def test_an_embedding_that_scales_still_does():
    from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

    net = qwen3(False)
    net.set_input_embeddings(Gemma3TextScaledWordEmbedding(VOCAB, WIDTH, 0, embed_scale=8.0))
    wanted = net.get_input_embeddings()(IDS)
    int8_tables.hold(net)
    small = net.get_input_embeddings()
    assert isinstance(small, int8_tables.Embedding)
    assert (small(IDS) - wanted).abs().max() <= 8 * small.scale_V.max() / 2 * 1.001


def test_a_broken_row_is_still_broken():
    net = qwen3(True)
    with torch.no_grad():
        net.lm_head.weight[7, 3] = float("nan")
    int8_tables.hold(net)
    assert [n for n, p in net.named_parameters() if p.is_floating_point() and not p.isfinite().all()]
    assert net.get_input_embeddings()(torch.tensor([[7]])).isnan().all()
