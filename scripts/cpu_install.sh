#!/usr/bin/env bash
# Install the workspace with a CPU build of torch: 3.3 GB instead of 7.1.
#
# Everything but torch and its CUDA packages comes from the lock as it stands; then torch, in the locked version, from
# PyTorch's own CPU index, or, where PIP_FIND_LINKS names a folder with that wheel, from there. The lock is not touched.
# Afterwards run with UV_NO_SYNC=1, or `uv run` would put the CUDA build back.
set -euo pipefail
cd "$(dirname "$0")/.."

skip=() names=()
while read -r name; do
  skip+=(--no-install-package "$name")
  names+=("$name")
done < <(grep -oE '^name = "(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)"' uv.lock | sed 's/name = "\(.*\)"/\1/' | sort -u)
version=$(awk '/^name = "torch"$/{getline; gsub(/version = |"/, ""); print; exit}' uv.lock)
echo "torch $version for the CPU; left out: ${names[*]}"
if [ "${1:-}" = "--dry-run" ]; then exit 0; fi

uv sync --frozen "$@" "${skip[@]}"
wheel=$(find ${PIP_FIND_LINKS:-} -maxdepth 1 -name "torch-$version*cp311*.whl" ! -name '*cu1*' 2>/dev/null | head -n 1 || true)
if [ -n "${PIP_FIND_LINKS:-}" ] && [ -n "$wheel" ]; then
  uv pip install --no-deps "$wheel"
else
  uv pip install --no-deps --torch-backend cpu "torch==$version" torchvision
fi
echo "done; now: export UV_NO_SYNC=1"
