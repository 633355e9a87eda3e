from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "cpu_install.sh"


def clone(tmp_path: Path) -> Path:
    target = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(target)], check=True)
    return target


def test_the_cpu_script_leaves_out_exactly_torch_and_cuda():
    done = subprocess.run(["bash", str(SCRIPT), "--dry-run"], capture_output=True, text=True, check=True).stdout
    left_out = set(done.partition("left out: ")[2].split())
    assert {"torch", "torchvision", "triton", "nvidia-cudnn-cu13"} <= left_out
    assert all(n in ("torch", "torchvision", "triton") or n.startswith(("nvidia-", "cuda-")) for n in left_out)
    assert done.startswith("torch 2.13.0 for the CPU")


@pytest.mark.slow
def test_the_cpu_script_gives_a_working_torch_without_cuda(tmp_path):
    folder = os.environ.get("PIP_FIND_LINKS", "")
    if not folder or not list(Path(folder).glob("torch-2.13.0*cp311*.whl")):
        pytest.skip("no CPU wheel of torch in PIP_FIND_LINKS, and PyTorch's own index may be out of reach")
    if shutil.which("uv") is None or shutil.disk_usage(tmp_path).free < 6e9:
        pytest.skip("needs uv and 6 GB of disk")
    target = clone(tmp_path)
    env = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "UV_NO_SYNC")}
    subprocess.run(
        ["bash", "scripts/cpu_install.sh"], cwd=target, env=env, check=True, capture_output=True, timeout=400
    )
    code = "import torch, rerank_passages; print(torch.__version__, torch.version.cuda)"
    out = subprocess.run(
        [target / ".venv/bin/python", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout.split()
    assert out == ["2.13.0+cpu", "None"]
    shutil.rmtree(target)


@pytest.mark.slow
def test_the_core_installs_alone_light_and_without_torch(tmp_path):
    if shutil.which("uv") is None:
        pytest.skip("needs uv")
    env = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "UV_NO_SYNC", "UV_PROJECT_ENVIRONMENT")}
    wheels = tmp_path / "wheels"
    subprocess.run(
        ["uv", "build", "-q", "--wheel", "--package", "rerank-core", "-o", str(wheels)], cwd=ROOT, env=env, check=True
    )
    (wheel,) = wheels.glob("rerank_core-*.whl")
    venv = tmp_path / "venv"
    subprocess.run(["uv", "venv", "-q", "--python", sys.executable, str(venv)], env=env, check=True)
    subprocess.run(
        ["uv", "pip", "install", "-q", "--python", str(venv / "bin/python"), str(wheel)], env=env, check=True
    )
    listed = subprocess.run(
        ["uv", "pip", "list", "--python", str(venv / "bin/python"), "--format", "freeze"],
        capture_output=True,
        text=True,
        env=env,
        check=True,
    ).stdout.split()
    print(len(listed), listed)
    assert len(listed) <= 20
    assert not any(p.startswith(("torch", "transformers")) for p in listed)
    out = subprocess.run([venv / "bin/rerank", "domains", "--json"], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
    missing = subprocess.run(
        [venv / "bin/python", "-c", "from rerank_core.learning import *; import numpy as np\n"
         "LambdaRank().fit(FeatureTable(('a',), np.eye(2)[:, :1], np.array([0, 2])), np.array([0., 1.]))"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "pip install 'rerank-core[ltr]'" in missing.stderr
    assert "'lightgbm'" in missing.stderr
