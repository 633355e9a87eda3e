"""RewardRanker (ECIR 2025): a reward model that improves itself on the failures it liked best.

``surrogate`` runs the loop with trees on a pool of sampled programs, on CPU, for real figures; ``losses`` holds the
formulas of the torch loop; ``loop`` runs it over any local causal language model. The paper's optimiser settings could
not be had; every default marked so is ours.
"""
