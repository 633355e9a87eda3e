"""Training causal language models as judges: answer tokens, written answers, FIRST's joint loss, GRPO, ProRank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rerank_core.errors import RerankError, UsageError, require
from rerank_core.types import FloatArray
from rerank_lm import losses
from rerank_lm.backends.base import Prompt
from rerank_lm.backends.local import LocalBackEnd
from rerank_lm.judges.base import Example
from rerank_lm.judges.building import RECIPES, judge_class, resolve_alias
from rerank_lm.losses.yes_no import gradient_weights
from rerank_lm.models import resolve_model
from rerank_lm.rewards import REWARDS, Gold, erank
from rerank_lm.training.data import Labelled
from rerank_lm.training.objectives import list_loss, padded
from rerank_lm.training.recipe import Recipe
from rerank_lm.training.tasks import as_arrays


class NothingToLearn(RerankError):
    """Training cannot change anything; the text says why."""


class CausalTask:
    """A causal model with LoRA (by default), and the judge whose questions it learns to answer."""

    judge_name = ""

    def __init__(self, recipe: Recipe) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = str(resolve_model(resolve_alias(recipe.model)).folder())
        self.recipe = recipe
        self.log: dict[str, float] = {}
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        dtype = getattr(torch, recipe.train.dtype)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False)
        if recipe.lora.use:
            peft = require("peft", "rerank-lm[train]", "training with LoRA")
            settings = peft.LoraConfig(
                r=recipe.lora.rank,
                lora_alpha=recipe.lora.alpha,
                lora_dropout=recipe.lora.dropout,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            )
            model = peft.get_peft_model(model, settings)
        self._model = model
        self.backend = LocalBackEnd((model, self.tokenizer), name=recipe.model, share_prefix=False)
        # The back end switches its model to evaluation mode when it first touches it; a training step must not be
        # where that happens.
        _ = self.backend.model
        name = self.judge_name or recipe.judge
        if name not in RECIPES:
            raise UsageError(f"no judge {name!r}; judges: {', '.join(sorted(RECIPES))}")
        options = {**RECIPES[name].preset, "words": recipe.data.words, **recipe.judge_options}
        try:
            self.judge: Any = judge_class(name)(self.backend, **options)
        except TypeError as error:
            raise UsageError(f"judge_options: {error}") from error

    @property
    def module(self) -> nn.Module:
        """The model with its adapters."""
        return self._model

    def _examples(self, labelled: Labelled) -> list[Example]:
        """One example a candidate for pointwise judges, one a list for the others."""
        if hasattr(self.judge, "score"):
            return [self.judge.example(p, g) for p, g in zip(labelled.pairs, labelled.gains, strict=True)]
        return [self.judge.example(labelled.question, labelled.gains)]

    def _encode(self, prompt: Prompt) -> list[int]:
        return self.backend._encode([self.backend.render(prompt)], reserve=self.recipe.grpo.max_tokens)[0]

    def _label_logits(self, examples: Sequence[Example]) -> list[Tensor]:
        """Logits of each example's answer tokens after its prompt, with gradient."""
        texts = [self.backend.render(e.prompt) for e in examples]
        encoded = self.backend._encode(texts)
        out: list[Tensor] = []
        for start in range(0, len(examples), 8):
            rows = encoded[start : start + 8]
            width = max(map(len, rows))
            ids = torch.tensor([r + [0] * (width - len(r)) for r in rows], device=self.backend.device)
            last = [len(r) - 1 for r in rows]
            keep = sorted(set(last))
            logits = self._model(
                input_ids=ids, logits_to_keep=torch.tensor(keep, device=ids.device), use_cache=False
            ).logits
            for i, place in enumerate(last):
                columns = self.backend.token_ids(texts[start + i], examples[start + i].tokens)
                if columns is None:
                    raise UsageError(f"the answers {examples[start + i].tokens} are not single tokens of this model")
                out.append(logits[i, keep.index(place), columns].float())
        return out

    def _written_loss(self, examples: Sequence[Example]) -> Tensor:
        """Mean token loss of the targets (and the end of the turn) after their prompts."""
        end = self.tokenizer.eos_token or ""
        total, count = torch.zeros((), device=self.backend.device), 0
        for example in examples:
            head = self._encode(example.prompt)
            tail = self.tokenizer(example.target + end, add_special_tokens=False)["input_ids"]
            ids = torch.tensor([[*head, *tail]], device=self.backend.device)
            logits = self._model(input_ids=ids, logits_to_keep=len(tail) + 1, use_cache=False).logits[0, :-1].float()
            total = total + functional.cross_entropy(logits, ids[0, len(head) :], reduction="sum")
            count += len(tail)
        return total / max(count, 1)

    def score(self, lists: Sequence[Labelled]) -> list[FloatArray]:
        """Return one array a list, asked as at inference."""
        out = []
        for x in lists:
            if hasattr(self.judge, "score"):
                out.append(np.asarray(self.judge.score(x.pairs)))
            elif hasattr(self.judge, "order"):
                places = np.empty(len(x.gains))
                places[list(self.judge.order([x.question])[0].permutation)] = -np.arange(len(x.gains))
                out.append(places)
            else:
                out.append(self.judge.score_groups([x.question])[0])
        return out

    def save(self, folder: Path) -> None:
        """Write the merged model, or the adapter alone; the folder loads as a local model."""
        model = self._model
        if self.recipe.lora.use and self.recipe.lora.output == "merged":
            model = model.merge_and_unload()
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def loss(self, lists: Sequence[Labelled], step: int) -> Tensor:
        """Return the loss of a batch."""
        raise NotImplementedError


