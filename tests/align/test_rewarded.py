"""GRPO, RLOO and PPO: formulas by hand, draws that follow their seeds, and a reward that rises."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_models import SOURCE, dataset, model, pairs, run_in, samples, watched
from volant.core.artifact import Model
from volant.core.errors import ArtifactError, DataError, MachineError, SettingError
from volant.modalities import open_modality
from volant.modalities.text_shapes import record_of, sample_of
from volant.nets import loop
from volant.nets.healthy import RANGES, Watch
from volant.nets.policy import Asked, Critic, Questions, advantages, estimated, flat
from volant.nets.rollout import roll, token_logp
from volant.nets.transformer import family
from volant.scorers import sandbox
from volant.stages.align import grpo, ppo, reward, rloo
from volant.stages.align.rewarded import _answered, _by_scorers, _worth, task_of


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rewarded")
    return model(folder / "model", steps=14), dataset(folder / "data", samples())


def test_an_answer_is_compared_with_its_group():
    rewards = torch.tensor([[1.0, 0.0, 0.0], [5.0, 5.0, 5.0]])
    rest = advantages(rewards, "rest")
    assert torch.allclose(rest[0], torch.tensor([1.0, -0.5, -0.5]))
    assert torch.equal(rest[1], torch.zeros(3))
    group = advantages(rewards, "group")
    assert torch.allclose(group[0], (rewards[0] - 1 / 3) / rewards[0].std(), atol=1e-3)


def test_advantages_of_tokens_are_those_of_the_formula():
    rewards, values = torch.tensor([[0.0, 0.0, 1.0, 9.0]]), torch.tensor([[0.5, 0.2, 0.4, 7.0]])
    mask = torch.tensor([[False, True, True, False]])
    better, returns = estimated(rewards, values, mask, discount=1.0, smooth=0.5)
    last = 1.0 - 0.4
    first = (0.0 + 0.4 - 0.2) + 0.5 * last
    assert better[0].tolist() == pytest.approx([0.0, first, last, 0.0])
    assert returns[0].tolist() == pytest.approx([0.0, first + 0.2, 1.0, 0.0])


def test_a_reward_counts_in_spreads_from_its_group_whatever_its_scale(made):
    told = torch.tensor([3.0, 1.0, 8.0, 8.0, 5.0, 6.0])
    critics = [Critic(family.load(made[0].path), answers=6, width=8, pad=0) for _ in range(3)]
    grouped, small, plain = (c.worth(r, g) for c, r, g in zip(critics, (told, told / 64, told), (2, 2, 1), strict=True))
    spread = (2 * (1.0**2 + 0.0 + 0.5**2) / 6) ** 0.5
    assert grouped.tolist() == pytest.approx([1 / spread, -1 / spread, 0, 0, -0.5 / spread, 0.5 / spread])
    assert torch.allclose(small, grouped, atol=1e-5)
    assert torch.allclose(plain, (told - told.mean()) / told.std(unbiased=False), atol=1e-5)
    assert not critics[2].worth(torch.full((6,), 5.3), 6).any()  # not even by rounding
    later = critics[0].worth(told * 0 + torch.tensor([1.0, -1.0] * 3), 2)  # spreads are those of all draws so far
    assert later[0].item() == pytest.approx(1 / ((spread**2 + 1) / 2) ** 0.5)


def test_each_update_asks_the_same_prompts_and_all_come_in_turn():
    questions = Questions(5, rows=2, group=1, seed=3, updates=3)
    asked = [questions.batch(s) for s in range(9)]
    assert [a.update for a in asked[:3]] == [0, 1, 2] and len({a.prompts for a in asked[:3]}) == 1
    assert sorted(p for a in asked[::3] for p in a.prompts) == list(range(5))
    with pytest.raises(DataError):
        Questions(0, rows=2, group=1, seed=0)


def test_draws_follow_their_seeds_and_their_likelihood_is_the_models(made):
    net = family.load(made[0].path).eval()
    codec = open_modality("text").open_codec(made[0].path)
    prompts = [
        codec.encode_prompt([{"role": "user", "content": c}]) for c in ("def f(x):", "def read_file(path, mode):")
    ]
    options = {"room": 6, "heat": 1.0, "stop": codec.stop_ids, "pad": codec.pad_id}
    one, two = roll(net, prompts, [1, 2], **options), roll(net, prompts, [1, 2], **options)
    other = roll(net, prompts, [3, 4], **options)
    assert torch.equal(one.ids, two.ids) and not torch.equal(one.ids, other.ids[:, : one.ids.size(1)])
    # Beside a longer prompt and alone: padding on the left must not change what is drawn.
    alone = roll(net, prompts[:1], [1], **options)
    n = int(alone.real.sum())
    assert torch.equal(alone.ids[0, :n], one.ids[0, :n])
    cold = roll(net, prompts, [0, 0], **{**options, "heat": 0.0})
    with torch.no_grad():
        logp, _ = token_logp(net, cold)
        best = net(input_ids=cold.ids[:1, : int(cold.real[0].sum())]).logits[0, :-1].log_softmax(-1).max(-1).values
    answers = cold.answers[0, 1:][: len(best)]
    assert torch.allclose(logp[0, : len(best)][answers], best[answers], atol=1e-4)


def test_a_batch_names_prompts_and_is_never_divided_within_a_group():
    batch = Asked((4, 7, 9), 2, group=4)
    assert (batch.size, batch.counted, batch.tokens, batch.rows(0, 8192)) == (3, 3, 12, batch)
    assert batch.rows(1, 2).prompts == (7,)


BODY = "    y = x + 1\n    return y"


@pytest.mark.parametrize(
    ("scorers", "good", "bad"),
    [
        (["parses"], BODY.replace("return y", "print(y)"), "x ="),
        ({"parses": {"continues": True}}, BODY, "return x +"),
        ({"compiles": {"continues": True}}, BODY, "    pass\nreturn 1"),
        pytest.param(
            {"passes_tests": {"continues": True, "seconds": 1}}, BODY, "    return x",
            marks=pytest.mark.skipif(not sandbox.available(), reason="there is no bubblewrap"),
        ),
        ({"fits_schema": {"schema": {"type": "array"}}}, "[1, 2]", "{}"),
        ({"word_count": {"least": 2, "most": 3}}, "Add one.", "Add one to what comes in."),
    ],
)  # fmt: skip
def test_what_can_be_verified_is_a_reward_of_the_answer_as_it_was_written(scorers, good, bad):
    record = {"prompt": "def f(x):", "completion": BODY, "tests": ["assert f(1) == 2", "assert f(4) == 5"]}
    sample = sample_of(record, SOURCE)
    worth = _by_scorers(scorers)([sample])([0, 0], [good, bad])
    assert worth[0] == 1.0 and worth[1] < 1.0
    assert record_of(sample) == {**record, "tests": "\n".join(record["tests"])}


@pytest.mark.skipif(not sandbox.available(), reason="there is no bubblewrap")
@pytest.mark.parametrize("method", [grpo, rloo])
def test_tests_that_records_bring_are_a_reward(made, tmp_path, method):
    base, _ = made
    told = [
        sample_of({"prompt": s.condition, "completion": s.target, "tests": "assert True"}, SOURCE).model_copy(
            update={"split": s.split}
        )
        for s in samples()
    ]
    run = run_in(tmp_path / "run")
    size = {"steps": 2, "prompts": 2, "group_size": 2, "tokens": 6}
    method(run, base, dataset(tmp_path / "data", told), scorers={"passes_tests": {"seconds": 1}}, **size)
    rewards = [value for name, value, _ in watched(run).metrics if name == "reward"]
    assert len(rewards) == 2 and all(0 <= r <= 1 for r in rewards)


def test_a_chat_is_asked_whole_and_its_answer_rewarded(made, tmp_path):
    base, _ = made
    said = [{"role": "user", "content": "def add_key(x):"}, {"role": "assistant", "content": "Add the key."}]
    more = [*said, {"role": "user", "content": "def read_key(x):"}, {"role": "assistant", "content": "Read the key."}]
    chats = [
        sample_of({"messages": turns}, SOURCE).model_copy(update={"split": split})
        for turns in (said, more)
        for split in ("train", "validation")
    ]
    codec = open_modality("text").open_codec(base.path)
    task = task_of(
        run_in(tmp_path), base, dataset(tmp_path / "data", chats), scorers=["token_f1"], reward=None, judge=None,
        tokens=6, temperature=1.0, limit=10,
    )  # fmt: skip
    assert sorted(task.drawing.prompts, key=len) == [codec.encode_prompt(said[:1]), codec.encode_prompt(more[:3])]
    longer = [len(s.messages) for s in task.train].index(4)
    assert task.drawing.reward([longer], ["Read the key."]) == [1.0]
    assert _answered(task.train[longer], "No.").messages == [*more[:3], {"role": "assistant", "content": "No."}]


@pytest.mark.parametrize(("method", "size"), [(grpo, {"steps": 2}), (ppo, {"draws": 1, "updates": 2})])
def test_memory_is_planned_and_where_it_is_short_blocks_are_computed_twice(made, tmp_path, monkeypatch, method, size):
    size = {**size, "scorers": ["token_f1"], "tokens": 6, "prompts": 3, "group_size": 2}
    plenty = run_in(tmp_path / "plenty")
    method(plenty, *made, **size)
    (said,) = [line for line in watched(plenty).lines if line.startswith("memory: training takes about")]
    monkeypatch.setattr("volant.nets.memory.training_bytes", lambda *a, recomputed, **k: 10**6 if recomputed else 10**9)
    monkeypatch.setattr("volant.nets.memory.free_bytes", lambda device: 10**8)
    short = run_in(tmp_path / "short")
    method(short, *made, **size)
    assert any("each block is computed twice" in line for line in watched(short).lines)
    one, two = (load_file(run.out / "model.safetensors") for run in (plenty, short))
    assert all(torch.equal(one[name], two[name]) for name in one)
    monkeypatch.setattr("volant.nets.memory.free_bytes", lambda device: 1000)
    with pytest.raises(MachineError, match="needs about [0-9]+ MiB of memory") as caught:
        method(run_in(tmp_path / "none"), *made, **size)
    assert "group_size" in caught.value.fix


@pytest.mark.parametrize("method", [grpo, *(pytest.param(m, marks=pytest.mark.slow) for m in (rloo, ppo))])
def test_the_reward_of_draws_rises(method, made, tmp_path):
    base, data = made
    run = run_in(tmp_path / "run")
    size = {"draws": 15, "prompts": 9, "updates": 4} if method is ppo else {"steps": 30, "prompts": 8, "group_size": 8}
    method(run, base, data, scorers=["token_f1"], tokens=12, lr=1e-3, beta=0.0, bound=1000.0, **size)
    rewards = [value for name, value, _ in watched(run).metrics if name == "reward"]
    fifth = len(rewards) // 5
    assert sum(rewards[-fifth:]) / fifth > sum(rewards[:fifth]) / fifth + 0.1, rewards
    names = {name for name, _, _ in watched(run).metrics}
    assert {"reward", "reward_spread", "flat_groups", "kl", "entropy", "answer_tokens", "validation_loss"} <= names
    assert {"held_out_reward", "held_out_reward_change", "logratio"} <= {s.name for s in watched(run).scores}


@pytest.mark.parametrize("method", [grpo, pytest.param(ppo, marks=pytest.mark.slow)])
def test_weights_that_become_no_numbers_are_gone_back_from(method, made, tmp_path, monkeypatch):
    gradients, broken = loop._Training._gradients, []

    def breaks(training, batch):
        if training.step == 3 and not broken:
            broken.append(3)
            with torch.no_grad():
                next(iter(training.net.parameters())).fill_(float("nan"))
        return gradients(training, batch)

    monkeypatch.setattr(loop._Training, "_gradients", breaks)
    run = run_in(tmp_path / "run")
    size = {"draws": 5, "updates": 1} if method is ppo else {"steps": 5}
    method(run, *made, scorers=["token_f1"], tokens=4, prompts=2, group_size=2, **size)
    assert broken and any("step 3: the loss is nan; back to step 0 with 0.5" in said for said in watched(run).lines)


@pytest.mark.parametrize(("method", "size"), [(grpo, {"steps": 1}), (rloo, {"steps": 1}), (ppo, {"draws": 1})])
def test_answers_end_where_the_models_context_does(made, tmp_path, monkeypatch, method, size):
    rolled = []

    def watching(net, prompts, seeds, **options):
        found = roll(net, prompts, seeds, **{**options, "stop": []})  # answers that never end by themselves
        rolled.append((max(len(p) for p in prompts), options["room"], int(found.real.sum(1).max())))
        return found

    monkeypatch.setattr("volant.nets.policy.roll", watching)
    run, context = run_in(tmp_path / "run"), open_modality("text").open_codec(made[0].path).space.length
    method(run, *made, scorers=["token_f1"], tokens=4096, prompts=2, group_size=2, limit=2, **size)
    assert rolled and all(prompt + room <= context and longest <= context for prompt, room, longest in rolled)
    (said,) = [line for line in watched(run).lines if line.startswith("answers have ")]
    assert said.startswith(f"answers have {rolled[0][1]} tokens at most, not 4096")


def test_a_long_prompt_leaves_half_of_the_context_to_its_answer(made, tmp_path):
    asked = [s.model_copy(update={"condition": f"{s.condition} " * 60}) for s in samples()]
    for tokens, room in ((6, 6), (64, 64), (65, 64), (4096, 64)):
        run = run_in(tmp_path / str(tokens))
        task = task_of(
            run, made[0], dataset(tmp_path / f"data{tokens}", asked), scorers=["token_f1"], reward=None, judge=None,
            tokens=tokens, temperature=1.0, limit=3,
        )  # fmt: skip
        assert task.drawing.room == room and {len(p) for p in task.drawing.prompts} == {128 - room}
        assert any("answers have 64 tokens" in line for line in watched(run).lines) == (tokens > room)


def test_a_base_that_is_damaged_is_refused(made, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(made[0].path, damaged)
    weights = load_file(damaged / "model.safetensors")
    save_file({name: tensor * float("nan") for name, tensor in weights.items()}, damaged / "model.safetensors")
    with pytest.raises(ArtifactError, match="not all numbers"):
        grpo(run_in(tmp_path / "run"), Model(damaged), made[1], scorers=["token_f1"], steps=1, prompts=2, tokens=4)


def test_a_reward_model_rewards_too(made, tmp_path):
    base, _ = made
    choices = dataset(tmp_path / "pairs", pairs())
    judge = reward(run_in(tmp_path / "judge"), base, choices, epochs=1.0)
    run = run_in(tmp_path / "run")
    rloo(run, base, choices, reward=judge, steps=2, prompts=2, group_size=2, tokens=4)
    assert any(name == "reward" for name, _, _ in watched(run).metrics)


def test_the_answer_to_a_dialogue_longer_than_the_context_is_what_earns(made, tmp_path):
    judge = reward(run_in(tmp_path / "judge"), made[0], dataset(tmp_path / "pairs", pairs()), epochs=1.0)
    codec = open_modality("text").open_codec(judge.path)
    turns = [{"role": role, "content": "def read_key(x): " * 8} for _ in range(4) for role in ("user", "assistant")]
    sample = sample_of({"messages": turns}, SOURCE)
    assert len(codec.encode(sample).ids) > 2 * codec.space.length
    good, bad = _worth(judge, [], None, "cpu")([sample])([0, 0], ["Read the key.", "Do something else with it now."])
    assert good != bad


def test_far_from_the_start_is_pulled_back(made, tmp_path):
    base, data = made
    run = run_in(tmp_path / "run")
    grpo(run, base, data, scorers=["token_f1"], steps=6, prompts=4, group_size=4, tokens=8, lr=5e-3, bound=0.01)
    score = next(s for s in watched(run).scores if s.name == "logratio")
    assert score.value <= 0.01


def test_a_step_that_ruins_the_task_metric_is_taken_back_part_of_the_way(made, tmp_path):
    base, data = made
    run = run_in(tmp_path / "run")
    grpo(run, base, data, scorers=["token_f1"], steps=2, prompts=4, group_size=4, tokens=8, lr=0.1, bound=1e9)
    assert any("by the task metric, relevance" in line and "going back to 0.75" in line for line in watched(run).lines)
    scores = {s.name: s for s in watched(run).scores}
    assert scores["relevance_change"].value > -0.1
    assert not any("WARNING: this step made" in line for line in watched(run).lines)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"answer_tokens": 4.0}, "answers are half as long"),
        ({"answer_tokens": 21.0}, "answers are twice as long"),
        ({"kl": 0.6}, "the divergence from the reference"),
        ({"entropy": 0.05}, "answers become one"),
        ({"reward_spread": 0.1}, "all answers earn almost the same"),
        ({"flat_groups": 0.9}, "more than four prompts in five"),
    ],
)
def test_a_figure_that_leaves_its_healthy_range_is_a_red_flag_once(tmp_path, figures, said):
    run = run_in(tmp_path)
    watch = Watch(run)
    told = {"kl": 0.0, "entropy": 1.0, "answer_tokens": 10.0, "reward_spread": 1.0, "flat_groups": 0.2}
    watch(told, 0)
    assert not watched(run).lines
    watch({**told, **figures}, 1)
    watch({**told, **figures}, 2)
    (line,) = watched(run).lines
    assert line.startswith("RED FLAG at draw 1: ") and said in line


def test_a_run_that_is_carried_on_knows_its_first_draw(tmp_path):
    told = {"kl": 0.0, "entropy": 1.0, "answer_tokens": 10.0, "reward_spread": 1.0, "flat_groups": 0.2}
    run = run_in(tmp_path)
    Watch(run)(told, 0)
    Watch(run)({**told, "answer_tokens": 25.0}, 7)
    assert "answers are twice as long" in watched(run).lines[0]


def test_groups_that_earn_the_same_are_counted():
    rewards = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.5, 0.5])
    assert flat(rewards, 2) == pytest.approx(2 / 3) and flat(rewards, 1) == 0.0


def test_every_healthy_range_stands_in_the_documentation():
    page = (Path(__file__).resolve().parents[2] / "docs" / "align.md").read_text(encoding="utf-8")
    assert all(f"| `{one.name}` | {one.healthy} |" in page for one in RANGES)


def test_a_reward_model_and_scorers_add_up(made, tmp_path):
    base, _ = made
    judge = reward(run_in(tmp_path / "judge"), base, dataset(tmp_path / "pairs", pairs()), epochs=1.0)
    sample = samples()[0]
    texts = [str(sample.target), "No."]
    alone, scored, both = (
        _worth(model, names, None, "cpu")([sample])([0, 0], texts)
        for model, names in ((judge, []), (None, ["token_f1"]), (judge, ["token_f1"]))
    )
    assert scored[0] == 1.0 > scored[1]
    assert both == pytest.approx([a + b for a, b in zip(alone, scored, strict=True)])


def test_what_is_rewarded_has_to_be_said(made, tmp_path):
    with pytest.raises(SettingError, match="scorers"):
        grpo(run_in(tmp_path / "run"), *made)
