"""Encoders, language-model back ends, judges, losses, rewards and training recipes for rerank-core."""