class TokensTask(CausalTask):
    """Judges that read answer tokens: yes/no, binary, graded, letters.

    Losses: ``sft`` (likelihood of the right token), ``contrastive`` and ``unified`` (GMR; weight statistics are
    logged), or any list loss over the judge's scores.
    """

    def loss(self, lists: Sequence[Labelled], step: int) -> Tensor:
        """Return the recipe's loss."""
        examples = [self._examples(x) for x in lists]
        rows = iter(self._label_logits([e for group in examples for e in group]))
        logits = [[next(rows) for _ in group] for group in examples]
        spec = self.recipe.loss
        if not hasattr(self.judge, "score"):
            return list_loss(spec, [r[0] for r in logits], lists)
        if spec.name == "sft":
            picked = [
                functional.cross_entropy(row.unsqueeze(0), torch.tensor([e.tokens.index(e.target)], device=row.device))
                for group, mine in zip(examples, logits, strict=True)
                for e, row in zip(group, mine, strict=True)
            ]
            return torch.stack(picked).mean()
        if len(examples[0][0].tokens) != 2:
            raise UsageError(f"loss {spec.name!r} needs a judge with two answers; use sft")
        yes = [torch.stack([row[0] for row in mine]) for mine in logits]
        no = [torch.stack([row[1] for row in mine]) for mine in logits]
        if spec.name in ("contrastive", "unified"):
            z_yes, gains, _, mask = padded(yes, lists)
            z_no = padded(no, lists)[0]
            weights = gradient_weights(
                z_yes, z_no, gains, mask, kind=spec.weight if spec.name == "unified" else "contrastive"
            )
            self.log.update(weights.statistics(mask))
            if spec.name == "contrastive":
                return losses.infonce(z_yes, gains, mask, temperature=spec.temperature)
            return losses.unified(z_yes, z_no, gains, mask, weight=spec.weight, direction=spec.direction)
        return list_loss(spec, [a - b for a, b in zip(yes, no, strict=True)], lists)


class WriteTask(CausalTask):
    """Judges that write: the likelihood of the gold answer (permutation, group scores, DeAR's second stage)."""

    def loss(self, lists: Sequence[Labelled], step: int) -> Tensor:
        """Return the mean token loss."""
        return self._written_loss([e for x in lists for e in self._examples(x)])


class FirstTask(CausalTask):
    """FIRST: the written permutation's loss and a ranking loss over the letters, together."""

    judge_name = "first"

    def loss(self, lists: Sequence[Labelled], step: int) -> Tensor:
        """Return the joint loss."""
        examples = [e for x in lists for e in self._examples(x)]
        rows = self._label_logits(examples)
        logits, gains, _, mask = padded(rows, lists)
        order = torch.argsort(gains.masked_fill(~mask, -torch.inf), dim=1, descending=True, stable=True)
        ranks = torch.empty_like(order)
        ranks.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
        ranking: Any = {"ranknet": "weighted-ranknet"}.get(self.recipe.loss.name, self.recipe.loss.name)
        written = self._written_loss(examples)
        self.log["language_model_loss"] = float(written.detach())
        return losses.first_joint(logits, ranks, written, mask, ranking=ranking, factor=self.recipe.loss.factor)


