"""Drives workers from outside: hands out jobs, waits no longer than the limits say, kills, starts anew.

The pool never imports or evaluates a program. A worker that stays silent past the hard limit is killed with its whole
process group (inside bubblewrap the kernel then ends everything in its process namespace) and replaced; the job gets
its verdict and the next job starts in a clean worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerank_programs.results import Outcome, Verdict, decode, failed
from rerank_programs.sandbox import walls as walls_module
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.protocol import HEADER, Closed, Overdue, TooLarge, read_frame, write_frame
from rerank_programs.sandbox.walls import NoIsolation, Walls

START_SECONDS = 60.0


@dataclass(frozen=True)
class Engine:
    """What kind of worker runs a program.

    Parameters
    ----------
    module
        Worker module under ``rerank_programs.sandbox``.
    packages
        Whether it needs installed packages.
    code
        Whether programs are arbitrary code: then weak walls are refused.
    scratch
        Whether programs get a private folder to write in.
    """

    name: str
    module: str
    packages: bool
    code: bool
    scratch: bool


ENGINES = {
    "sqlite": Engine("sqlite", "sqlite_worker", packages=False, code=False, scratch=False),
    "duckdb": Engine("duckdb", "duckdb_worker", packages=True, code=False, scratch=False),
    "python": Engine("python", "python_worker", packages=False, code=True, scratch=True),
    "pandas": Engine("pandas", "python_worker", packages=True, code=True, scratch=True),
    "m": Engine("m", "m_worker", packages=True, code=True, scratch=True),
}


class Worker:
    """One worker process and its pipes."""

    def __init__(self, engine: Engine, limits: Limits, walls: Walls, readable: Sequence[str]) -> None:
        self.engine, self.limits = engine, limits
        self._folder = tempfile.mkdtemp(prefix="rerank-programs-") if engine.scratch else None
        layers = {"landlock": walls.landlock, "seccomp": walls.seccomp, "scratch": self._folder, "engine": engine.name}
        paths = [*walls_module.python_paths(packages=engine.packages), *readable]
        command = walls_module.command(
            walls,
            engine.module,
            [limits.key(), json.dumps(layers), json.dumps([*paths, *_SYSTEM])],
            readable=readable,
            packages=engine.packages,
            scratch=self._folder,
        )
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=walls_module.ENVIRONMENT,
            cwd=self._folder or "/",
            start_new_session=True,
            bufsize=0,
        )
        assert self.process.stdin and self.process.stdout
        self.jobs, self.answers = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.ready = False

    def wait_ready(self) -> None:
        """Wait for the worker's greeting.

        Raises
        ------
        NoIsolation
            When it does not start; with its last words.
        """
        if self.ready:
            return
        try:
            read_frame(self.answers, time.monotonic() + START_SECONDS)
        except (Closed, Overdue, TooLarge) as error:
            self.kill()
            words = self.process.stderr.read().decode("utf-8", "replace").strip() if self.process.stderr else ""
            last = words.splitlines()[-1] if words else type(error).__name__
            raise NoIsolation(f"the {self.engine.name} worker did not start: {last}") from error
        self.ready = True

    def kill(self) -> None:
        """End the worker and everything it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Kill, and remove what it may have written."""
        self.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/zero", "/dev/urandom")


class Pool:
    """A pool of workers of one engine. Use it as a context manager.

    Parameters
    ----------
    engine
        ``sqlite``, ``duckdb``, ``python``, ``pandas`` or ``m``.
    readable
        Data files and folders that programs may read.
    workers
        Processes at work at once.
    unsafe_local
        Run code even where the machine offers no wall.

    Raises
    ------
    NoIsolation
        When the engine runs code and the walls are too weak.
    """

    def __init__(
        self,
        engine: str,
        *,
        readable: Sequence[str | Path] = (),
        limits: Limits | None = None,
        workers: int = 2,
        walls: Walls | None = None,
        unsafe_local: bool = False,
    ) -> None:
        self.engine = ENGINES[engine]
        self.limits = limits or Limits()
        self.walls = walls or walls_module.detect()
        if self.engine.code and not (self.walls.enough_for_code or unsafe_local):
            raise NoIsolation(
                f"no isolation for {engine} programs here (found: {self.walls.label}); install bubblewrap "
                "(pip install 'rerank-programs[bubblewrap]') or accept the risk with --unsafe-local"
            )
        unsafe = self.engine.code and not self.walls.enough_for_code
        self.isolation = ("unsafe-local+" if unsafe else "") + self.walls.label
        self._readable = [str(Path(p).resolve()) for p in readable]
        self._workers: list[Worker | None] = [None] * max(1, workers)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers."""
        for i, worker in enumerate(self._workers):
            if worker is not None:
                worker.close()
                self._workers[i] = None

    def run(self, jobs: Sequence[Mapping[str, Any]], seconds: float | None = None) -> list[Outcome]:
        """Run jobs; the outcomes come back in their order, however they end.

        Parameters
        ----------
        seconds
            Hard limit per job where a job is made of many short runs; by default the limits' seconds.
        """
        return [_outcome(data) for data in self.run_raw(jobs, seconds)]

    def run_raw(self, jobs: Sequence[Mapping[str, Any]], seconds: float | None = None) -> list[bytes | Outcome]:
        """Like [`run`][rerank_programs.sandbox.pool.Pool.run], with the worker's answers as bytes.

        One thread serves all workers: a worker is tied to the life of the very thread that started it.
        """
        answers: list[bytes | Outcome] = [_NOT_RUN] * len(jobs)
        hard = (self.limits.seconds if seconds is None else seconds) + self.limits.grace
        turns = iter(range(len(jobs)))
        busy: dict[int, _Turn] = {}  # the worker's pipe -> what it is at
        poller = select.poll()
        idle = list(range(min(len(self._workers), len(jobs))))[::-1]
        try:
            while True:
                while idle and (i := next(turns, None)) is not None:
                    turn = self._start(idle[-1], i, jobs[i], hard, answers)
                    if turn is not None:
                        busy[turn.pipe] = turn
                        poller.register(turn.pipe, select.POLLIN)
                        idle.pop()
                if not busy:
                    return answers
                wait = min(t.deadline for t in busy.values()) - time.monotonic()
                ready = {fd for fd, _ in poller.poll(max(0.0, wait) * 1000 + 1)}
                for turn in list(busy.values()):
                    if self._settle(turn, turn.pipe in ready, hard, answers):
                        poller.unregister(turn.pipe)
                        del busy[turn.pipe]
                        idle.append(turn.slot)
                        self._bury(turn)
        except BaseException:
            self.close()
            raise

    def _start(
        self, slot: int, i: int, job: Mapping[str, Any], hard: float, answers: list[bytes | Outcome]
    ) -> _Turn | None:
        """Send a job to a worker; None where the answer is known at once."""
        program = str(job.get("program", ""))
        if len(program.encode("utf-8", "surrogatepass")) > self.limits.text_bytes:
            answers[i] = failed(Verdict.DENIED, f"program longer than {self.limits.text_bytes} bytes")
            return None
        text = json.dumps(job).encode("ascii")
        for attempt in (1, 2):
            worker = self._worker(slot)
            try:
                write_frame(worker.jobs, text)
                return _Turn(slot, i, worker, worker.answers, time.monotonic() + hard)
            except Closed:  # died between two jobs
                self._drop(slot)
                if attempt == 2:
                    answers[i] = failed(Verdict.ERROR, "the worker ended before it could run this")
        return None

    def _settle(self, turn: _Turn, ready: bool, hard: float, answers: list[bytes | Outcome]) -> bool:
        """Take what a worker has said so far; True when its turn is over."""
        verdict: bytes | Outcome | None = None
        if ready:
            try:
                verdict = turn.read(self.limits.result_bytes + 4096)
            except TooLarge as error:
                verdict = failed(Verdict.OUTPUT_TOO_LARGE, f"answer of {error.args[0]} bytes")
                turn.dead = True
            except Closed:
                verdict = failed(*_last_breath(turn.worker.process.wait()))
                turn.dead = True
        if verdict is None and time.monotonic() > turn.deadline:
            verdict = failed(Verdict.TIMEOUT, f"killed after {hard:g} s", hard)
            turn.dead = True
        if verdict is None:
            return False
        answers[turn.job] = verdict
        return True

    def _bury(self, turn: _Turn) -> None:
        if turn.dead:
            self._drop(turn.slot)

    def _worker(self, slot: int) -> Worker:
        worker = self._workers[slot]
        if worker is None:
            worker = self._workers[slot] = Worker(self.engine, self.limits, self.walls, self._readable)
        worker.wait_ready()
        return worker

    def _drop(self, slot: int) -> None:
        worker = self._workers[slot]
        if worker is not None:
            worker.close()
            self._workers[slot] = None


@dataclass
class _Turn:
    """A worker at work on a job."""

    slot: int
    job: int
    worker: Worker
    pipe: int
    deadline: float
    dead: bool = False
    heard: bytearray = field(default_factory=bytearray)

    def read(self, limit: int) -> bytes | None:
        """Read what is there; the answer once it is complete."""
        part = os.read(self.pipe, 1 << 20)
        if not part:
            raise Closed
        self.heard += part
        if len(self.heard) < HEADER.size:
            return None
        (size,) = HEADER.unpack_from(self.heard)
        if size > limit:
            raise TooLarge(size)
        return bytes(self.heard[HEADER.size :]) if len(self.heard) == HEADER.size + size else None


_NOT_RUN = failed(Verdict.ERROR, "not run")


def _outcome(answer: bytes | Outcome) -> Outcome:
    if isinstance(answer, Outcome):
        return answer
    try:
        return decode(answer)
    except ValueError as error:
        return failed(Verdict.ERROR, f"the worker's answer is damaged: {error}")


def _last_breath(code: int | None) -> tuple[Verdict, str]:
    """Say why a worker is gone."""
    if code is not None and code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return Verdict.MEMORY, "the worker was killed by the system"
    return Verdict.ERROR, f"the worker ended with status {code}"
