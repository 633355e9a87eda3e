"""Running the command inside the test process: importing torch in dozens of fresh ones would take minutes."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest


def command(*args: object, rc: int = 0) -> subprocess.CompletedProcess[str]:
    """Run ``rerank-image`` and check its exit code."""
    from rerank_image.cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["rerank-image", *map(str, args)])
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    assert code == rc, err.getvalue()
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())
