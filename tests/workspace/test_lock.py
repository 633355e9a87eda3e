from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_lock_names_only_the_public_index():
    text = (ROOT / "uv.lock").read_text()
    assert set(re.findall(r"https?://([^/\"]+)", text)) == {"pypi.org", "files.pythonhosted.org"}
    paths = re.findall(r'(?:path|directory|editable|virtual) = "([^"]+)"', text)
    assert all(not p.startswith("/") for p in paths)


def test_members_are_declared_once_and_depend_one_way():
    members = {p.parent.name: tomllib.loads(p.read_text()) for p in ROOT.glob("*/*/pyproject.toml")}
    apps = {n for n in members if (ROOT / "apps" / n).exists()}
    for name, config in members.items():
        needs = {re.split(r"[\[<>=; ]", d)[0] for d in config["project"]["dependencies"]}
        ours = {n.removeprefix("rerank-") for n in needs if n.startswith("rerank-")}
        assert not ours & apps, f"{name} depends on an app: {ours & apps}"


def test_importing_the_core_is_light():
    code = (
        "import time,sys,re;t=time.process_time();import rerank_core;t=time.process_time()-t;"
        # The peak since exec; getrusage would count this test process, from which the child was forked.
        "print(t,int(re.search(r'VmHWM:\\s+(\\d+)',open('/proc/self/status').read())[1])/1024,"
        "*(m in sys.modules for m in ('torch','transformers','lightgbm','pandas','scipy')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert float(out[0]) < 0.3, "seconds of processor time"
    assert float(out[1]) < 60, "MB"
    assert out[2:] == ["False"] * 5
