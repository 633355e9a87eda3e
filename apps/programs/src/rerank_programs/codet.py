"""CodeT (Chen et al., ICLR 2023): programs and model-written tests agree with one another.

Follows the published code, which departs from the paper in the score: a consensus set (programs that pass exactly the
same tests) scores *number of passed tests x square root of number of programs*, both with multiplicity; the paper's
formula has the plain product. ``pass@k`` merges sets of equal score and draws one program from each of the first k, with
replacement and again from the first where there are fewer; a problem where nothing passes falls back to a random draw.

The limit of a test is CPU time here and wall time there, so that a busy machine changes no answer.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import InputError
from rerank_core.files import read_jsonl
from rerank_core.measures import Row
from rerank_core.statistics import bootstrap
from rerank_core.types import Cost, Ranking, Request, Status
from rerank_programs.data import Program, Task, read_candidates
from rerank_programs.results import Outcome
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.pool import Pool

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
TESTS_PER_SAMPLE = 5


@dataclass(frozen=True, slots=True)
class Test:
    """A model-written assert and how often it was written."""

    text: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class ConsensusSet:
    """Programs that agree: their positions, best set first.

    ``score`` is passed tests times the square root of programs, with multiplicity.
    """

    score: float
    members: tuple[int, ...]


@dataclass(frozen=True)
class CodeTConfig:
    """Limits of the test runs.

    Parameters
    ----------
    test_seconds
        CPU time of one test.
    program_seconds
        Wall time of all tests of one program; what has not run by then has failed.
    hopeless
        After this many tests in a row that met the limit, none passed before, a program is given up.
    """

    test_seconds: float = 0.1
    program_seconds: float = 20.0
    memory_mib: int = 512
    hopeless: int = 10


def truncate(completion: str) -> str:
    """Cut a completion at the first of each stop word in turn."""
    for stop in STOPS:
        completion = completion.split(stop)[0]
    return completion


def extract_tests(samples: Iterable[str], entry_point: str) -> list[Test]:
    """Turn sampled continuations into distinct tests: the first five valid asserts of every sample that name the
    entry point, merged with their counts in order of first appearance."""
    counts: dict[str, int] = defaultdict(int)
    for sample in samples:
        kept = 0
        for piece in f"assert {sample}".split("assert ")[1:]:
            test = "assert " + truncate(piece.strip())
            if kept == TESTS_PER_SAMPLE:
                break
            if entry_point in test and _compiles(test):
                counts[test] += 1
                kept += 1
    return [Test(t, n) for t, n in counts.items()]


def _compiles(test: str) -> bool:
    # Parsing only: nothing of the text runs here.
    indented = "try:\n    " + test.replace("\n", "\n    ") + "\nexcept Exception:\n    pass\n"
    try:
        compile(indented, "<test>", "exec")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def pass_matrix(
    requests: Sequence[Request[Task, Program]],
    tests: Mapping[str, Sequence[Test]],
    config: CodeTConfig | None = None,
    *,
    workers: int = 2,
    unsafe_local: bool = False,
) -> tuple[dict[str, NDArray[np.bool_]], str]:
    """Run every candidate against every test of its problem.

    Returns
    -------
    matrices
        Request id -> shape (n_candidates, n_tests), True where the test passes.
    isolation
        The layers in force.
    """
    config = config or CodeTConfig()
    jobs, places = [], []
    for request in requests:
        texts = [t.text for t in tests.get(request.id, ())]
        for i, candidate in enumerate(request.candidates):
            jobs.append(
                {
                    "kind": "tests",
                    "program": request.query.prefix + candidate.content.text,
                    "tests": texts,
                    "test_seconds": config.test_seconds,
                    "seconds": config.program_seconds,
                    "hopeless": config.hopeless,
                }
            )
            places.append((request.id, i))
    limits = Limits(seconds=config.program_seconds, memory_mib=config.memory_mib)
    with Pool("python", limits=limits, workers=workers, unsafe_local=unsafe_local) as pool:
        answers = pool.run_raw(jobs)
        isolation = pool.isolation
    out = {r.id: np.zeros((len(r.candidates), len(tests.get(r.id, ()))), dtype=bool) for r in requests}
    for (key, i), answer in zip(places, answers, strict=True):
        if not isinstance(answer, Outcome) and len(answer) == out[key].shape[1]:
            out[key][i] = np.frombuffer(answer, dtype=np.uint8) == ord("1")
    return out, isolation


def consensus(passed: NDArray[np.bool_], programs: Sequence[int], tests: Sequence[int]) -> list[ConsensusSet]:
    """Group programs by the tests they pass.

    Parameters
    ----------
    passed
        Shape (n_programs, n_tests).
    programs, tests
        Multiplicities, shapes (n_programs,) and (n_tests,).

    Returns
    -------
    list of ConsensusSet
        Falling score; programs that pass nothing are in none.
    """
    weight = np.asarray(tests, dtype=np.int64)
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, row in enumerate(passed):
        if row.any():
            groups[np.packbits(row).tobytes()].append(i)
    sets = []
    for members in groups.values():
        support = int(weight[passed[members[0]]].sum())
        sets.append(ConsensusSet(support * math.sqrt(sum(programs[i] for i in members)), tuple(members)))
    return sorted(sets, key=lambda s: (-s.score, s.members))


def merged(sets: Sequence[ConsensusSet]) -> list[ConsensusSet]:
    """Merge sets of equal score, as the published evaluation does before it draws."""
    by_score: dict[float, list[int]] = defaultdict(list)
    for s in sets:
        by_score[s.score] += s.members
    return [ConsensusSet(score, tuple(sorted(by_score[score]))) for score in sorted(by_score, reverse=True)]


def pass_at_k(sets: Sequence[ConsensusSet], counts: Sequence[int], right: Sequence[float], k: int) -> float:
    """Chance that one of k draws, one from each of the first k sets in turn, is right.

    Parameters
    ----------
    counts, right
        Multiplicity and correctness (0/1) of every program.
    """
    if not sets:
        return random_pass_at_k(counts, right, k)
    sets = merged(sets)
    missed = 1.0
    for j in range(k):
        members = sets[j % len(sets)].members
        n = sum(counts[i] for i in members)
        missed *= 1.0 - sum(counts[i] for i in members if right[i] > 0.5) / n
    return 1.0 - missed


def random_pass_at_k(counts: Sequence[int], right: Sequence[float], k: int) -> float:
    """Unbiased pass@k of a random draw (Chen et al. 2021, section 2.1)."""
    n = sum(counts)
    c = sum(w for w, r in zip(counts, right, strict=True) if r > 0.5)
    return _at_least_one(n, c, min(k, n))


def _at_least_one(n: int, c: int, k: int) -> float:
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def ranking(request: Request[Task, Program], sets: Sequence[ConsensusSet]) -> Ranking:
    """Order candidates by their set's score; inside a set the more often sampled first; the rest last."""
    scores = {i: s.score for s in sets for i in s.members}
    counts = [c.content.count for c in request.candidates]
    order = sorted(range(len(counts)), key=lambda i: (-scores.get(i, -1.0), -counts[i], i))
    ids = request.ids
    place = {i: n for n, s in enumerate(sets, 1) for i in s.members}
    return Ranking.from_order(
        request,
        [ids[i] for i in order],
        scores={ids[i]: scores.get(i, 0.0) for i in order},
        status=Status.OK if sets else Status.FALLBACK,
        cost=Cost(calls=len(ids)),
        reasons={ids[i]: f"consensus set {n} of {len(sets)}" for i, n in place.items()},
    )


