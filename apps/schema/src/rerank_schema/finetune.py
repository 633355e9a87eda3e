"""Self-supervised fine-tuning of the encoder on the columns of one schema; no correspondences are needed.

A class is a column with its variants (see [`rerank_schema.augment`][]); texts of one class are drawn together, those of
other classes apart. Source: Liu et al., PVLDB 18(8), 2025, and the released ``finetune`` scripts. We follow the scripts'
numbers (AdamW, rate 1e-5, weight decay 0.5, batches of 32 classes by 2 texts, texts with the repeated header). We differ
where they contradict the paper or themselves: augmentation, loss and margin are really used, dropout stays on after the
first evaluation, and the best epoch is picked on variants drawn for that purpose alone, not on the training texts.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rerank_core.errors import InputError, UsageError
from rerank_schema.augment import AUGMENTATIONS, original
from rerank_schema.encode import DEFAULT_MODEL, Vectors
from rerank_schema.magneto import MagnetoParams, texts
from rerank_schema.tables import Column

if TYPE_CHECKING:
    from torch import Tensor

    from rerank_lm.encoders import BiEncoder
    from rerank_lm.encoders.runtime import Precision

LOSSES = ("triplet", "contrastive")
BATCH_TOKENS = 1024
"""Padded tokens that go through the encoder together; the loss is over the whole batch all the same."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class FinetuneParams:
    """What is learned and how.

    Parameters
    ----------
    augmentations
        Of ``exact`` and ``lexical``; semantic variants are given to [`finetune`][rerank_schema.finetune.finetune].
    loss
        ``triplet`` (batch-hard, cosine distance, ``margin``) or ``contrastive`` (``temperature``).
    classes
        Columns in a batch; two texts of each.
    encoding, sampling
        How a column becomes text.
    precision
        ``bf16`` multiplies matrices in bf16 (weights and sums stay in fp32); ``auto`` does so where the machine can.
    """

    model: str = DEFAULT_MODEL
    augmentations: tuple[str, ...] = ("exact", "lexical")
    loss: str = "triplet"
    margin: float = 0.5
    temperature: float = 0.5
    epochs: int = 30
    classes: int = 32
    learning_rate: float = 1e-5
    weight_decay: float = 0.5
    encoding: str = "header_values_repeat"
    sampling: str = "priority_sampling"
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UsageError(f"unknown loss {self.loss!r}; losses: {', '.join(LOSSES)}")
        if unknown := sorted(set(self.augmentations) - set(AUGMENTATIONS)):
            raise UsageError(
                f"unknown augmentation {unknown[0]!r}; augmentations: {', '.join(AUGMENTATIONS)}, semantic"
            )
        if self.epochs < 1 or self.classes < 2:
            raise UsageError("epochs must be at least 1 and classes at least 2")


@dataclass(frozen=True)
class Outcome:
    """What a run came to: MRR of unseen variants against all columns, before and after every epoch."""

    folder: Path
    columns: int
    texts: int
    before: float
    after: tuple[float, ...]
    best_epoch: int
    losses: tuple[float, ...]


def batch_hard_triplet(vectors: Tensor, classes: Tensor, margin: float = 0.5) -> Tensor:
    """Return ``mean_a max(0, d(a, farthest of its class) - d(a, nearest of another) + margin)``, d the cosine distance.

    Inputs (n, d) unit vectors and (n,) class numbers. An anchor without a positive or a negative counts nothing.
    Hermans et al., "In Defense of the Triplet Loss", 2017, section 2.
    """
    import torch

    distance = 1 - vectors @ vectors.T
    same = classes[:, None] == classes[None, :]
    positive = same & ~torch.eye(len(classes), dtype=torch.bool, device=vectors.device)
    farthest = distance.masked_fill(~positive, -math.inf).max(dim=1).values
    nearest = distance.masked_fill(same, math.inf).min(dim=1).values
    usable = positive.any(dim=1) & (~same).any(dim=1)
    if not usable.any():
        return vectors.sum() * 0
    return torch.relu(farthest[usable] - nearest[usable] + margin).mean()


