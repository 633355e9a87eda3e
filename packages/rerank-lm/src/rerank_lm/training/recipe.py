"""A training recipe: one YAML file, typed, with every default stated here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rerank_core.errors import InputError
from rerank_core.reranker import digest

Kind = Literal["cross-encoder", "tokens", "write", "first", "e2rank", "mvp", "grpo", "prorank"]
Positive = Annotated[int, Field(ge=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(_Frozen):
    """Where labelled lists come from.

    Parameters
    ----------
    domain
        An installed domain; ``folder`` is read by its loader, without one its embedded sample is used.
    depth
        Candidates from the head of each list.
    list_size
        Candidates of a list in one step: all positives up to half of it, the rest drawn from the others.
    held_out
        Share of groups kept for early stopping; never trained on.
    rewrite_terms
        CAR: so many characteristic terms of a relevant candidate are added to the *training* query (0: off).
    teacher
        Score the lists with this cross-encoder first and learn from its scores (distillation).
    least_gain
        Smaller gains count as 0: for losses that only tell relevant from not, where low grades mean "related" (TREC DL
        counts grades from 2).
    """

    domain: str = "passages"
    folder: str | None = None
    depth: Positive = 50
    list_size: Annotated[int, Field(ge=2)] = 16
    held_out: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    limit: int | None = None
    rewrite_terms: Annotated[int, Field(ge=0)] = 0
    teacher: str | None = None
    least_gain: float = 0.0
    words: Positive = 120


class Loss(_Frozen):
    """Which loss, and its numbers; a name of ``rerank_lm.losses`` as ``rerank_lm.training.objectives`` lists them."""

    name: str = "ranknet"
    temperature: Annotated[float, Field(gt=0)] = 1.0
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.1
    factor: float | None = None
    weight: Literal["sft", "contrastive", "none"] = "sft"
    direction: Literal["sft", "contrastive"] = "sft"


class Train(_Frozen):
    """The loop.

    Parameters
    ----------
    batch
        Lists in one forward; ``accumulate`` forwards make a step.
    evaluate_every, patience
        Steps between evaluations on the held-out groups, and evaluations without gain before stopping.
    save_every
        Steps between checkpoints.
    dtype, autocast
        What the weights are kept in; with ``autocast`` losses are computed in bfloat16 from float32 weights.
    device
        ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``; a checkpoint may move between devices.
    """

    epochs: Positive = 2
    max_steps: int | None = None
    batch: Positive = 4
    accumulate: Positive = 1
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Annotated[float, Field(gt=0)] = 1.0
    evaluate_every: Positive = 20
    patience: Positive = 5
    save_every: Positive = 10
    seed: int = 0
    threads: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    autocast: bool = False
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"


class Lora(_Frozen):
    """Low-rank adapters, for causal models; ``output`` merges them or keeps them apart."""

    use: bool = True
    rank: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    output: Literal["merged", "adapter"] = "merged"


class Grpo(_Frozen):
    """Group-relative policy optimisation: ``generations`` answers a prompt, advantage within the group."""

    reward: str = "prorank"
    official: bool = False
    generations: Annotated[int, Field(ge=2)] = 4
    temperature: Annotated[float, Field(gt=0)] = 1.0
    max_tokens: Positive = 4
    kl: Annotated[float, Field(ge=0)] = 0.001
    steps: Positive = 10
    constant_after: Positive = 8


class Recipe(_Frozen):
    """What to train, on what, and how."""

    name: str
    kind: Kind
    model: str
    source: str = "ours"
    judge: str = "yes-no"
    judge_options: dict[str, Any] = Field(default_factory=dict)
    data: Data = Field(default_factory=Data)
    loss: Loss = Field(default_factory=Loss)
    train: Train = Field(default_factory=Train)
    lora: Lora = Field(default_factory=Lora)
    grpo: Grpo = Field(default_factory=Grpo)

    def fingerprint(self) -> str:
        """Return the digest that a checkpoint must share to be resumed."""
        return digest(self.model_dump(mode="json", exclude={"train": {"device"}}))


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Raises
    ------
    InputError
        With file and line where YAML is broken, with the setting's path where a value is wrong.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the recipe ({error.strerror})", path) from error
    except UnicodeDecodeError as error:
        raise InputError("the recipe is not UTF-8", path) from error
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError(
            f"not YAML ({getattr(error, 'problem', error)})", path, mark.line + 1 if mark else None
        ) from error
    if not isinstance(value, dict):
        raise InputError("a recipe is a mapping with name, kind and model", path)
    try:
        return Recipe(**value)
    except (ValidationError, TypeError) as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where = ".".join(str(p) for p in first["loc"])
            raise InputError(f"{where}: {first['msg']}", path) from error
        raise InputError(str(error), path) from error
