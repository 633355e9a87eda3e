# ruff: noqa: E501 - whole commands and records on one line
from __future__ import annotations

import math

import numpy as np
import pytest

from rerank_programs.data import Program
from rerank_programs.reward.surrogate import (
    STATIC,
    hard_negatives,
    kl_policy,
    pair_accuracy,
    static_features,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from rerank_programs.reward import losses  # noqa: E402
from rerank_programs.reward.loop import (  # noqa: E402
    Ppo,
    RewardModel,
    RewardRankerLoop,
    TorchConfig,
    make_pairs,
    mine_hard_negatives,
    pad,
    train_reward,
)

torch.set_num_threads(1)


class Characters:
    """A tokenizer of single characters, enough to run the loop."""

    pad_token_id = 0

    def __call__(self, text):
        return {"input_ids": [ord(c) % 96 for c in text]}

    def decode(self, ids, skip_special_tokens=True):
        return "".join(chr(i + 96) if i < 31 else chr(i) for i in ids)


def tiny(seed=0):
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=96, n_positions=64, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).eval()


def test_bradley_terry_by_hand():
    got = losses.bradley_terry(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]))
    assert float(got) == pytest.approx((math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 2, abs=1e-6)


def test_gae_by_hand():
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.4, 0.3]])
    d2 = 1.0 - 0.3
    d1 = 0.3 - 0.4
    d0 = 0.4 - 0.5
    lam = 0.95
    want = [d0 + lam * (d1 + lam * d2), d1 + lam * d2, d2]
    got = losses.advantages(rewards, values, torch.ones(1, 3), 1.0, lam)[0].tolist()
    assert got == pytest.approx(want, abs=1e-6)
    masked = losses.advantages(
        torch.tensor([[9.0, 0.0, 1.0, 9.0]]), torch.tensor([[9.0, 0.4, 0.3, 9.0]]), torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    )
    assert masked[0].tolist() == pytest.approx([0.0, d1 + lam * d2, d2, 0.0], abs=1e-6)


def test_clipping_by_hand():
    old = torch.zeros(1, 4)
    new = torch.log(torch.tensor([[1.5, 1.5, 0.5, 0.5]]))
    advantage = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    # min(1.5, 1.2), min(-1.5, -1.2), min(0.5, 0.8), min(-0.5, -0.8)
    want = -(1.2 - 1.5 + 0.5 - 0.8) / 4
    assert float(losses.clipped_policy_loss(new, old, advantage, torch.ones(1, 4), 0.2)) == pytest.approx(
        want, abs=1e-6
    )


def test_kl_penalty_and_final_reward_by_hand():
    rewards = losses.penalised_rewards(
        torch.tensor([2.0]),
        torch.tensor([[0.0, -1.0, -2.0, 0.0]]),
        torch.tensor([[0.0, -1.5, -1.0, 0.0]]),
        torch.tensor([[0.0, 1.0, 1.0, 0.0]]),
        0.05,
    )
    assert rewards[0].tolist() == pytest.approx([0.0, -0.025, 2.0 + 0.05, 0.0], abs=1e-6)


def test_hard_negatives_are_the_failures_liked_best():
    assert mine_hard_negatives([0.9, 0.1, 0.8, 0.5], [True, False, False, False], 2) == [2, 3]
    drawn, right, reward = np.array([0, 1, 2, 3]), np.array([1.0, 0, 0, 0]), np.array([0.9, 0.1, 0.8, 0.5])
    assert hard_negatives(drawn, right, reward, 2).tolist() == [2, 3]
    assert len(make_pairs([[1], [2]], [[3], [4], [5]], 16)) == 6
    assert len({(tuple(a), tuple(b)) for a, b in make_pairs([[1], [2]], [[3], [4], [5]], 16)}) == 6


def test_the_policy_is_the_closed_form_of_its_objective():
    prior, reward, beta = np.array([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0]), 0.7
    scaled = reward / reward.std()

    def objective(p):
        return p @ scaled - beta * np.sum(p * np.log(p / prior))

    best = kl_policy(prior, reward, beta)
    rng = np.random.default_rng(0)
    assert best.sum() == pytest.approx(1)
    for _ in range(200):
        other = rng.dirichlet(np.ones(3)) + 1e-9
        assert objective(best) >= objective(other / other.sum()) - 1e-9


def test_pair_accuracy_counts_ties_half_and_skips_one_class():
    got = pair_accuracy(
        [np.array([1.0, 0.0, 1.0]), np.array([1.0])], [np.array([1.0, 0, 0]), np.array([1.0])], [np.ones(3), np.ones(1)]
    )
    assert got == pytest.approx(0.75)


def test_static_features_never_run_the_program(tmp_path):
    target = tmp_path / "made"
    values = static_features("def f(a):\n", Program(f"    open({str(target)!r}, 'w')\n    return a\n"))
    assert len(values) == len(STATIC) and np.isfinite(values).all()
    assert not target.exists()
    assert static_features("def f(:\n", Program("((("))[STATIC.index("parses")] == 0


@pytest.mark.slow
def test_the_reward_model_overfits_64_pairs():
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(1, 96, 12).tolist(), rng.integers(1, 96, 10).tolist()) for _ in range(64)]
    model = RewardModel(tiny())
    history = train_reward(model, pairs, rate=1e-2, epochs=15, batch=64)
    assert history[0] > 0.6
    with torch.no_grad():
        a, b = (model(*pad([p[i] for p in pairs])) for i in (0, 1))
    assert float(losses.bradley_terry(a, b)) < 0.05


def test_padding_does_not_change_a_reward():
    model = RewardModel(tiny()).eval()
    with torch.no_grad():
        alone = model(*pad([[5, 6, 7]]))
        padded = model(*pad([[5, 6, 7], [1] * 20]))[:1]
    assert torch.allclose(alone, padded, atol=1e-5)


@pytest.mark.slow
def test_ppo_raises_the_chance_of_what_is_rewarded():
    policy, reference = tiny(1), tiny(1)
    ppo = Ppo(policy, reference, RewardModel(tiny(2)), TorchConfig(policy_rate=1e-3, inner=4))
    good, bad = [3, 4, 5, 6], [3, 4, 7, 8]
    from rerank_programs.reward.loop import token_log_probs

    def gap():
        with torch.no_grad():
            lp = token_log_probs(policy, *pad([good, bad]))[:, 2:].sum(1)
        return float(lp[0] - lp[1])

    before = gap()
    for _ in range(5):
        ppo.step([good, bad], [2, 2], torch.tensor([1.0, -1.0]))
    assert gap() > before + 0.1


@pytest.mark.slow
def test_the_whole_loop_runs_and_resumes_to_the_same_weights(tmp_path):
    config = TorchConfig(samples=4, new_tokens=6, sft_rate=1e-3, reward_rate=1e-3, policy_rate=1e-3)

    def passes(problem, program):
        return len(program) > 0 and ord(program[0]) % 2 == problem % 2

    loop = RewardRankerLoop(tiny(), Characters(), passes, config)
    _, history = loop.sft(["ab = cd", "xy = zw"] * 5, epochs=2)
    assert history[-1] < history[0]
    prompts, solutions = ["p1: ", "p2: "], ["aa", "bb"]
    whole = loop.run(prompts, solutions, rounds=1, folder=tmp_path / "a")
    loop.run(prompts, solutions, rounds=0, folder=tmp_path / "b")
    resumed = loop.run(prompts, solutions, rounds=1, folder=tmp_path / "b")
    for x, y in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(x, y)
