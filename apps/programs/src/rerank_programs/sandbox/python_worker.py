"""Runs Python and pandas programs: a preloaded process that forks one confined child a program.

The worker itself never evaluates a program's text. A child closes itself (rlimits, Landlock, seccomp without fork,
exec, sockets or signals to others) before the program starts, has only /dev/null for standard streams, and answers on
a pipe of its own with a nonce; whatever else comes is no result. The worker kills it at the limit. Nothing that one
program does to its memory or its inputs reaches the next.
"""

from __future__ import annotations

import gc
import json
import os
import re
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from types import CodeType
from typing import Any

from rerank_programs.results import Outcome, Verdict, decode, encode, failed
from rerank_programs.sandbox import confine, python_child
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.protocol import Closed, read_frame, write_frame

_CHANCE = re.compile(r"\b(random|uuid\d?|secrets|urandom|sample|shuffle|time|now|today)\b")
_CLOCK = re.compile(r"\b(now|today|time\.time|perf_counter|monotonic)\b")


@dataclass
class Walls:
    """What a child puts on before it runs a program."""

    landlock: confine.Landlock | None
    seccomp: bool
    memory: int
    base: tuple[int, int]
    file_bytes: int

    def put_on(self, cpu_seconds: int) -> None:
        """Close this process for good."""
        confine.limit_resources(memory=self.memory, cpu_seconds=cpu_seconds, file_bytes=self.file_bytes, base=self.base)
        if self.landlock is not None:
            self.landlock.apply()
        if self.seccomp:
            confine.seccomp(final=True)


@dataclass
class Child:
    """A running child: its process and the pipe it answers on."""

    pid: int
    pipe: int
    nonce: bytes


class Zygote:
    """The forking side of the worker."""

    def __init__(self, limits: Limits, walls: Walls, scratch: str | None, keep_open: tuple[int, ...]) -> None:
        self.limits, self.walls, self.scratch, self.keep_open = limits, walls, scratch, keep_open
        self._tests: tuple[str, list[CodeType | None]] = ("", [])

    def serve(self, job: dict[str, Any]) -> bytes:
        """Run one job and return the answer's bytes."""
        if job.get("kind") == "tests":
            return self._serve_tests(job)
        outcome = self._program(job, seed=0)
        if outcome.ok and _CHANCE.search(job["program"]):
            again = self._program(job, seed=1)
            if again != outcome or _CLOCK.search(job["program"]):
                outcome = Outcome(
                    outcome.verdict,
                    outcome.kind,
                    outcome.columns,
                    outcome.rows,
                    outcome.index,
                    flags=outcome.flags | {"nondeterministic"},
                    seconds=outcome.seconds,
                )
        return encode(outcome)

    def _program(self, job: dict[str, Any], seed: int) -> Outcome:
        start = time.monotonic()
        seconds = self.limits.seconds * max(1, int(job.get("runs", 1)))

        def work(write: Any) -> None:
            _seed(seed)
            outcome = self.run_in_child(job)
            try:
                data = encode(outcome)
            except (TypeError, ValueError, RecursionError) as error:
                data = encode(failed(Verdict.ERROR, f"the result cannot be shown: {error}"))
            except MemoryError:
                data = encode(failed(Verdict.MEMORY, "out of memory"))
            if len(data) > self.limits.result_bytes:
                data = encode(failed(Verdict.OUTPUT_TOO_LARGE, f"result of {len(data)} bytes"))
            write(data)

        child = self._fork(work, cpu_seconds=int(seconds) + 2)
        data, late = self._collect(child, start + seconds)
        status = self._end(child)
        taken = time.monotonic() - start
        if late:
            return failed(Verdict.TIMEOUT, f"stopped after {seconds:g} s", taken)
        if data[:16] == child.nonce and data[-16:] == child.nonce and len(data) > 32:
            try:
                found = decode(data[16:-16])
            except ValueError as error:
                return failed(Verdict.ERROR, f"the result is damaged: {error}", taken)
            return Outcome(
                found.verdict, found.kind, found.columns, found.rows, found.index, found.message, found.flags, taken
            )
        return failed(*_ended(status), taken)

    def run_in_child(self, job: dict[str, Any]) -> Outcome:
        """Run one program (in the child)."""
        return python_child.run_program(job, self.limits)

    def _serve_tests(self, job: dict[str, Any]) -> bytes:
        """Run a program's tests; the answer is one character a test, 1 passed, 0 failed."""
        tests = self._compiled(job["tests"])

        def work(write: Any) -> None:
            python_child.run_tests(job["program"], tests, float(job["test_seconds"]), int(job["hopeless"]), write)

        start = time.monotonic()
        most = float(job["seconds"])
        child = self._fork(work, cpu_seconds=int(most) + 2)
        data, _ = self._collect(child, start + most)
        self._end(child)
        bits = data[16:] if data[:16] == child.nonce else b""
        if bits[-16:] == child.nonce:
            bits = bits[:-16]
        bits = bits[: len(tests)]
        if bits.strip(b"01"):
            bits = b""
        return bits + b"0" * (len(tests) - len(bits))

    def _compiled(self, tests: list[str]) -> list[CodeType | None]:
        text = json.dumps(tests)
        if self._tests[0] != text:
            self._tests = (text, [_compile(t) for t in tests])
        return self._tests[1]

    def _fork(self, work: Any, cpu_seconds: int) -> Child:
        read, write = os.pipe()
        nonce = os.urandom(16)
        pid = os.fork()
        if pid:
            os.close(write)
            return Child(pid, read, nonce)
        status = 70
        try:
            confine.die_with_parent()
            for fd in (*self.keep_open, read):
                os.close(fd)
            os.setsid()
            if self.scratch:
                os.chdir(self.scratch)
            self.walls.put_on(cpu_seconds)
            put, leave = os.write, os._exit

            def send(data: bytes) -> None:
                view = memoryview(data)
                while view:
                    view = view[put(write, view) :]

            send(nonce)
            work(send)
            send(nonce)
            leave(0)
        except BaseException:  # noqa: BLE001 - nothing may climb out of a child
            status = 71
        finally:
            os._exit(status)

    def _collect(self, child: Child, deadline: float) -> tuple[bytes, bool]:
        """Read what the child says until it closes, talks too much or is late."""
        parts: list[bytes] = []
        size = 0
        poller = select.poll()
        poller.register(child.pipe, select.POLLIN)
        while size <= self.limits.result_bytes + 64:
            left = deadline - time.monotonic()
            if left <= 0 or not poller.poll(max(1, left * 1000)):
                return b"".join(parts), True
            part = os.read(child.pipe, 1 << 20)
            if not part:
                break
            parts.append(part)
            size += len(part)
        return b"".join(parts), False

    def _end(self, child: Child) -> int:
        os.close(child.pipe)
        done, status = os.waitpid(child.pid, os.WNOHANG)
        if not done:
            # The pipe may close a moment before the process ends on its own; then its own status is the better one.
            for _ in range(20):
                time.sleep(0.0005)
                done, status = os.waitpid(child.pid, os.WNOHANG)
                if done:
                    break
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        if not done:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            _, status = os.waitpid(child.pid, 0)
        self._sweep()
        return status

    def _sweep(self) -> None:
        """Empty the scratch folder."""
        if not self.scratch:
            return
        for entry in os.scandir(self.scratch):
            _remove(entry.path, entry.is_dir(follow_symlinks=False))


