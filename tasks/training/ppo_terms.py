"""The arithmetic of PPO, each term alone: tensors are (N, T), a row an answer, its tokens flush right under `mask`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tasks.params import Kl


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens that are there."""
    return (values * mask).sum() / mask.sum()


def token_rewards(scores: torch.Tensor, ended: torch.Tensor, log_ratio: torch.Tensor, mask: torch.Tensor, beta: float,
                  missing_end: float) -> torch.Tensor:
    """r_t = −β·log(π/π_SFT) on each token, and on the last one the score, less `missing_end` for an answer that was cut.

    Summed over an answer: r − β·KL (Stiennon et al. 2020, § 3.4). scores, ended: (N,); log_ratio: log π − log π_SFT.
    """
    rewards = -beta * log_ratio * mask
    rewards[:, -1] += scores - missing_end * (1 - ended.float())
    return rewards


def whiten(values: torch.Tensor, mask: torch.Tensor, *, center: bool = True) -> torch.Tensor:
    """To a standard deviation of 1 over all tokens that are there, and a mean of 0 unless it is kept (`center`)."""
    mean = masked_mean(values, mask)
    scale = (masked_mean((values - mean) ** 2, mask) + 1e-8).rsqrt()
    white = (values - mean) * scale
    return (white if center else white + mean) * mask


def advantages_of(rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, discount: float,
                  trace: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalized advantage estimation (Schulman et al. 2016, eq. 16), and the returns that the values should have been.

    δ_t = r_t + γ·V_{t+1} − V_t and A_t = δ_t + γλ·A_{t+1}; after the last token there is nothing.
    """
    import torch

    advantages, after, value_after = torch.zeros_like(rewards), rewards.new_zeros(len(rewards)), rewards.new_zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + discount * value_after - values[:, t]
        after = (delta + discount * trace * after) * mask[:, t]
        advantages[:, t], value_after = after, values[:, t]
    return advantages, (advantages + values) * mask


def policy_loss(logps: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor,
                clip: float) -> tuple[torch.Tensor, torch.Tensor]:
    """−min(ρ·A, clip(ρ, 1 − ε, 1 + ε)·A) of each token (Schulman et al. 2017, eq. 7), and where clipping decided."""
    ratio = (logps - old).exp()
    plain, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    return plain.maximum(clipped) * mask, (clipped > plain).float() * mask


def value_loss(values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, clip: float) -> torch.Tensor:
    """½·max((V − R)², (clip(V, V_old ± ε) − R)²) of each token."""
    near = old + (values - old).clamp(-clip, clip)
    return 0.5 * ((values - returns) ** 2).maximum((near - returns) ** 2) * mask


@dataclass
class Penalty:
    """β of the KL penalty, fixed or steered to a target by a proportional controller (Ziegler et al. 2019, § 2.2)."""

    cfg: Kl
    beta: float

    def steer(self, kl: float, answers: int) -> None:
        """After a round of so many answers, `kl` nats each: e = clip(KL/target − 1, ±0.2), β ← β·(1 + e·answers/horizon)."""
        if self.cfg.target is not None:
            error = min(max(kl / self.cfg.target - 1, -0.2), 0.2)
            self.beta *= 1 + error * answers / self.cfg.horizon
