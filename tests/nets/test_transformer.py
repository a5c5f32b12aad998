"""The transformer family: size, loss, sampling, and a directory that transformers opens alone."""

from __future__ import annotations

import json

import pytest
import torch

from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.spaces import Encoded, Grid, Tokens
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
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ArtifactError, match="holds no mapping"):
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


# --- rows of a fixed length -------------------------------------------------------------------

RANGES = ((0, 1), (1, 6), (6, 9), (9, 30), (30, 32), (32, 61))


def row_logits(net, row, position):
    """The logits of the ids that a position allows, given what is before it, one row at a time and without a cache."""
    low, high = RANGES[position]
    return net(torch.tensor([row[:position]])).logits[0, -1, low:high].detach().double()


def test_rows_hold_only_what_each_position_allows_and_start_with_their_prompts():
    made = shaken()
    prompts = [[], [0], [0, 3], [0, 5, 8, 29]] * 20
    rows = family.sample(made, prompts, seed=1, ranges=RANGES)
    for prompt, row in zip(prompts, rows, strict=True):
        assert len(row) == len(RANGES) and row[: len(prompt)] == prompt
        assert all(low <= id < high for id, (low, high) in zip(row, RANGES, strict=True))
    assert len({tuple(r) for r in rows}) > 60
    assert not made.training or family.sample(made, [[]], seed=0, ranges=RANGES)


def test_rows_at_no_temperature_are_the_likeliest_of_the_plain_network():
    made = shaken()
    for row in family.sample(made, [[], [0, 4]], seed=0, temperature=0, ranges=RANGES):
        start = 1 if row[1] != 4 else 2
        for position in range(start, len(RANGES)):
            assert row[position] == RANGES[position][0] + int(row_logits(made, row, position).argmax())


def test_rows_come_as_often_as_the_softmax_over_the_allowed_ids_says():
    made = shaken()
    rows = family.sample(made, [[]] * 6000, seed=3, ranges=RANGES)
    for heat in (1.0, 0.5):
        rows = family.sample(made, [[]] * 6000, seed=3, ranges=RANGES, temperature=heat)
        want = (row_logits(made, rows[0], 1) / heat).softmax(-1)
        got = torch.bincount(torch.tensor([r[1] - 1 for r in rows]), minlength=5) / len(rows)
        assert torch.allclose(got.double(), want, atol=0.025)
        told = [r for r in rows if r[1] == rows[0][1]]
        want = (row_logits(made, rows[0], 2) / heat).softmax(-1)
        got = torch.bincount(torch.tensor([r[2] - 6 for r in told]), minlength=3) / len(told)
        assert torch.allclose(got.double(), want, atol=0.07)


def test_each_row_depends_on_its_own_seed_alone(monkeypatch):
    made = shaken()
    whole = family.sample(made, [[]] * 30, seed=0, seeds=range(30), ranges=RANGES)
    assert family.sample(made, [[], [], [0]], seed=9, seeds=[4, 29, 17], ranges=RANGES) == [
        whole[i] for i in (4, 29, 17)
    ]
    monkeypatch.setattr("volant.nets.rows._TOGETHER", 7)
    assert family.sample(made, [[]] * 30, seed=0, seeds=range(30), ranges=RANGES) == whole
    texts = family.sample(made, [[1], [2], [3]], seed=0, seeds=[5, 6, 7], max_tokens=9)
    assert family.sample(made, [[3]], seed=1, seeds=[7], max_tokens=9) == texts[2:]


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")
def test_rows_of_a_network_with_adapters_are_the_adapted_ones():
    from peft import LoraConfig, get_peft_model

    plain = shaken()
    before = family.sample(plain, [[]] * 8, seed=0, seeds=range(8), ranges=RANGES)
    targets = ["q_proj", "down_proj", "lm_head"]
    with_head = get_peft_model(shaken(), LoraConfig(r=2, target_modules=targets, ensure_weight_tying=False))
    assert family.sample(with_head, [[]] * 8, seed=0, seeds=range(8), ranges=RANGES) == before
    with torch.no_grad():
        for name, weight in with_head.named_parameters():
            if "lora_B" in name and "lm_head" in name:
                weight.normal_(0, 3)
    assert family.sample(with_head, [[]] * 8, seed=0, seeds=range(8), ranges=RANGES) != before


