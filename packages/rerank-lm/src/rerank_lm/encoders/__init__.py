"""Encoders: texts to vectors (bi-encoder, token states, static) and pairs to scores (cross-encoder)."""

from rerank_lm.encoders.bi import BiEncoder, Embedded, max_sim
from rerank_lm.encoders.cross import CrossEncoder, Scored
from rerank_lm.encoders.static import StaticEncoder

__all__ = ["BiEncoder", "CrossEncoder", "Embedded", "Scored", "StaticEncoder", "max_sim"]