def contrastive(vectors: Tensor, classes: Tensor, temperature: float = 0.5) -> Tensor:
    """Return ``mean_a -log(sum_pos e^(s/t) / sum_(not a) e^(s/t))``, s the cosine; inputs as for the triplet loss.

    The scripts' "simclr" loss; with one positive an anchor it is NT-Xent (Chen et al., ICML 2020, equation 1).
    """
    import torch

    itself = torch.eye(len(classes), dtype=torch.bool, device=vectors.device)
    scores = (vectors @ vectors.T / temperature).masked_fill(itself, -math.inf)
    positive = (classes[:, None] == classes[None, :]) & ~itself
    usable = positive.any(dim=1)
    if not usable.any():
        return vectors.sum() * 0
    top = torch.logsumexp(scores.masked_fill(~positive, -math.inf)[usable], dim=1)
    return (torch.logsumexp(scores[usable], dim=1) - top).mean()


def training_texts(
    columns: Sequence[Column], params: FinetuneParams, extra: Sequence[Sequence[Column]] = (), seed: int = 0
) -> list[list[str]]:
    """Return the distinct texts of every class: the column and its variants."""
    how = MagnetoParams(encoding=params.encoding, sampling=params.sampling)
    out = []
    for i, column in enumerate(columns):
        rng = np.random.default_rng([params.seed, seed, i])
        variants = [original(column, rng)]
        for name in params.augmentations:
            variants += AUGMENTATIONS[name](column, rng)
        variants += extra[i] if extra else []
        out.append(list(dict.fromkeys(texts(variants, how))))
    return out


def finetune(
    columns: Sequence[Column],
    out: Path,
    params: FinetuneParams = FinetuneParams(),
    *,
    extra: Sequence[Sequence[Column]] = (),
    say: Say = lambda _: None,
) -> Outcome:
    """Fine-tune an encoder on columns and write it as a folder that ``-s model=FOLDER`` loads.

    Parameters
    ----------
    extra
        Further variants of every column, such as a language model's.

    Raises
    ------
    InputError
        When fewer than two columns differ, or the folder exists already.
    """
    import torch

    from rerank_lm.encoders import BiEncoder

    if out.exists():
        raise InputError("exists already; choose another folder for the model", out)
    classes = training_texts(columns, params, extra)
    classes = list({c[0]: c for c in classes}.values())
    if len(classes) < 2:
        raise InputError("at least two different columns are needed to tell apart", out)
    encoder = BiEncoder.load(params.model, precision="fp32")
    model = encoder.transformer.model
    probes, places = _probes(columns, params)
    shown = [texts([c], MagnetoParams(encoding=params.encoding, sampling=params.sampling))[0] for c in columns]
    measure = lambda: _mrr(encoder.encode(probes), encoder.encode(shown), places)  # noqa: E731
    before = measure()
    say(f"{len(classes)} columns, {sum(map(len, classes))} texts; MRR of unseen variants before {before:.4f}")
    optimiser = torch.optim.AdamW(model.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay)
    best, kept, after, losses = before, _state(model), [], []
    best_epoch = 0
    for epoch in range(1, params.epochs + 1):
        losses.append(_epoch(encoder, optimiser, classes, params, epoch))
        after.append(measure())
        say(f"epoch {epoch}/{params.epochs} loss {losses[-1]:.4f}, MRR of unseen variants {after[-1]:.4f}")
        if after[-1] > best:
            best, kept, best_epoch = after[-1], _state(model), epoch
    model.load_state_dict(kept)
    outcome = Outcome(out, len(classes), sum(map(len, classes)), before, tuple(after), best_epoch, tuple(losses))
    save(encoder, out, params, outcome)
    return outcome