def _remove(path: str, folder: bool) -> None:
    import shutil

    if folder:
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108


def _compile(test: str) -> CodeType | None:
    try:
        return compile(test, "<test>", "exec")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _seed(seed: int) -> None:
    import random

    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)


def _ended(status: int) -> tuple[Verdict, str]:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name
        if number == signal.SIGXCPU:
            return Verdict.TIMEOUT, "CPU time used up"
        if number == signal.SIGKILL:
            return Verdict.MEMORY, "killed by the system"
        if number == signal.SIGXFSZ:
            return Verdict.DENIED, "file too large"
        return Verdict.ERROR, f"ended by {name}"
    return Verdict.ERROR, f"exited with status {os.WEXITSTATUS(status)} without a result"


def _preload(engine: str) -> None:
    for name in ("math", "itertools", "collections", "functools", "re", "typing", "string", "random", "datetime",
                 "heapq", "bisect", "copy", "statistics", "fractions", "decimal", "hashlib", "operator", "json"):  # fmt: skip
        __import__(name)
    if engine == "pandas":
        import pandas

        frame = pandas.DataFrame({"a": [1, 2, 2], "b": ["x", "y", "y"]})
        frame.groupby("b").agg("sum").merge(frame, on="a", how="outer").sort_values("a").to_json()
        frame["b"].str.upper().value_counts()
        frame.pivot_table(index="b", values="a")


def take_over_streams(layers: dict[str, Any]) -> tuple[int, int]:
    """Move the pool's pipes away from the standard streams; return (jobs, answers)."""
    confine.die_with_parent()
    jobs, answers = os.dup(0), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    os.close(null)
    if layers.get("scratch"):
        os.environ["HOME"] = os.environ["TMPDIR"] = layers["scratch"]
    return jobs, answers


def prepare(
    limits: Limits, layers: dict[str, Any], readable: list[str], keep_open: tuple[int, ...]
) -> tuple[Limits, Walls, str | None, tuple[int, ...]]:
    """Close the worker as far as forking allows and make ready what the children put on; a zygote's arguments."""
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 2)
    os.close(null)
    confine.no_new_privileges()
    confine.drop_capabilities()
    if layers.get("seccomp"):
        confine.seccomp(final=False)
    scratch = layers.get("scratch")
    # Landlock for the children only: the worker sweeps the scratch folder and reads nothing else.
    landlock = confine.Landlock(readable, [scratch] if scratch else []) if layers.get("landlock") else None
    walls = Walls(
        landlock,
        bool(layers.get("seccomp")),
        limits.memory_mib << 20,
        confine.memory_in_use(),
        limits.file_mib << 20,
    )
    gc.collect()
    gc.freeze()
    return limits, walls, scratch, keep_open


def serve_for_ever(zygote: Zygote, jobs: int, answers: int) -> None:
    """Answer jobs until the pool closes its end."""
    write_frame(answers, b"ready")
    while True:
        try:
            job = json.loads(read_frame(jobs))
            write_frame(answers, zygote.serve(job))
        except Closed:
            return


def main() -> None:
    """Serve jobs from stdin until it closes. Arguments: limits, layers, readable paths (JSON)."""
    limits = Limits.parse(sys.argv[1])
    layers, readable = json.loads(sys.argv[2]), json.loads(sys.argv[3])
    jobs, answers = take_over_streams(layers)
    _preload(layers["engine"])
    serve_for_ever(Zygote(*prepare(limits, layers, readable, (jobs, answers))), jobs, answers)
