"""Rerank passages and documents: search, claims, screening and multi-hop questions."""
