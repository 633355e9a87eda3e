"""Bradley-Terry, generalised advantages and the clipped policy loss, on torch tensors.

Sources: Bradley and Terry 1952; Schulman et al. 2016 (GAE, eq. 16) and 2017 (PPO, eq. 7); Ouyang et al. 2022 for the
per-token KL penalty in the reward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rerank_core.errors import require

if TYPE_CHECKING:
    from torch import Tensor


def bradley_terry(better: Tensor, worse: Tensor) -> Tensor:
    """Mean of -log sigmoid(r(better) - r(worse)); inputs of shape (n_pairs,)."""
    torch = require("torch", "rerank-programs[lm]", "the reward model")
    loss: Tensor = -torch.nn.functional.logsigmoid(better - worse).mean()
    return loss


def penalised_rewards(scores: Tensor, log_probs: Tensor, reference: Tensor, mask: Tensor, kl: float) -> Tensor:
    """Per-token rewards: minus ``kl`` times (log p - log p_ref), and the sequence's score on its last token.

    Parameters
    ----------
    scores
        Shape (n,).
    log_probs, reference, mask
        Shape (n, t); mask is 1 on the tokens of the answer.
    """
    rewards = -kl * (log_probs - reference) * mask
    last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
    rewards[range(len(scores)), last] += scores
    return rewards


def advantages(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95) -> Tensor:
    """Generalised advantage estimates, shape (n, t); 0 outside the mask.

    A_t = d_t + gamma * lam * A_{t+1} with d_t = r_t + gamma * V_{t+1} - V_t; the value after the last token is 0.
    """
    out = rewards.new_zeros(rewards.shape)
    following = rewards.new_zeros(len(rewards))
    next_value = rewards.new_zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        inside = mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = (delta + gamma * lam * following) * inside
        out[:, t] = following
        next_value = values[:, t] * inside + next_value * (1 - inside)
    return out


def clipped_policy_loss(new: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, clip: float = 0.2) -> Tensor:
    """Mean over answer tokens of -min(ratio * A, clip(ratio) * A); inputs of shape (n, t)."""
    ratio = (new - old).exp()
    worst = -(ratio * advantage).minimum(ratio.clamp(1 - clip, 1 + clip) * advantage)
    loss: Tensor = (worst * mask).sum() / mask.sum()
    return loss


def value_loss(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Half the mean squared error over answer tokens."""
    loss: Tensor = 0.5 * (((values - returns) ** 2) * mask).sum() / mask.sum()
    return loss