def test_prompts_that_no_row_starts_with_are_refused():
    made = shaken()
    for prompt, words in (
        ([0, 9], "position 1"),
        ([0, 1, 6, 9, 30, 32, 32], "7 ids does not fit"),
        ([5], "position 0"),
    ):
        with pytest.raises(DataError, match=words):
            family.sample(made, [prompt], seed=0, ranges=RANGES)
    with pytest.raises(DataError, match="nothing to start"):
        family.sample(made, [[]], seed=0, ranges=RANGES[1:])
    begun = family.build(SPACE, seed=0, depth=1, eos=60)
    rows = family.sample(begun, [[], [3]], seed=0, ranges=RANGES[1:])
    assert len(rows) == 2 and rows[1][0] == 3 and all(1 <= r[0] < 6 for r in rows)
    assert family.sample(made, [], seed=0, ranges=RANGES) == []


def test_thousands_of_rows_are_drawn():
    made = family.build(Tokens(500, 30), seed=0, depth=3, width=96)
    ranges = ((0, 1), *((1 + 17 * i, 18 + 17 * i) for i in range(29)))
    assert len(family.sample(made, [[]] * 2000, seed=0, ranges=ranges)) == 2000


def test_rows_are_learnt_and_the_recipe_fits_the_loop(tmp_path):
    from volant.core.run import Run
    from volant.nets.loop import Recipe, train

    rng = torch.Generator().manual_seed(0)
    first = torch.randint(0, 5, (400,), generator=rng)
    rows = [[0, 1 + int(a), 6 + int(a) % 3, 9 + int(a), 30 + int(a) % 2, 32 + int(a)] for a in first]
    batches = Padded([Encoded(r, [False] + [True] * 5) for r in rows], length=6, rows=64, seed=0, pad=0)
    assert batches.batch(0).ids.shape == (64, 6) and batches.batch(0).real is None
    net = family.build(Tokens(61, 6), seed=0, depth=2, width=64)
    recipe = Recipe(**family.recipe(SPACE, steps=60, batch=64), checkpoint_every=0)
    train(Run(step="t", out=tmp_path, work=tmp_path), net, batches, recipe, validation=batches.in_order()[:2])
    made = family.sample(net, [[]] * 200, seed=0, ranges=RANGES)
    assert sum(r in rows for r in made) > 190
    assert {r[1] for r in made} == {1, 2, 3, 4, 5}


def test_ids_are_hidden_while_rows_are_learnt_and_the_targets_stay():
    made, rows = shaken(), Batch(batch(rows=16), torch.ones(16, 16, dtype=torch.bool))
    plain, count = token_loss(made, rows)
    assert torch.equal(family.step_loss(made.eval(), rows)[0], plain)
    torch.manual_seed(0)
    hidden, same = family.step_loss(made.train(), rows)
    torch.manual_seed(0)
    assert same == count and torch.equal(family.step_loss(made, rows)[0], hidden) and hidden != plain
    torch.manual_seed(0)
    gone = torch.rand(16, 1) * 0.2
    seen = torch.where(torch.rand(16, 16) < gone, rows.ids[:, :1], rows.ids)
    wanted = made(seen).logits[:, :-1].transpose(1, 2)
    assert torch.allclose(hidden, torch.nn.functional.cross_entropy(wanted, rows.ids[:, 1:], reduction="sum"))
    assert 0.05 < (seen != rows.ids).float().mean() < 0.15


def test_a_width_sets_its_heads_and_one_that_does_not_divide_is_refused():
    assert family.build(SPACE, seed=0, depth=1, width=96).config.num_attention_heads == 3
    with pytest.raises(SettingError, match="width of 50"):
        family.build(SPACE, seed=0, depth=1, width=50, heads=3)
