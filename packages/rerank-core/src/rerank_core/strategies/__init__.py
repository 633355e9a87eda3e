"""Strategies: how to ask a judge. Judges: what answers. Each knows nothing of the other, nor of any domain."""
