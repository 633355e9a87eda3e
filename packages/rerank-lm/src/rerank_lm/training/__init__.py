"""Training: typed recipes, data from any domain, a resumable loop. Importing this loads no torch."""

from rerank_lm.training.recipe import Recipe, load_recipe

__all__ = ["Recipe", "load_recipe"]
