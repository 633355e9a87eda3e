"""Two processes started by torchrun train what one trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file


def _tiny(folder: Path) -> Path:
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    from rerank_lm.models import resolve_model

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(resolve_model("all-minilm-l6-v2").folder())
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        num_labels=1,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path):
    value = {
        "name": "p", "kind": "cross-encoder", "model": str(_tiny(tmp_path / "tiny")),
        "data": {"domain": "passages", "depth": 6, "list_size": 4, "held_out": 0.3, "limit": 20, "words": 16},
        "train": {"epochs": 4, "batch": 1, "accumulate": 3, "max_steps": 6, "save_every": 2, "evaluate_every": 3,
                  "learning_rate": 1e-3, "threads": 1},
    }  # fmt: skip
    recipe = tmp_path / "p.yaml"
    recipe.write_text(yaml.safe_dump(value))
    script = tmp_path / "rerank.py"
    script.write_text("from rerank_core.cli import main\nmain()\n")
    train = [str(script), "train", str(recipe), "-o"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, *train, str(tmp_path / "one")], check=True, capture_output=True, env=env, timeout=300
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    both = subprocess.run(
        [*torchrun, *train, str(tmp_path / "two")], capture_output=True, text=True, env=env, timeout=300, check=False
    )
    assert both.returncode == 0, both.stderr[-2000:]
    one, two = (load_file(tmp_path / n / "model.safetensors") for n in ("one", "two"))
    start = load_file(tmp_path / "tiny" / "model.safetensors")
    moved = max(float((one[k] - start[k]).abs().max()) for k in one)
    apart = max(float((one[k] - two[k]).abs().max()) for k in one)
    assert moved > 1e-3 and apart < 0.02 * moved, (moved, apart)
    assert both.stderr.count("step 6/6") == 1, "one process talks"
