"""What a forked child does with one Python program: build the inputs, run it, return what it computed."""

from __future__ import annotations

import ast
import signal
import sys
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

from rerank_programs.results import Outcome, Verdict, failed
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.portable import Portable, TooManyCells

_DENIED = {1, 13, 30}  # EPERM, EACCES, EROFS


class TestTimeout(BaseException):
    """One test ran too long. Not an Exception, so that a program's own handlers rarely swallow it."""


class NoResult(Exception):
    """The program ended without the value that was asked for."""


def judge(error: BaseException) -> tuple[Verdict, str]:
    """Name an exception that ended a program."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, MemoryError):
        return Verdict.MEMORY, "out of memory"
    if isinstance(error, TooManyCells):
        return Verdict.OUTPUT_TOO_LARGE, str(error)
    if isinstance(error, TestTimeout):
        return Verdict.TIMEOUT, "stopped"
    if isinstance(error, OSError) and error.errno in _DENIED:
        return Verdict.DENIED, text
    if isinstance(error, BlockingIOError):
        return Verdict.DENIED, text
    return Verdict.ERROR, text


def run_program(job: dict[str, Any], limits: Limits) -> Outcome:
    """Run a program on every one of its inputs, or evaluate calls to what it defines."""
    try:
        body, last = _compiled(job["program"])
        values = [_run_once(body, last, inputs, job.get("database")) for inputs in job.get("inputs") or ()]
        if job.get("calls"):
            return _calls(body, job["calls"], limits)
        if not values:
            values = [_run_once(body, last, {}, job.get("database"))]
        if len(values) == 1:
            value, same = values[0]
            outcome = Portable(limits.cells).outcome(value)
            return _flagged(outcome, same)
        portable = Portable(limits.cells)
        return Outcome(Verdict.OK, "value", ("run",), tuple((portable.cell(v),) for v, _ in values))
    except BaseException as error:  # noqa: BLE001 - whatever a program raises is its verdict
        return failed(*judge(error))


def _flagged(outcome: Outcome, same: bool) -> Outcome:
    if not same:
        return outcome
    return Outcome(
        outcome.verdict, outcome.kind, outcome.columns, outcome.rows, outcome.index, flags=frozenset({"same_as_input"})
    )


def _compiled(program: str) -> tuple[CodeType, CodeType | None]:
    """Compile a program; where its last statement is an expression, that one apart."""
    tree = ast.parse(program, "<candidate>")
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = compile(ast.Expression(tree.body.pop().value), "<candidate>", "eval")  # type: ignore[attr-defined]
    return compile(tree, "<candidate>", "exec"), last


def _namespace() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "candidate"}
    for alias, module in (("pd", "pandas"), ("np", "numpy")):
        if module in sys.modules:
            names[alias] = sys.modules[module]
    return names


def _run_once(body: CodeType, last: CodeType | None, inputs: dict[str, Any], folder: str | None) -> tuple[Any, bool]:
    names = _namespace()
    for name, expression in inputs.get("variables", {}).items():
        names[name] = eval(expression, names)
    for name, file in inputs.get("files", {}).items():
        names[name] = _read(file, folder)
    if folder is not None and not inputs.get("files") and "pandas" in sys.modules:
        names |= _tables(folder)
    pandas = sys.modules.get("pandas")
    before = [v.copy() for v in names.values() if pandas is not None and isinstance(v, pandas.DataFrame)]
    exec(body, names)
    output = inputs.get("output")
    value = eval(last, names) if last is not None else None
    if output is not None and output in names:
        value = names[output]
    elif last is None:
        raise NoResult(f"no variable {output!r}" if output else "the program ends without an expression")
    same = pandas is not None and isinstance(value, pandas.DataFrame) and any(value.equals(b) for b in before)
    return value, same


def _read(file: str, folder: str | None) -> Any:
    import os

    import pandas

    path = os.path.join(folder or "", file)  # noqa: PTH118
    if file.endswith(".parquet"):
        return pandas.read_parquet(path)
    return pandas.read_json(path) if file.endswith(".json") else pandas.read_csv(path)


def _tables(folder: str) -> dict[str, Any]:
    import os

    files = sorted(os.listdir(folder)) if os.path.isdir(folder) else []  # noqa: PTH112, PTH208
    return {f.rsplit(".", 1)[0]: _read(f, folder) for f in files if f.rsplit(".", 1)[-1] in ("csv", "parquet", "json")}


def _calls(body: CodeType, calls: Sequence[str], limits: Limits) -> Outcome:
    names = _namespace()
    exec(body, names)
    portable = Portable(limits.cells)
    rows: list[tuple[Any, ...]] = []
    works = False
    for call in calls:
        try:
            rows.append((portable.cell(eval(call, names)),))
            works = True
        except TooManyCells:
            raise
        except Exception as error:  # noqa: BLE001 - raising on an input is behaviour too
            rows.append(({"$error": type(error).__name__},))
    if not works:
        raise NoResult("every call failed")
    return Outcome(Verdict.OK, "value", ("call",), tuple(rows))


def run_tests(
    program: str, tests: Sequence[CodeType | None], seconds: float, hopeless: int, report: Callable[[bytes], None]
) -> None:
    """Run every test against a program; report ``1`` or ``0`` for each as it ends.

    Parameters
    ----------
    tests
        Compiled asserts; None (did not compile) fails.
    seconds
        CPU time of one test; wall time is capped at ten times that, so that a busy machine changes no answer.
    hopeless
        Give up after so many tests that all ran into the limit, when none has passed yet.
    """

    def stop(*_: object) -> None:
        raise TestTimeout

    set_timer, real, prof = signal.setitimer, signal.ITIMER_REAL, signal.ITIMER_PROF
    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGPROF, stop)
    names: dict[str, Any] = {"__name__": "candidate"}
    run = exec
    try:
        set_timer(prof, 10 * seconds)
        run(compile(program, "<candidate>", "exec"), names)
        set_timer(prof, 0)
    except BaseException:  # noqa: BLE001 - a program that does not even define itself passes nothing
        set_timer(prof, 0)
        report(b"0" * len(tests))
        return
    any_passed, late = False, 0
    for test in tests:
        passed = b"0"
        try:
            if test is not None:
                set_timer(prof, seconds)
                set_timer(real, 10 * seconds)
                run(test, names)
                passed, any_passed = b"1", True
        except TestTimeout:
            late += 1
        except BaseException:  # noqa: BLE001 - any way to end other than well is a failed test
            late = 0
        try:
            set_timer(prof, 0)
            set_timer(real, 0)
        except TestTimeout:
            passed = b"0"
        report(passed)
        if late >= hopeless and not any_passed:
            return
