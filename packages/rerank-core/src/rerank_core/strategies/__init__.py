"""Strategies: how to ask a judge. Judges: what answers. Each knows nothing of the other, nor of any domain."""

from rerank_core.strategies.calibrated import PositionBalanced, Shuffled
from rerank_core.strategies.judges import Content, Group, Item, Order, Pair, Picture, Triple
from rerank_core.strategies.rerankers import (
    AllPairs,
    BubbleSort,
    Groupwise,
    HeapSort,
    Pointwise,
    Setwise,
    SlidingWindow,
    Tournament,
)

__all__ = [
    "AllPairs",
    "BubbleSort",
    "Content",
    "Group",
    "Groupwise",
    "HeapSort",
    "Item",
    "Order",
    "Pair",
    "Picture",
    "Pointwise",
    "PositionBalanced",
    "Setwise",
    "Shuffled",
    "SlidingWindow",
    "Tournament",
    "Triple",
]
