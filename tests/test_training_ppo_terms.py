"""Each term of PPO against a value derived by hand."""

from __future__ import annotations

import math

import pytest

from tasks import params
from tasks.training import ppo_terms as terms


def tensor(*rows):
    import torch

    return torch.tensor(rows, dtype=torch.float32)


def test_the_reward_of_a_token_is_the_price_of_leaving_the_reference():
    """β 0.1, log-ratios 1 and −2: −0.1 and +0.2; the last token also gets the score 3, less 1 for the answer that was cut."""
    ratios, mask = tensor([1.0, -2.0], [1.0, -2.0]), tensor([1, 1], [1, 1])
    found = terms.token_rewards(tensor(3.0, 3.0), tensor(1, 0), ratios, mask, 0.1, 1.0)
    assert found.tolist() == [pytest.approx([-0.1, 3.2]), pytest.approx([-0.1, 2.2])]
    assert float(found[0].sum()) == pytest.approx(3.0 - 0.1 * (1.0 - 2.0))  # r − β·KL


def test_no_token_no_reward():
    """What stands before a short answer is not paid for."""
    found = terms.token_rewards(tensor(1.0), tensor(1), tensor([5.0, 0.5]), tensor([0, 1]), 0.1, 0.0)
    assert found.tolist() == [pytest.approx([0.0, 1 - 0.05])]


def test_advantages_of_two_steps():
    """γ ½, λ ½, r (0, 1), V (0.2, 0.4): δ₁ = 1 − 0.4 = 0.6; δ₀ = 0 + ½·0.4 − 0.2 = 0; A₀ = 0 + ¼·0.6 = 0.15; returns A + V."""
    advantages, returns = terms.advantages_of(tensor([0.0, 1.0]), tensor([0.2, 0.4]), tensor([1, 1]), 0.5, 0.5)
    assert advantages.tolist() == [pytest.approx([0.15, 0.6])]
    assert returns.tolist() == [pytest.approx([0.35, 1.0])]


def test_advantages_with_the_whole_trace_are_the_return_less_the_value():
    """γ = λ = 1: A_t = Σ_{k≥t} r_k − V_t; a column before the answer holds nothing and changes nothing."""
    rewards, values = tensor([9.0, -0.1, -0.2, 2.0]), tensor([7.0, 0.5, 1.0, 1.5])
    advantages, returns = terms.advantages_of(rewards, values, tensor([0, 1, 1, 1]), 1.0, 1.0)
    assert advantages.tolist() == [pytest.approx([0.0, 1.7 - 0.5, 1.8 - 1.0, 2.0 - 1.5])]
    assert returns.tolist() == [pytest.approx([0.0, 1.7, 1.8, 2.0])]


def test_whitened():
    """1, 3 (and a 9 that is not there): mean 2, deviation 1 → −1, 1; with the mean kept 1, 3."""
    mask = tensor([0, 1, 1])
    assert terms.whiten(tensor([9.0, 1.0, 3.0]), mask).tolist() == [pytest.approx([0.0, -1.0, 1.0])]
    assert terms.whiten(tensor([9.0, 1.0, 5.0]), mask, center=False).tolist() == [pytest.approx([0.0, 3 - 1, 3 + 1])]


@pytest.mark.parametrize(("ratio", "advantage", "loss", "clipped"), [
    (1.0, 2.0, -2.0, 0.0),  # −ρA
    (1.5, 2.0, -2.4, 1.0),  # no more than 1 + ε is gained
    (0.5, -2.0, 1.6, 1.0),  # nor by sinking a bad token below 1 − ε
    (1.5, -2.0, 3.0, 0.0),  # but what got worse is paid for in full
    (0.5, 2.0, -1.0, 0.0),
])  # fmt: skip
def test_the_clipped_policy_loss(ratio, advantage, loss, clipped):
    """ε 0.2 (Schulman et al. 2017, fig. 1)."""
    found, decided = terms.policy_loss(tensor([math.log(ratio)]), tensor([0.0]), tensor([advantage]), tensor([1]), 0.2)
    assert (found.item(), decided.item()) == (pytest.approx(loss), clipped)


def test_the_clipped_policy_loss_has_no_gradient_beyond_the_clip():
    """ρ 1.5 with A > 0: the token has moved far enough; with A < 0 it is pulled back, by −A·ρ."""
    logps = tensor([math.log(1.5), math.log(1.5)]).requires_grad_()
    terms.policy_loss(logps, tensor([0.0, 0.0]), tensor([2.0, -2.0]), tensor([1, 1]), 0.2)[0].sum().backward()
    assert logps.grad.tolist() == [pytest.approx([0.0, 3.0])]


def test_the_clipped_value_loss():
    """V_old 1, ε 0.2. R 2, V 1.5: near is 1.2, ½·0.8² = 0.32 > ½·0.5². R 1.1, V 1.1: ½·0² but near is V: 0. V −1, R 1: ½·2²."""
    found = terms.value_loss(tensor([1.5, 1.1, -1.0]), tensor([1.0, 1.0, 1.0]), tensor([2.0, 1.1, 1.0]), tensor([1, 1, 1]), 0.2)
    assert found.tolist() == [pytest.approx([0.32, 0.0, 2.0])]


def test_the_steered_penalty():
    """Target 6, horizon 100, 10 answers. KL 12: error 1 → 0.2, β·1.02. KL 5.4: −0.1, β·0.99. Without a target β stays."""
    cfg = params.Kl(beta=0.1, target=6.0, horizon=100)
    penalty = terms.Penalty(cfg, cfg.beta)
    penalty.steer(12.0, 10)
    assert penalty.beta == pytest.approx(0.102)
    penalty.steer(5.4, 10)
    assert penalty.beta == pytest.approx(0.102 * 0.99)
    fixed = terms.Penalty(params.Kl(beta=0.1, target=None, horizon=100), 0.1)
    fixed.steer(50.0, 10)
    assert fixed.beta == 0.1