def _epoch(
    encoder: BiEncoder, optimiser: Any, classes: Sequence[Sequence[str]], params: FinetuneParams, epoch: int
) -> float:
    """Go through the classes once in random order, two texts of each; a pure function of seed and epoch."""
    import torch

    rng = np.random.default_rng([params.seed, 1_000_003, epoch])
    torch.manual_seed(params.seed * 1009 + epoch)
    model = encoder.transformer.model
    model.train()
    size, total, steps = min(params.classes, len(classes)), 0.0, 0
    # The scripts take N // 64 batches of N texts; so many passes over the classes see as many texts.
    passes = max(1, round(sum(map(len, classes)) / (2 * len(classes))))
    for _ in range(passes):
        order = rng.permutation(len(classes))
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            drawn = [[classes[i][j] for j in rng.permutation(len(classes[i]))[:2]] for i in chosen]
            vectors = embed(encoder, [t for pair in drawn for t in pair], params.precision)
            labels = torch.tensor([k for k, pair in enumerate(drawn) for _ in pair], device=vectors.device)
            if params.loss == "triplet":
                loss = batch_hard_triplet(vectors, labels, params.margin)
            else:
                loss = contrastive(vectors, labels, params.temperature)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total, steps = total + float(loss.detach()), steps + 1
    model.eval()
    return total / max(1, steps)


def embed(encoder: BiEncoder, batch: Sequence[str], precision: Precision = "fp32") -> Tensor:
    """Return unit vectors with gradient, shape (n_texts, d), read exactly as the encoder reads them.

    Texts of similar length go through together: half the tokens of a whole batch would be padding.
    """
    import torch

    from rerank_lm.encoders.batching import token_batches
    from rerank_lm.encoders.runtime import choose_precision

    transformer = encoder.transformer
    tokenised = transformer.tokenise(list(batch))
    parts = list(token_batches([len(t.ids) for t in tokenised], BATCH_TOKENS))
    half = choose_precision(precision, transformer.device) == "bf16"
    vectors = []
    for rows in parts:
        inputs = transformer.inputs([tokenised[i] for i in rows])
        with torch.autocast(torch.device(transformer.device).type, torch.bfloat16, enabled=half):
            states = transformer.model(**inputs).last_hidden_state.float()
        if encoder.pooling == "cls":
            pooled = states[:, 0]
        else:
            weights = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
            pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1)
        vectors.append(torch.nn.functional.normalize(pooled, dim=-1))
    joined = torch.cat(vectors)
    return joined[torch.from_numpy(np.argsort(np.concatenate(parts))).to(joined.device)]


def _probes(columns: Sequence[Column], params: FinetuneParams, limit: int = 200) -> tuple[list[str], list[int]]:
    """Return texts of variants that training never sees, and the columns they came from."""
    rng = np.random.default_rng([params.seed, 7])
    places = sorted(rng.permutation(len(columns))[:limit].tolist())
    drawn = training_texts([columns[i] for i in places], params, seed=1)
    return [c[-1] for c in drawn], places


def _mrr(probes: Vectors, shown: Vectors, places: Sequence[int]) -> float:
    similarity = probes @ shown.T
    right = similarity[np.arange(len(places)), places]
    # Columns of equal text tie with the right one and do not count against it.
    return float(np.mean(1 / (1 + (similarity > right[:, None] + 1e-6).sum(axis=1))))


def _state(model: Any) -> dict[str, Any]:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def save(encoder: BiEncoder, out: Path, params: FinetuneParams, outcome: Outcome) -> None:
    """Write weights (safetensors), tokenizer, pooling and what was done; all or nothing."""
    from rerank_lm.models import resolve_model

    base = resolve_model(params.model)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        folder = Path(temporary) / "model"
        encoder.transformer.model.save_pretrained(folder)
        shutil.copyfile(base.tokenizer, folder / "tokenizer.json")
        (folder / "1_Pooling").mkdir()
        cls = encoder.pooling == "cls"
        _write(
            folder / "1_Pooling" / "config.json", {"pooling_mode_cls_token": cls, "pooling_mode_mean_tokens": not cls}
        )
        _write(folder / "sentence_bert_config.json", {"max_seq_length": encoder.transformer.max_length})
        _write(folder / "config_sentence_transformers.json", {"prompts": {"query": encoder.query_prefix}})
        about = asdict(params) | {k: v for k, v in asdict(outcome).items() if k != "folder"}
        _write(folder / "finetune.json", about)
        folder.rename(out)


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
