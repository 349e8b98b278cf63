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
failed=0
step() { # step NAME COMMAND…
    echo "── $1"
    shift
    "$@" || { echo "failed with $?: $*"; failed=1; }
}

step build "$python" -m pip install --no-build-isolation --no-deps --quiet -C cmake.define.TLEDGE_CUDA=ON \
    -C cmake.define.CMAKE_CUDA_ARCHITECTURES="${ARCHITECTURES:-native}" -e . 2>&1 | tee "$out/build.txt"
step tests "$python" -m pytest -q -p no:xdist tests/test_kernels_cuda.py -k device 2>&1 | tee "$out/tests.txt"
if command -v compute-sanitizer >/dev/null; then
    step memcheck timeout 200 compute-sanitizer --error-exitcode 9 "$python" -m pytest -q -p no:xdist \
        tests/test_kernels_cuda.py -k "device and (chunks or gram or pictures)" 2>&1 | tee "$out/memcheck.txt"
fi
step benchmark "$python" -m benchmarks.gpu --json >"$out/gpu.json" 2> >(tee "$out/gpu.txt" >&2) || failed=1
cat "$out/gpu.json"
for text in build tests memcheck; do
    grep -q "^failed with" "$out/$text.txt" 2>/dev/null && failed=1
done
exit $failed
