"""The RewardRanker loop over any local causal language model: SFT, reward model, PPO, hard negatives.

Settings marked ours are not the paper's, which could not be had. Programs are tested by a function the caller gives (in
practice the sandbox); the reward model, not the policy, is the product.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rerank_core.errors import require
from rerank_core.files import write_json
from rerank_programs.reward import losses

torch: Any = require("torch", "rerank-programs[lm]", "the RewardRanker loop")
Tensor = Any
_Module: Any = torch.nn.Module


@dataclass(frozen=True)
class TorchConfig:
    """Settings; all ours.

    Parameters
    ----------
    pairs
        Most (passing, failing) pairs a problem.
    hard_negatives
        Failing programs of highest reward kept a problem.
    """

    sft_rate: float = 1e-5
    reward_rate: float = 1e-5
    policy_rate: float = 1e-6
    pairs: int = 16
    hard_negatives: int = 15
    samples: int = 8
    new_tokens: int = 256
    temperature: float = 0.8
    clip: float = 0.2
    kl: float = 0.05
    value_weight: float = 0.1
    gamma: float = 1.0
    lam: float = 0.95
    inner: int = 4
    seed: int = 0


class RewardModel(_Module):
    """A language model with a scalar head on the last token that is not padding."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = torch.nn.Linear(backbone.config.hidden_size, 1, bias=False)
        torch.nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return rewards, shape (n,); ids and mask of shape (n, t), padded on the right."""
        return self.per_token(ids, mask)[torch.arange(len(ids)), mask.sum(dim=1) - 1]

    def per_token(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the head's value at every token, shape (n, t); PPO's critic."""
        states = self.backbone(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
        return self.head(states).squeeze(-1)


def pad(sequences: Sequence[Sequence[int]], fill: int = 0) -> tuple[Tensor, Tensor]:
    """Return ids and mask, shape (n, longest), padded on the right."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), fill, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, s in enumerate(sequences):
        ids[i, : len(s)] = torch.tensor(list(s))
        mask[i, : len(s)] = 1
    return ids, mask


def sft_loss(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Causal language-model loss over prompt and solution."""
    return model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss


def train_reward(
    model: RewardModel,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    rate: float,
    epochs: int = 1,
    batch: int = 16,
    seed: int = 0,
) -> list[float]:
    """Train on (passing, failing) token sequences by Bradley-Terry; return the loss of every step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    history = []
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(pairs), generator=generator).tolist()
        for start in range(0, len(order), batch):
            chosen = [pairs[i] for i in order[start : start + batch]]
            ids, mask = pad([p[0] for p in chosen] + [p[1] for p in chosen])
            rewards = model(ids, mask)
            loss = losses.bradley_terry(rewards[: len(chosen)], rewards[len(chosen) :])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(float(loss.detach()))
    model.eval()
    return history


def token_log_probs(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of every token given those before it, shape (n, t); 0 for the first."""
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(dim=-1)
    chosen = logits.gather(2, ids[:, 1:, None]).squeeze(2)
    return torch.nn.functional.pad(chosen, (1, 0))


@dataclass
class Ppo:
    """Policy, its frozen reference, and a critic that starts as the reward model."""

    policy: Any
    reference: Any
    critic: RewardModel
    config: TorchConfig

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(
            [*self.policy.parameters(), *self.critic.parameters()], lr=self.config.policy_rate
        )

    def step(self, sequences: Sequence[Sequence[int]], prompts: Sequence[int], scores: Tensor) -> float:
        """Improve the policy on sampled sequences.

        Parameters
        ----------
        prompts
            Number of prompt tokens of every sequence.
        scores
            Rewards, shape (n,).

        Returns
        -------
        float
            Loss of the last inner epoch.
        """
        c = self.config
        ids, mask = pad(sequences)
        answer = mask.clone().float()
        for i, n in enumerate(prompts):
            answer[i, :n] = 0
        with torch.no_grad():
            old = token_log_probs(self.policy, ids, mask)
            reference = token_log_probs(self.reference, ids, mask)
            values = self.critic.per_token(ids, mask)
            rewards = losses.penalised_rewards(scores, old, reference, answer, c.kl)
            advantage = losses.advantages(rewards, values, answer, c.gamma, c.lam)
            returns = advantage + values
        loss = torch.zeros(())
        for _ in range(c.inner):
            new = token_log_probs(self.policy, ids, mask)
            loss = losses.clipped_policy_loss(new, old, advantage, answer, c.clip)
            loss = loss + c.value_weight * losses.value_loss(self.critic.per_token(ids, mask), returns, answer)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return float(loss.detach())


def mine_hard_negatives(rewards: Sequence[float], passes: Sequence[bool], most: int) -> list[int]:
    """Return positions of failing programs, highest reward first."""
    failing = [i for i, ok in enumerate(passes) if not ok]
    return sorted(failing, key=lambda i: (-rewards[i], i))[:most]


def make_pairs(
    passing: Sequence[Sequence[int]], failing: Sequence[Sequence[int]], most: int
) -> list[tuple[Sequence[int], Sequence[int]]]:
    """Return (passing, failing) pairs of one problem, spread evenly over both, at most ``most``."""
    # Diagonal by diagonal: no program is used twice before every program was used once.
    every = [(p, failing[(i + d) % len(failing)]) for d in range(len(failing)) for i, p in enumerate(passing)]
    return every[:most]


@dataclass
class RewardRankerLoop:
    """Steps A to E over a tokenizer and a causal model.

    Parameters
    ----------
    model, tokenizer
        Any local causal language model; it is copied, never changed.
    test
        ``test(problem, program) -> bool``; run it in the sandbox.
    """

    model: Any
    tokenizer: Any
    test: Callable[[int, str], bool]
    config: TorchConfig

    def sft(self, texts: Sequence[str], epochs: int = 1) -> tuple[Any, list[float]]:
        """Step A: fine-tune a copy on prompts with solutions; return it and the losses."""
        torch.manual_seed(self.config.seed)
        generator = copy.deepcopy(self.model)
        optimizer = torch.optim.AdamW(generator.parameters(), lr=self.config.sft_rate)
        history = []
        generator.train()
        for _ in range(epochs):
            for text in texts:
                ids, mask = pad([self.tokenizer(text)["input_ids"]])
                loss = sft_loss(generator, ids, mask)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                history.append(float(loss.detach()))
        return generator.eval(), history

    def sample(self, policy: Any, prompts: Sequence[str]) -> list[list[tuple[list[int], int]]]:
        """Step D's draws: token sequences and their prompt's length, per problem."""
        torch.manual_seed(self.config.seed)
        out = []
        for prompt in prompts:
            ids, mask = pad([self.tokenizer(prompt)["input_ids"]])
            with torch.no_grad():
                drawn = policy.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    do_sample=True,
                    temperature=self.config.temperature,
                    max_new_tokens=self.config.new_tokens,
                    num_return_sequences=self.config.samples,
                    pad_token_id=self.tokenizer.pad_token_id or 0,
                )
            out.append([(row.tolist(), ids.shape[1]) for row in drawn])
        return out

    def judge(self, drawn: Sequence[Sequence[tuple[list[int], int]]]) -> list[list[bool]]:
        """Test sampled programs."""
        return [
            [self.test(k, self.tokenizer.decode(s[n:], skip_special_tokens=True)) for s, n in row]
            for k, row in enumerate(drawn)
        ]

    def run(
        self, prompts: Sequence[str], solutions: Sequence[str], rounds: int = 1, folder: Path | None = None
    ) -> RewardModel:
        """Run the loop; with a folder, every finished round is kept there and an interrupted loop goes on from it."""
        generator, _ = self.sft([p + s for p, s in zip(prompts, solutions, strict=True)])
        known = [[list(self.tokenizer(p + s)["input_ids"])] for p, s in zip(prompts, solutions, strict=True)]
        wrong: list[list[list[int]]] = [[] for _ in prompts]
        policy = generator
        reward = RewardModel(copy.deepcopy(generator))
        for number in range(rounds + 1):
            state = None if folder is None else folder / f"round-{number}"
            if state is not None and (state / "data.json").is_file():
                stored = json.loads((state / "data.json").read_text())
                known, wrong = stored["passing"], stored["failing"]
                reward.load_state_dict(torch.load(state / "reward.pt", weights_only=True))
            else:
                self._collect(policy, prompts, known, wrong, reward if number else None)
                torch.manual_seed(self.config.seed + number)
                reward = RewardModel(copy.deepcopy(generator))
                pairs = [
                    x for p, w in zip(known, wrong, strict=True) if p and w for x in make_pairs(p, w, self.config.pairs)
                ]
                if pairs:
                    train_reward(reward, pairs, rate=self.config.reward_rate, seed=self.config.seed)
                if state is not None:
                    self._keep(state, reward, known, wrong)
            if number < rounds:
                policy = self._improve(generator, reward, prompts)
        return reward

    def _collect(
        self,
        policy: Any,
        prompts: Sequence[str],
        known: list[list[list[int]]],
        wrong: list[list[list[int]]],
        reward: RewardModel | None,
    ) -> None:
        drawn = self.sample(policy, prompts)
        for k, (row, passes) in enumerate(zip(drawn, self.judge(drawn), strict=True)):
            known[k] += [s for (s, _), ok in zip(row, passes, strict=True) if ok]
            if reward is None:
                wrong[k] += [s for (s, _), ok in zip(row, passes, strict=True) if not ok]
            else:
                with torch.no_grad():
                    rewards = reward(*pad([s for s, _ in row])).tolist()
                wrong[k] += [row[i][0] for i in mine_hard_negatives(rewards, passes, self.config.hard_negatives)]

    def _improve(self, generator: Any, reward: RewardModel, prompts: Sequence[str]) -> Any:
        """Step C: a new policy from the generator."""
        policy = copy.deepcopy(generator)
        ppo = Ppo(policy, generator, copy.deepcopy(reward), self.config)
        for row in self.sample(policy, prompts):
            sequences = [s for s, _ in row]
            with torch.no_grad():
                scores = reward(*pad(sequences))
            ppo.step(sequences, [n for _, n in row], scores)
        return policy.eval()

    def _keep(self, state: Path, reward: RewardModel, known: Any, wrong: Any) -> None:
        state.mkdir(parents=True, exist_ok=True)
        torch.save(reward.state_dict(), state / "reward.pt")
        write_json(state / "config.json", asdict(self.config))
        write_json(state / "data.json", {"passing": known, "failing": wrong})  # last: its presence says complete
