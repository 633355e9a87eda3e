"""Rerank image retrieval with global features on any folder of pictures."""