def read_problems(tasks: str | Path, candidates: str | Path) -> list[Request[Task, Program]]:
    """Read tasks (``task_id``, ``prompt``, ``entry_point``) and the completions sampled for them.

    Candidates come as ``{"task_id", "candidates": [{"cid", "completion", "count"}]}``, or as CodeT publishes them,
    ``{"prompt", "samples": [...]}``, which are truncated and merged here.

    Raises
    ------
    InputError
        With file and line, where a task is missing for a candidate or a field is wrong.
    """
    prompts, by_prompt = _tasks(tasks)
    raw = dict(read_jsonl(candidates))
    if raw and all("samples" in r and "prompt" in r for r in raw.values()):
        return [_sampled(r, by_prompt, candidates, n) for n, r in raw.items()]
    out = []
    for request in read_candidates(candidates):
        if request.id not in prompts:
            raise InputError(f"no task {request.id!r} in {tasks}", candidates)
        task = Task(prompts[request.id], "python", prefix=prompts[request.id])
        out.append(Request(request.id, task, request.candidates))
    return out


def _tasks(path: str | Path) -> tuple[dict[str, str], dict[str, str]]:
    prompts: dict[str, str] = {}
    for line, record in read_jsonl(path):
        if "task_id" not in record or "prompt" not in record:
            raise InputError("a task needs 'task_id' and 'prompt'", path, line)
        prompts[str(record["task_id"])] = str(record["prompt"])
    return prompts, {p: t for t, p in prompts.items()}


