"""The asking programs, one request each. Questions and answers: see `rerank_core.strategies.judges`.

A judge may answer anything: NaN, a position that does not exist, an order with gaps. A program never trusts it, always
ends, and always leaves a permutation.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from itertools import combinations

import numpy as np

from rerank_core.strategies.drive import BudgetSpent, Program, State
from rerank_core.strategies.judges import Group, Order, Pair, Triple
from rerank_core.types import Status


def pointwise(state: State, depth: int) -> Program:
    """Score the first ``depth`` candidates one by one; all of them are asked at once."""
    head = state.order[:depth]
    try:
        answers = yield [Pair(state.query, state.items[j], state.instruction) for j in head]
    except BudgetSpent as spent:
        answers = spent.answers
        head = head[: len(answers)]
    given = np.array([float(a) for a in answers], dtype=np.float64)
    if np.isnan(given).any():
        state.status = state.status.worst(Status.REPAIRED)
    # NaN goes below every number; candidates that were not asked about follow in their order.
    order = np.lexsort((np.where(np.isnan(given), 0.0, -given), np.isnan(given)))
    tail = state.order[len(head) :]
    state.scores = np.full(state.n, np.nan)
    state.scores[head] = given
    known = given[np.isfinite(given)]
    state.scores[tail] = (known.min() if len(known) else 0.0) - 1.0 - np.arange(len(tail))
    state.order[:] = [*(head[at] for at in order), *tail]


# -- pairwise ------------------------------------------------------------------------------------------------------


def _prefers(state: State, i: int, j: int, answer: float) -> bool:
    """Whether i beats j; a tie or an unusable answer leaves the one that the first stage ranks higher in front."""
    p = float(answer)
    if math.isnan(p) or p == 0.5:
        if math.isnan(p):
            state.status = state.status.worst(Status.REPAIRED)
        return state.items[i].rank < state.items[j].rank
    return p > 0.5


def _compare(state: State, i: int, j: int) -> Generator[list[Triple], list[float], bool]:
    answers = yield [Triple(state.query, state.items[i], state.items[j], state.instruction)]
    return _prefers(state, i, j, answers[0])


def all_pairs(state: State, depth: int, copeland: bool, both_orders: bool) -> Program:
    """Compare every pair of the first ``depth`` candidates.

    Scores are the sum of preferences, or with ``copeland`` wins minus losses (a tie counts for neither).
    """
    head = state.order[:depth]
    pairs = list(combinations(head, 2))
    if both_orders:
        pairs += [(j, i) for i, j in pairs]
    try:
        answers = yield [Triple(state.query, state.items[i], state.items[j], state.instruction) for i, j in pairs]
    except BudgetSpent as spent:
        answers = spent.answers
        pairs = pairs[: len(answers)]
    points = np.zeros(state.n)
    for (i, j), answer in zip(pairs, answers, strict=True):
        p = float(answer)
        if math.isnan(p):
            state.status, p = state.status.worst(Status.REPAIRED), 0.5
        p = min(max(p, 0.0), 1.0)
        win = float(np.sign(p - 0.5)) if copeland else p
        points[i] += win
        points[j] += -win if copeland else 1.0 - p
    state.order[:depth] = sorted(head, key=lambda j: -points[j])


def heap_sort(state: State, depth: int, k: int) -> Program:
    """Find the best ``k`` of the first ``depth`` by binary heap sort over pairwise comparisons (Qin et al., 2023)."""
    yield from _heap(state, depth, k, 2, pairwise=True)


def bubble_sort(state: State, depth: int, k: int) -> Program:
    """Find the best ``k`` by ``k`` back-to-front bubble passes (pairwise ranking prompting, Qin et al., 2023).

    A pass without a swap ends the sort, and a pass starts no deeper than just behind the last pass's deepest swap:
    below it the pairs are known to be in order.
    """
    order = state.order
    n = min(depth, len(order))
    start = n - 1
    for i in range(min(k, n - 1)):
        deepest = 0
        for at in range(start, i, -1):
            if (yield from _compare(state, order[at], order[at - 1])):
                order[at - 1], order[at] = order[at], order[at - 1]
                deepest = max(deepest, at)
        if not deepest:
            return
        start = min(n - 1, deepest + 1)


# -- setwise -------------------------------------------------------------------------------------------------------


def setwise(state: State, depth: int, k: int, arity: int) -> Program:
    """Heap sort with ``arity`` children a node (Zhuang et al., SIGIR 2024).

    One question picks the best of a node and its children.
    """
    yield from _heap(state, depth, k, arity, pairwise=False)


def _heap(state: State, depth: int, k: int, arity: int, *, pairwise: bool) -> Program:
    """Heapify back to front, then pop ``k`` times; what is not popped keeps its first-stage order."""
    heap = state.order[:depth]
    tail = state.order[depth:]
    place = {j: at for at, j in enumerate(state.order)}
    top: list[int] = []

    def publish() -> None:
        # Best so far: what was popped, then the root of a complete heap, then first-stage order.
        front = [*top, *heap[:1]] if built else top
        state.order[:] = [*front, *sorted((j for j in heap if j not in front), key=place.__getitem__), *tail]

    built = False
    for root in range((len(heap) - 2) // arity, -1, -1):
        yield from _sift(state, heap, root, arity, pairwise)
    built = True
    publish()
    while heap and len(top) < k:
        top.append(heap[0])
        last = heap.pop()
        if heap:
            heap[0] = last
            if len(top) < k:
                yield from _sift(state, heap, 0, arity, pairwise)
        built = len(top) < k
        publish()


def _sift(state: State, heap: list[int], at: int, arity: int, pairwise: bool) -> Program:
    while True:
        children = list(range(arity * at + 1, min(arity * at + arity + 1, len(heap))))
        if not children:
            return
        best = yield from _best_of(state, heap, [at, *children], pairwise)
        if best == at:
            return
        heap[at], heap[best] = heap[best], heap[at]
        at = best


def _best_of(state: State, heap: list[int], places: list[int], pairwise: bool) -> Generator[list, list, int]:
    if pairwise:
        best = places[0]
        for other in places[1:]:
            if (yield from _compare(state, heap[other], heap[best])):
                best = other
        return best
    items = tuple(state.items[heap[p]] for p in places)
    answers = yield [Group(state.query, items, state.instruction)]
    choice = _whole(answers[0])
    if not 0 <= choice < len(places):
        # As the official code does: an unusable label keeps the parent.
        state.status = state.status.worst(Status.REPAIRED)
        choice = 0
    return places[choice]


def _whole(x: object) -> int:
    try:
        value = float(x)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return -1
    return int(value) if value.is_integer() else -1


# -- listwise ------------------------------------------------------------------------------------------------------


def windows(n: int, size: int, stride: int) -> Iterator[tuple[int, int]]:
    """Windows of RankLLM's sliding pass over ``n`` candidates, back to front, as (start, end).

    n = 100, size 20, stride 10 gives 9 windows; lists no longer than a window give one; 0 or 1 candidate none.
    """
    # RankLLM's loop. Both ends are clamped to the list first: unclamped, its rule skips a list of exactly
    # size - stride candidates, and its unbatched path issues empty windows.
    end, start = n, max(0, n - size)
    while end > 0 and start + stride != 0:
        start = max(start, 0)
        if end - start > 1:
            yield start, end
        end -= stride
        start -= stride


def sliding_window(state: State, depth: int, size: int, stride: int, passes: int) -> Program:
    """RankGPT's sliding window (Sun et al., EMNLP 2023) with RankLLM's window rule."""
    order = state.order
    for _ in range(passes):
        for start, end in windows(min(depth, len(order)), size, stride):
            part = order[start:end]
            answers = yield [Group(state.query, tuple(state.items[j] for j in part), state.instruction)]
            order[start:end] = [part[p] for p in permutation_of(state, answers[0], len(part))]


def permutation_of(state: State, answer: Order, n: int) -> list[int]:
    """Return a permutation of range(n) out of whatever a list judge answered, noting repairs in the status."""
    state.status = state.status.worst(answer.status)
    valid = [p for p in (_whole(x) for x in answer.permutation) if 0 <= p < n]
    kept = list(dict.fromkeys(valid))
    if len(kept) != len(answer.permutation) or len(kept) != n:
        state.status = state.status.worst(Status.REPAIRED)
    seen = set(kept)
    return kept + [p for p in range(n) if p not in seen]


# -- groupwise -----------------------------------------------------------------------------------------------------


def split_groups(n: int, size: int, interleaved: bool, anchors: int) -> list[list[int]]:
    """Cut positions 0..n-1 into groups of at most ``size``.

    The first ``anchors`` positions stand in every group. Contiguous groups are cut in order; interleaved ones deal
    the positions out like cards, so that every group spans the whole range of ranks.
    """
    if anchors >= size:
        raise ValueError("a group needs room for candidates besides the anchors")
    if n <= size:
        return [list(range(n))] if n else []
    shared, rest = list(range(anchors)), list(range(anchors, n))
    room = size - anchors
    count = -(-len(rest) // room)
    if interleaved:
        parts = [rest[g::count] for g in range(count)]
    else:
        parts = [rest[i : i + room] for i in range(0, len(rest), room)]
    return [shared + part for part in parts]


def groupwise(state: State, depth: int, size: int, interleaved: bool, anchors: int, retry: bool) -> Program:
    """Score groups independently and merge (GroupRank's driver; group layout and alignment are ours).

    With anchors, each group's scores are mapped by the line that fits its anchors to the first group's. A group whose
    answer is unusable is asked again in two halves, then keeps its first-stage order below the scored ones.
    """
    head = state.order[:depth]
    groups = split_groups(len(head), size, interleaved, anchors)
    scored: list[tuple[list[int], np.ndarray]] = []
    pending, spent = groups, False
    for attempt in (0, 1):
        if not pending:
            break
        try:
            answers = yield [
                Group(state.query, tuple(state.items[head[p]] for p in g), state.instruction) for g in pending
            ]
        except BudgetSpent as budget:
            spent, answers, pending = True, budget.answers, pending[: len(budget.answers)]
        failed: list[list[int]] = []
        for group, answer in zip(pending, answers, strict=True):
            values = np.asarray(answer, dtype=np.float64).reshape(-1)
            if values.shape == (len(group),) and np.isfinite(values).all():
                scored.append((group, values))
            else:
                failed.append(group)
        if failed:
            state.status = state.status.worst(Status.REPAIRED)
        halves = [h for g in failed for h in (g[: len(g) // 2], g[len(g) // 2 :]) if h]
        pending = halves if retry and attempt == 0 and not spent else []
        _merge(state, head, scored, anchors)
    if not scored and not spent:
        state.status = state.status.worst(Status.FALLBACK)


def _merge(state: State, head: list[int], scored: list[tuple[list[int], np.ndarray]], anchors: int) -> None:
    total: dict[int, list[float]] = {}
    reference: dict[int, float] = {}
    for group, values in scored:
        aligned = values
        if anchors and reference:
            common = [at for at, p in enumerate(group) if p in reference]
            aligned = _align(values, values[common], np.array([reference[group[at]] for at in common]))
        elif anchors:
            reference = {p: v for p, v in zip(group, values.tolist(), strict=True) if p < anchors}
        for p, v in zip(group, aligned.tolist(), strict=True):
            total.setdefault(p, []).append(v)
    mean = {p: sum(v) / len(v) for p, v in total.items()}
    low = min(mean.values(), default=0.0) - 1.0
    order = sorted(range(len(head)), key=lambda p: -mean.get(p, low))
    state.order[: len(head)] = [head[p] for p in order]


def _align(values: np.ndarray, own: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Map values by the least-squares line own -> reference; only by a shift where a slope makes no sense."""
    if len(own) == 0:
        return values
    if len(own) > 1 and own.std() > 0:
        slope = float(((own - own.mean()) * (reference - reference.mean())).mean() / own.var())
        if slope > 0:
            return (values - own.mean()) * slope + reference.mean()
    return values - own.mean() + reference.mean()


# -- tournament ----------------------------------------------------------------------------------------------------


def tournament(state: State, depth: int, size: int, keep: int, rounds: int) -> Program:
    """Play ``rounds`` seeded tournaments (after TourRank, Chen et al., 2024).

    In a stage, groups of at most ``size`` are ordered and the best ``keep`` of each go on; the last ``size`` or fewer
    play a final. Points: stages survived plus the place in the final (a fraction below 1), summed over rounds; ties
    keep first-stage order. TourRank itself counts survived stages only, which leaves the top tied.
    """
    head = state.order[:depth]
    points = np.zeros(state.n)
    rng = np.random.default_rng(state.seed)
    for _ in range(rounds):
        alive = list(head)
        while len(alive) > 1:
            final = len(alive) <= size
            groups = _deal(alive, size, rng)
            answers = yield [Group(state.query, tuple(state.items[j] for j in g), state.instruction) for g in groups]
            survivors: list[int] = []
            for group, answer in zip(groups, answers, strict=True):
                ranked = [group[p] for p in permutation_of(state, answer, len(group))]
                if final:
                    for place, j in enumerate(ranked):
                        points[j] += (len(ranked) - place) / (len(ranked) + 1)
                else:
                    survivors.extend(ranked[:keep])
            points[survivors] += 1
            state.order[:depth] = sorted(head, key=lambda j: -points[j])
            alive = sorted(survivors, key=head.index)


def _deal(alive: Sequence[int], size: int, rng: np.random.Generator) -> list[list[int]]:
    """Deal candidates into groups of at most ``size``; every group spans the ranks, its inner order is shuffled."""
    count = -(-len(alive) // size)
    groups = [list(alive[g::count]) for g in range(count)]
    return [[g[p] for p in rng.permutation(len(g))] for g in groups]
