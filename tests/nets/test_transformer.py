"""The transformer family: size, loss, sampling, and a directory that transformers opens alone."""

from __future__ import annotations

import json

import pytest
import torch

from volant.core.errors import ArtifactError
from volant.core.protocols import Encoded, Grid, Tokens
from volant.nets import state
from volant.nets.batches import Batch, Padded
from volant.nets.optim import Optimisers
from volant.nets.transformer import family, size_of, token_loss

SPACE = Tokens(vocab=61, length=32)


@pytest.fixture(scope="module")
def net():
    torch.set_num_threads(1)
    return family.build(SPACE, seed=3, depth=2, width=64, heads=2)


def batch(seed=0, rows=4, length=16):
    return torch.randint(0, 61, (rows, length), generator=torch.Generator().manual_seed(seed))


def shaken(seed=3):
    """A network whose zero-initialised outputs have been moved, so that every weight matters."""
    made = family.build(SPACE, seed=seed, depth=2, width=64, heads=2)
    with torch.no_grad():
        torch.manual_seed(seed)
        for p in made.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return made


def test_parameters_are_those_that_the_size_promises():
    for depth in (1, 3):
        built = family.build(Tokens(100, 32), seed=0, depth=depth)
        assert sum(p.numel() for p in built.parameters()) == size_of(depth).parameters(100)


def test_same_seed_same_weights_and_callers_random_state_is_left_alone(net):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = family.build(SPACE, seed=3, depth=2, width=64, heads=2)
    other = family.build(SPACE, seed=4, depth=2, width=64, heads=2)
    assert torch.equal(before, torch.get_rng_state())
    digest = state.tensors_digest(dict(net.named_parameters()))
    assert digest == state.tensors_digest(dict(again.named_parameters()))
    assert digest != state.tensors_digest(dict(other.named_parameters()))


def test_loss_is_the_mean_of_minus_logp(net):
    made = shaken()
    ids = batch()
    assert torch.allclose(family.loss(made, ids), -family.logp(made, ids).mean(), atol=1e-5)


def test_overfits_one_batch():
    made = family.build(SPACE, seed=0, depth=2, width=64, heads=2)
    optimiser, ids = Optimisers(made, lr=0.01, muon_lr=0.02), batch(rows=2)
    first = float(family.loss(made, ids).detach())
    for _ in range(40):
        family.loss(made, ids).backward()
        optimiser.step(1.0)
        optimiser.zero()
    assert float(family.loss(made, ids).detach()) < 0.1 < 3.0 < first


def test_masked_and_padded_positions_do_not_count():
    made = shaken()
    long = Encoded(list(range(10)), [False] * 6 + [True] * 4)
    short = Encoded(list(range(20, 25)), [False] * 3 + [True] * 2)
    padded = Padded([long, short], length=32, rows=2, seed=0, pad=0).in_order()[0]
    both, n = token_loss(made, padded)
    assert n == 6
    alone = [token_loss(made, Padded([e], length=32, rows=1, seed=0, pad=0).in_order()[0])[0] for e in (long, short)]
    assert torch.allclose(both, alone[0] + alone[1], atol=1e-4)
    whole = -family.logp(made, torch.tensor([long.ids]))[0, 5:].sum()
    assert torch.allclose(alone[0], whole, atol=1e-4)


def test_loss_in_pieces_is_the_loss_in_one(monkeypatch):
    made = shaken()
    ids = Batch(batch(rows=8, length=32), torch.ones(8, 32, dtype=torch.bool))
    token_loss(made, ids)[0].backward()
    grads = {n: p.grad.clone() for n, p in made.named_parameters()}
    whole = token_loss(made, ids)[0]
    made.zero_grad()
    monkeypatch.setattr("volant.nets.transformer._LOGITS_BYTES", 4 * 61 * 70)
    pieces, _ = token_loss(made, ids)
    pieces.backward()
    assert torch.allclose(pieces, whole, rtol=1e-5)
    for name, p in made.named_parameters():
        assert torch.allclose(p.grad, grads[name], atol=1e-3), name


def test_sampling_is_seeded_and_greedy_agrees_with_transformers():
    made = shaken()
    prompts = [[1, 2, 3], [9]]
    assert family.sample(made, prompts, seed=5) == family.sample(made, prompts, seed=5)
    assert family.sample(made, prompts, seed=5) != family.sample(made, prompts, seed=6)
    greedy = family.sample(made, prompts, seed=0, temperature=0, max_tokens=12)
    for prompt, got in zip(prompts, greedy, strict=True):
        want = made.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=12, do_sample=False
        )
        assert want[0, len(prompt) :].tolist() == got


def test_saved_model_opens_with_transformers_alone_and_bit_exactly(tmp_path):
    from transformers import AutoModelForCausalLM

    made = shaken()
    family.save(made, tmp_path / "m")
    ids = batch()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    again = family.load(tmp_path / "m")
    assert torch.equal(plain(ids).logits, made(ids).logits)
    assert torch.equal(again(ids).logits, made(ids).logits)
    family.save(again, tmp_path / "n")
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "n" / name).read_bytes(), name
    assert str(tmp_path) not in (tmp_path / "n" / "config.json").read_text()


def test_refuses_code_pickles_and_other_spaces(tmp_path):
    made = family.build(SPACE, seed=0, depth=1)
    family.save(made, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.py"}}))
    with pytest.raises(ArtifactError, match="auto_map"):
        family.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="pickle"):
        family.load(tmp_path)
    with pytest.raises(ArtifactError, match="tokens"):
        family.build(Grid(1, (8, 8)), seed=0)


def test_a_cut_off_weights_file_is_a_readable_error(tmp_path):
    family.save(family.build(SPACE, seed=0, depth=1), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="cannot open"):
        family.load(tmp_path)


def test_missing_tensors_are_not_filled_with_random_numbers(tmp_path):
    from safetensors.torch import load_file, save_file

    family.save(family.build(SPACE, seed=0, depth=1), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"lack 1 tensors, model\.norm\.weight"):
        family.load(tmp_path)