def _sampled(
    record: Mapping[str, Any], by_prompt: Mapping[str, str], path: str | Path, line: int
) -> Request[Task, Program]:
    from rerank_core.types import Candidate

    prompt = record["prompt"]
    if prompt not in by_prompt:
        raise InputError("no task has this prompt", path, line)
    counts: dict[str, int] = defaultdict(int)
    for sample in record["samples"]:
        counts[truncate(str(sample))] += 1
    candidates = tuple(Candidate(str(i), Program(t, count=n)) for i, (t, n) in enumerate(counts.items()))
    return Request(by_prompt[prompt], Task(prompt, "python", prefix=prompt), candidates)


def read_tests(path: str | Path, tasks: str | Path) -> dict[str, list[Test]]:
    """Read tests: ``{"task_id", "tests": [{"test", "count"}]}``, or CodeT's ``{"prompt", "samples"}``."""
    _, by_prompt = _tasks(tasks)
    out: dict[str, list[Test]] = {}
    for line, record in read_jsonl(path):
        if "samples" in record:
            prompt = record.get("prompt", "")
            owner = next((t for p, t in by_prompt.items() if prompt.startswith(p)), None)
            if owner is None:
                raise InputError("no task has this prompt", path, line)
            names = re.findall(r"^def (\w+)", prompt, re.M)
            out[owner] = extract_tests(map(str, record["samples"]), names[-1] if names else "")
            continue
        try:
            out[str(record["task_id"])] = [Test(str(t["test"]), int(t.get("count", 1))) for t in record["tests"]]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"tests need 'task_id' and 'tests' of 'test' and 'count' ({error})", path, line) from None
    return out


def record(request: Request[Task, Program], sets: Sequence[ConsensusSet], isolation: str) -> dict[str, Any]:
    """Return a problem's ranking with its consensus sets, as written by the command."""
    from rerank_core.io import ranking_to_json

    ids = request.ids
    total = sum(s.score for s in sets)
    out = ranking_to_json(ranking(request, sets), seconds=False)
    out |= {
        "method": "codet",
        "confidence": round(sets[0].score / total, 6) if sets else 0.0,
        "isolation": [isolation],
        "consensus_sets": [{"score": round(s.score, 6), "members": [ids[i] for i in s.members]} for s in sets],
        "programs": {c.id: c.content.text for c in request.candidates},
    }
    return out


def pass_rows(
    requests: Sequence[Request[Task, Program]],
    sets: Mapping[str, Sequence[ConsensusSet]],
    gold: Mapping[str, Mapping[str, float]],
    ks: Sequence[int] = (1, 2, 10),
    *,
    seed: int = 0,
) -> list[Row]:
    """Return CodeT's pass@k and a random draw's, with bootstrap intervals over problems."""
    values: dict[tuple[str, int], list[tuple[float]]] = defaultdict(list)
    for request in requests:
        if request.id not in gold:
            continue
        counts = [c.content.count for c in request.candidates]
        right = [gold[request.id].get(c.id, 0.0) for c in request.candidates]
        for k in ks:
            values["codet", k].append((pass_at_k(sets[request.id], counts, right, k),))
            values["random", k].append((random_pass_at_k(counts, right, k),))
    rows = []
    for (system, k), column in values.items():
        matrix = np.array(column)
        low, high = bootstrap(matrix, lambda m: float(m.mean()), seed=seed)
        rows.append(Row(system, f"pass@{k}", float(matrix.mean()), len(matrix), low, high))
    return rows


def matrix_record(request_id: str, passed: NDArray[np.bool_]) -> dict[str, Any]:
    """Encode a pass matrix: one hexadecimal number a program, its first test the highest bit."""
    numbers = [int("".join("1" if x else "0" for x in row) or "0", 2) for row in passed]
    return {"task_id": request_id, "n_tests": passed.shape[1], "pass_matrix_hex": [f"{n:x}" for n in numbers]}


def read_matrices(
    path: str | Path, requests: Sequence[Request[Task, Program]], tests: Mapping[str, Sequence[Test]]
) -> dict[str, NDArray[np.bool_]]:
    """Read pass matrices; see `matrix_record`.

    Raises
    ------
    InputError
        When a problem is missing, or its matrix has other programs or tests.
    """
    known = {str(r.get("task_id")): (n, r) for n, r in read_jsonl(path)}
    out = {}
    for request in requests:
        if request.id not in known:
            raise InputError(f"no matrix of {request.id!r}", path)
        line, value = known[request.id]
        width, numbers = int(value["n_tests"]), value["pass_matrix_hex"]
        if width != len(tests.get(request.id, ())) or len(numbers) != len(request.candidates):
            raise InputError("matrix and candidates or tests differ in number", path, line)
        bits = [[b == "1" for b in f"{int(x, 16):0{width}b}"] if width else [] for x in numbers]
        out[request.id] = np.array(bits, dtype=bool).reshape(len(numbers), width)
    return out
