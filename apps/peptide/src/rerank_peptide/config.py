"""Typed configurations of ``fit`` and ``ablate``: what a YAML file may say, checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from rerank_core.errors import InputError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Real(_Strict):
    """Annotated spectra, with engines' result files where there are any."""

    spectra: Path
    candidates: dict[str, Path] = Field(default_factory=dict)
    exclude_titles: tuple[str, ...] = ()


class Simulated(_Strict):
    """Spectra simulated from proteins; ``holdout`` is the share of proteins never trained on."""

    proteins: Path
    n: int = Field(1000, ge=1)
    seed: int = 0
    holdout: float = Field(0.1, ge=0, lt=1)


class FitBase(_Strict):
    """What every task shares: data by source, seed, and groups that no split cuts (protein, else peptide)."""

    real: tuple[Real, ...] = ()
    simulated: Simulated | None = None
    seed: int = 0
    folds: int = Field(5, ge=2)


class FitFeatures(FitBase):
    """LambdaRank over features, with calibration from out-of-fold scores."""

    task: Literal["features"]
    trees: int = Field(150, ge=1)
    learning_rate: float = Field(0.06, gt=0)
    leaves: int = Field(15, ge=2)
    intensity: Literal["packaged", "ms2pip"] = "packaged"
    lists: tuple[Literal["engines", "graph", "rescored", "union", "mutated"], ...] = (
        "engines", "graph", "union", "mutated",
    )  # fmt: skip


class FitAxial(FitBase):
    """The axial network; loss = SmoothL1(PMD) + rmd_weight * SmoothL1(RMD) + list_weight * list-wise cross-entropy."""

    task: Literal["axial"]
    dim: int = 64
    heads: int = 4
    feedforward: int = 128
    encoder_layers: int = 2
    decoder_layers: int = 2
    dropout: float = Field(0.1, ge=0, lt=1)
    max_peaks: int = Field(80, ge=10)
    rows: int = Field(8, ge=2)
    steps: int = Field(2000, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = 8e-5
    warmup: float = Field(0.1, ge=0, le=1)
    clip: float = 1.5
    pmd_weight: float = 1.0
    rmd_weight: float = 1.0
    list_weight: float = 1.0
    temperature: float = 0.25
    columns: bool = True
    cross: bool = True
    evidence: bool = Field(True, description="Residues bring along what the spectrum says of them.")
    match_weight: float = Field(1.0, ge=0, description="Weight of the head that says right or wrong; 0 leaves it out.")
    lists: tuple[Literal["engines", "graph", "rescored", "union", "mutated"], ...] = ("graph", "engines", "mutated")
    start: Path | None = Field(None, description="A checkpoint whose weights and size are taken up.")
    cross_fit: bool = Field(False, description="Calibrate on scores of models that saw nothing of a list's group.")
    workers: int = Field(1, ge=1, description="Processes that make lists and batches.")
    checkpoint_every: int = Field(100, ge=1)
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    minutes: float | None = Field(None, gt=0, description="Stop, resumably, after so long.")


class FitTransformer(FitBase):
    """A small autoregressive sequence engine; both directions are fitted."""

    task: Literal["transformer"]
    dim: int = 64
    heads: int = 4
    feedforward: int = 128
    layers: int = 2
    max_peaks: int = 80
    steps: int = Field(1000, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = 1e-3
    device: str = "auto"


FitConfig = Annotated[FitFeatures | FitAxial | FitTransformer, Field(discriminator="task")]


class AblateConfig(_Strict):
    """Rows to compare on labelled spectra."""

    real: tuple[Real, ...] = ()
    simulated: Simulated | None = None
    methods: tuple[str, ...] = ("score", "mass", "mass-score", "votes", "hand", "features", "axial")
    k: tuple[int, ...] = (1, 2, 5, 10, 20)
    features: bool = True
    axial: FitAxial | None = None
    folds: int = Field(5, ge=2)
    seed: int = 0


T = TypeVar("T")


def read_config(path: Path, kind: Any) -> Any:
    """Read a YAML file into a typed configuration; relative paths count from the file's folder.

    Raises
    ------
    InputError
        When the file is absent, no YAML, or says something unknown or out of range.
    """
    import yaml

    if not path.is_file():
        raise InputError("no such configuration", path)
    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"is no YAML: {' '.join(str(error).split())}", path) from error
    try:
        config = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or "configuration"
        raise InputError(f"{where}: {first['msg']}", path) from error
    return _resolved(config, path.parent)


def _resolved(config: Any, folder: Path) -> Any:
    def place(p: Path) -> Path:
        return p if p.is_absolute() else folder / p

    real = tuple(
        r.model_copy(update={"spectra": place(r.spectra), "candidates": {n: place(p) for n, p in r.candidates.items()}})
        for r in config.real
    )
    simulated = config.simulated
    if simulated is not None:
        simulated = simulated.model_copy(update={"proteins": place(simulated.proteins)})
    changed: dict[str, Any] = {"real": real, "simulated": simulated}
    if getattr(config, "start", None) is not None:
        changed["start"] = place(config.start)
    return config.model_copy(update=changed)
