#!/usr/bin/env bash
# Build with CUDA, check every kernel against its reference, time everything: benchmarks/gpu.sh, on a machine with a GPU.
# Needs no network, but in this Python: nanobind, scikit-build-core, cmake, ninja, pytest, torch, timm, onnx. What comes of
# it stands in $OUT (build/gpu by default): build.txt, tests.txt, memcheck.txt, gpu.json. Not run on a GPU yet.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-build/gpu}
mkdir -p "$out"
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1
step() { # step NAME COMMAND…: what it says and how it ended goes to NAME.txt
    local name=$1
    shift
    { "$@" 2>&1 || echo "failed with $?: $*"; } | tee "$out/$name.txt"
}

step build "$python" -m pip install --no-build-isolation --no-deps --quiet -C cmake.define.TLEDGE_CUDA=ON \
    -C cmake.define.CMAKE_CUDA_ARCHITECTURES="${ARCHITECTURES:-native}" -e .
step tests "$python" -m pytest -q -p no:xdist tests/test_kernels_cuda.py -k "not emulated"
if command -v compute-sanitizer >/dev/null; then
    step memcheck timeout 200 compute-sanitizer --error-exitcode 9 "$python" -m pytest -q -p no:xdist \
        tests/test_kernels_cuda.py -k "not emulated and (chunks or gram or pictures)"
fi
{ "$python" -m benchmarks.gpu --json >"$out/gpu.json" || echo "failed with $?: the benchmark"; } 2>&1 | tee "$out/gpu.txt"
cat "$out/gpu.json"
! grep -l "^failed with" "$out"/*.txt