class GrpoTask(CausalTask):
    """GRPO: several answers a prompt, each weighed by its reward within the group.

    One update a sample, so the probability ratio is 1 and the clipped objective is ``-A log p``; the KL term against
    the model without adapters is the non-negative estimator ``e^d - d - 1``.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        if recipe.grpo.reward not in (*REWARDS, "erank"):
            raise UsageError(f"no reward {recipe.grpo.reward!r}; rewards: {', '.join([*REWARDS, 'erank'])}")
        self._constant = 0

    def loss(self, lists: Sequence[Labelled], step: int) -> Tensor:
        """Sample, reward, and return the policy loss.

        Raises
        ------
        NothingToLearn
            When the reward told no two answers apart for ``constant_after`` steps in a row.
        """
        g = self.recipe.grpo
        total, terms, rewards_seen, spread = torch.zeros((), device=self.backend.device), 0, [], 0
        for n, labelled in enumerate(lists):
            examples = self._examples(labelled)
            heads = [self._encode(e.prompt) for e in examples]
            answers = [
                self._sample(h, self.recipe.train.seed * 1_000_003 + step * 101 + n * 17 + k)
                for k, h in enumerate(heads)
            ]
            rewards = self._rewards(labelled, examples, answers)
            rewards_seen += rewards.ravel().tolist()
            for head, mine, values in zip(heads, answers, rewards, strict=True):
                deviation = values.std()
                if deviation < 1e-9:
                    continue
                spread += 1
                advantages = (values - values.mean()) / (deviation + 1e-4)
                total = total + self._policy_loss(head, mine, advantages)
                terms += len(mine)
        self.log.update(reward=float(np.mean(rewards_seen)), informative_prompts=float(spread))
        self._constant = 0 if spread else self._constant + 1
        if self._constant >= g.constant_after:
            raise NothingToLearn(
                f"the reward {g.reward!r} was the same for all answers to every prompt in {self._constant} steps "
                f"(mean {np.mean(rewards_seen):g}): nothing can be learned; warm the model up on the answer format "
                "first, raise the temperature, or choose another reward"
            )
        if not terms:
            return sum((p.sum() * 0.0 for p in self._model.parameters() if p.requires_grad), total)
        return total / terms

    def _sample(self, head: list[int], seed: int) -> list[list[int]]:
        from rerank_lm.backends.local import _seeded

        g, device = self.recipe.grpo, self.backend.device
        ids = torch.tensor([head] * g.generations, device=device)
        was_training = self._model.training
        self._model.eval()
        with torch.no_grad(), _seeded(seed, device):
            written = self._model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=g.temperature,
                top_k=0, top_p=1.0, max_new_tokens=g.max_tokens, pad_token_id=self.tokenizer.pad_token_id or 0,
            )[:, len(head) :]  # fmt: skip
        self._model.train(was_training)
        ends = self.backend._end_ids
        out = []
        for row in written.tolist():
            stop = next((k + 1 for k, t in enumerate(row) if t in ends), len(row))
            out.append(row[:stop])
        return out

    def _rewards(self, labelled: Labelled, examples: Sequence[Example], answers: list[list[list[int]]]) -> np.ndarray:
        """Rewards, shape (n_prompts, n_generations)."""
        g = self.recipe.grpo
        texts = [[self.tokenizer.decode(t, skip_special_tokens=True) for t in mine] for mine in answers]
        if g.reward == "erank":
            columns = [erank([mine[k] for mine in texts], labelled.gains) for k in range(g.generations)]
            return np.array(columns).T
        reward = REWARDS[g.reward]
        return np.array(
            [
                [reward(e.prompt.prefill + t, Gold(e.gains), official=g.official) for t in mine]
                for e, mine in zip(examples, texts, strict=True)
            ]
        )

    def _policy_loss(self, head: list[int], answers: list[list[int]], advantages: np.ndarray) -> Tensor:
        """Summed loss of one prompt's answers, read in one forward."""
        now, mask = self._log_probs(head, answers)
        lengths = mask.sum(dim=1)
        weight = torch.tensor(advantages, dtype=now.dtype, device=now.device)
        loss = -weight * (now * mask).sum(dim=1) / lengths
        if self.recipe.grpo.kl > 0 and self.recipe.lora.use:
            with torch.no_grad(), self._model.disable_adapter():
                before, _ = self._log_probs(head, answers)
            gap = (before - now) * mask
            loss = loss + self.recipe.grpo.kl * (gap.exp() - gap - 1).sum(dim=1) / lengths
        return loss.sum()

    def _log_probs(self, head: list[int], answers: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Log-probability of every answer token and which are real, each (n_answers, longest)."""
        longest = max(map(len, answers))
        rows = [[*head, *a, *[0] * (longest - len(a))] for a in answers]  # a causal model never sees what follows
        ids = torch.tensor(rows, device=self.backend.device)
        mask = torch.tensor([[float(k < len(a)) for k in range(longest)] for a in answers], device=ids.device)
        logits = self._model(input_ids=ids, logits_to_keep=longest + 1, use_cache=False).logits[:, :-1].float()
        picked = torch.log_softmax(logits, dim=-1).gather(2, ids[:, len(head) :].unsqueeze(2)).squeeze(2)
        return picked, mask


class ProRankTask(GrpoTask):
    """ProRank: GRPO until the model writes a bare 0 or 1, then the fine-grained score ``logit(1) - logit(0)``.

    The second stage's loss is not public; **ours** is any list loss over that score (RankNet by default).
    """

    judge_name = "binary"

    def loss(self, lists: Sequence[Labelled], step: int) -> Tensor:
        """Return stage 1's loss for the first ``grpo.steps`` steps, then stage 2's."""
        if step < self.recipe.grpo.steps:
            self.log["stage"] = 1.0
            return super().loss(lists, step)
        self.log["stage"] = 2.0
        rows = []
        for x in lists:
            rows.append(torch.stack([r[0] - r[1] for r in self._label_logits(self._examples(x))]))
        return list_loss(self.recipe.loss, rows, lists)


__all__ = [
    "CausalTask",
    "FirstTask",
    "GrpoTask",
    "NothingToLearn",
    "ProRankTask",
    "TokensTask",
    "WriteTask",
    "as_arrays",
]
