"""The CUDA kernels: on a GPU where there is one, and everywhere as C++ that emulates one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nanobind
import numpy as np
import pytest
from test_kernels import cases, difference, noise
from test_kernels_loss_grad import EPSILON, KINDS, SIZES, case, computed, exact

from tledge import gpu, native, reference
from tledge.errors import TledgeError
from tledge.heads import regression
from tledge.modalities.image import fit_into
from tledge.schema import PreprocessSpec

ROOT = Path(__file__).parent.parent
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-fvisibility=hidden", "-x", "c++"]
no_gpu = pytest.mark.skipif(not gpu.name(), reason="needs a CUDA device, and a build with -DTLEDGE_CUDA=ON")


def build(folder: Path) -> Path:
    """Compile the .cu files as C++, with headers of our own in place of CUDA's."""
    bound, module = Path(nanobind.__file__).parent, folder / "_kernels.so"
    ours, fake, python = ROOT / "kernels", ROOT / "tests" / "emulated_cuda", sysconfig.get_path("include")
    sources = (*ours.glob("*.cu"), ours / "cuda.cpp", fake / "module.cpp", bound / "src" / "nb_combined.cpp")
    headers = (fake, ours, python, bound / "include", bound / "ext" / "robin_map" / "include")
    options = [word for header in headers for word in ("-I", header)]
    done = subprocess.run([COMPILER, *FLAGS, *options, *sources, "-o", module], capture_output=True, text=True)
    if "_Float16" in done.stderr:
        pytest.skip(f"{COMPILER} has no _Float16, which GCC has from version 12 on")
    assert done.returncode == 0, done.stderr
    return module


@pytest.fixture(scope="module", params=["emulated", pytest.param("device", marks=no_gpu)])
def cuda(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The part of `tledge._kernels` for GPUs."""
    if request.param == "device":
        yield gpu._cuda
        return
    if not shutil.which(COMPILER):
        pytest.skip(f"needs {COMPILER}")
    spec = importlib.util.spec_from_file_location("_kernels", build(tmp_path_factory.mktemp("emulated")))
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    assert loaded.VARIANTS["gram"] == [("cuda", "emulated, sm_90", True)]
    yield loaded.cuda


# ── Numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def tolerance(features: int, expected: np.ndarray) -> float:
    """Products of d terms are off by eps · √d as on a processor; tensor cores also cut off, once every eight terms."""
    return 4 * EPSILON * (features**0.5 + features / 8) * max(float(np.abs(expected).max()), 1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_loss_and_gradient_as_in_double_precision(cuda: ModuleType, kind: str, dtype: type) -> None:
    # One more class than a tile has columns; more rows than one split has.
    for size in (*SIZES, (70, 65, 65, 1), (1300, 20, 3, 1)):
        arrays = case(kind, *size, dtype)
        expected_loss, expected = exact(kind, *arrays)
        loss, gradient = computed(getattr(cuda, kind), arrays)
        scale = np.abs(arrays[0]).max() * float(arrays[3].sum())
        assert abs(loss - expected_loss) <= tolerance(size[1], np.array(expected_loss)), size
        assert np.abs(gradient - expected).max() <= tolerance(size[1], np.array(scale)), size


@pytest.mark.parametrize("kind", KINDS)
def test_many_rows_are_taken_in_chunks(cuda: ModuleType, kind: str) -> None:
    arrays = case(kind, 16 * 1024 + 1100, 5, 3, 2)
    expected = np.zeros(arrays[1].shape)
    expected_loss = getattr(reference, kind)(*arrays, expected)
    loss, gradient = computed(getattr(cuda, kind), arrays)
    assert abs(loss - expected_loss) <= 1e-6 * expected_loss
    assert np.abs(gradient - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("kind", KINDS)
def test_what_stays_on_the_device_gives_the_same(cuda: ModuleType, kind: str) -> None:
    x, weights, truth, shares = case(kind, 130, 70, 4, 2, np.float16)
    kept = cuda.upload(x), weights, cuda.upload(truth), cuda.upload(shares)
    loss, gradient = computed(getattr(cuda, kind), (x, weights, truth, shares))
    for _ in range(2):
        again, slopes = computed(getattr(cuda, kind), kept)
        assert again == loss and (slopes == gradient).all()
    assert kept[0].shape == [130, 70]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_gram_as_in_double_precision(cuda: ModuleType, dtype: type) -> None:
    rng = np.random.default_rng(0)
    for rows, features, classes in ((1, 1, 1), (3, 64, 2), (65, 63, 3), (130, 200, 5), (8 * 1024 + 1100, 66, 3)):
        x = rng.normal(size=(rows, features)).astype(dtype)
        labels = rng.integers(0, classes, rows).astype(np.int32)
        for function in (cuda.gram, reference.gram):
            product, sums = np.ones((features, features)), np.ones((classes, features))
            function(x, labels, product, sums)
            wide = x.astype(np.float64)
            allowed = 4 * EPSILON * min(rows, 1024) ** 0.5 * rows**0.5 * 4 + tolerance(min(rows, 1024), wide)
            assert np.abs(product - 1 - wide.T @ wide).max() <= allowed * 8
            expected = np.stack([wide[labels == each].sum(axis=0) for each in range(classes)])
            assert np.abs(sums - 1 - expected).max() <= allowed


# ── Pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def fitted(image: np.ndarray, width: int, height: int, fit: str, interpolation: str) -> np.ndarray:
    """Return what Pillow makes of `image`, uint8 [height, width, 3]."""
    spec = PreprocessSpec(height, width, fit, interpolation)
    out = np.empty((height, width, 3), np.uint8)
    fit_into(image, spec, out)
    return out


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_pictures_come_out_as_on_a_processor(cuda: ModuleType, interpolation: str, fit: str) -> None:
    mean, std = np.array([120.0, 110.5, 100.0])[:, None], np.array([58.0, 57.0, 59.5])[:, None]
    for width, height in ((13, 21), (43, 5), (1, 1), (22, 22)):
        images = [image for image, *_ in cases(12)]
        expected = np.stack([fitted(image, width, height, fit, interpolation) for image in images])
        out = np.empty_like(expected)
        cuda.resize_normalize(images, out, fit, interpolation)
        assert difference(out, expected) == 0, (width, height)
        for dtype in (np.float32, np.float16):
            levels = ((np.arange(256.0) - mean) / std).astype(dtype)
            numbers = np.empty((len(images), 3, height, width), dtype)
            cuda.resize_normalize(images, numbers, fit, interpolation, levels)
            channels = [levels[channel][expected[..., channel]] for channel in range(3)]
            assert (numbers == np.stack(channels, axis=1)).all()


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_arrays_that_do_not_fit_are_refused(cuda: ModuleType) -> None:
    x, weights, labels, shares = case(KINDS[0], 9, 4, 3, 1)
    gradient = np.zeros(weights.shape)
    for bad in (
        (x.astype(np.float64), weights, labels, shares, gradient),
        (x[:, ::2], weights, labels, shares, gradient),
        (x[:5], weights, labels, shares, gradient),
        (None, weights, labels, shares, gradient),
        (x, weights[:, :-1].copy(), labels, shares, gradient),
        (x, weights.astype(np.float64), labels, shares, gradient),
        (x, weights, labels.astype(np.int64), shares, gradient),
        (x, weights, labels, shares[0], gradient),
        (x, weights, labels, shares, gradient.astype(np.float32)),
    ):
        with pytest.raises(TypeError):
            cuda.softmax_loss_grad(*bad)
    for label in (-1, 3):
        with pytest.raises(ValueError, match=rf"labels must lie in 0\.\.2, found {label}"):
            cuda.softmax_loss_grad(x, weights, np.full(9, label, np.int32), shares, gradient)


def test_pictures_that_do_not_fit_are_refused(cuda: ModuleType) -> None:
    image, out = noise(9, 9, 3), np.empty((1, 5, 5, 3), np.uint8)
    numbers, levels = np.empty((1, 3, 5, 5), np.float16), np.empty((3, 256), np.float16)
    for bad in (
        ([image.astype(np.float32)], out),
        ([image[:, ::2]], out),
        ([image], out[..., :1]),
        ([image], out.astype(int)),
        ([image], numbers),
        ([image], out, "crop", "bilinear", levels),
        ([image], numbers, "crop", "bilinear", levels.astype(np.float32)),
    ):
        with pytest.raises(TypeError):
            cuda.resize_normalize(*bad)
    for word in ("interpolation", "fit"):
        with pytest.raises(ValueError, match=f"{word} must"):
            cuda.resize_normalize([image], out, **{word: "other"})
    with pytest.raises(ValueError, match="as many as out holds, 1, found 2"):
        cuda.resize_normalize([image, image], out)
    with pytest.raises(ValueError, match="overlap"):
        cuda.resize_normalize([out[0]], out)


# ── Without a device ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(bool(gpu.name()), reason="needs a machine without a GPU, or a build without CUDA")
def test_without_a_device_no_cuda_variant_is_listed_and_asking_for_it_is_refused(monkeypatch) -> None:
    for kernel in native.KERNELS:
        assert "cuda" not in [variant.name for variant in native.variants(kernel)]
        with pytest.raises(TledgeError, match=r"'cuda'.*not available here.*one of .*reference"):
            native.implementation(kernel, "cuda")
    with pytest.raises(TledgeError, match="no GPU"):
        gpu.upload(np.zeros((2, 2), np.float32))
    code = "import numpy as np; from tledge import native; native.implementation('gram')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TLEDGE_KERNELS": "cuda"}, capture_output=True, text=True
    )
    assert done.returncode and "Kernel variant 'cuda' of gram is not available here." in done.stderr


def test_memory_for_a_device_is_ordinary_memory_without_one(cuda: ModuleType, monkeypatch) -> None:
    for device in (None, cuda):
        monkeypatch.setattr(gpu, "_cuda", device)
        found = gpu.pinned((2, 3, 5), np.float32)
        assert found.shape == (2, 3, 5) and found.dtype == np.float32 and not found.any()
        found[:] = 7


@pytest.fixture
def in_use(cuda: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`tledge.native` believes that it was built with CUDA and that there is a GPU."""
    listed = {kernel: [("cuda", cuda.DEVICE, True)] for kernel in native.KERNELS}
    monkeypatch.setattr(gpu, "_cuda", cuda)
    monkeypatch.setattr(native, "_kernels", SimpleNamespace(VARIANTS=listed, cuda=cuda))
    native.implementation.cache_clear()
    yield cuda
    native.implementation.cache_clear()


def test_implementations_come_from_the_device(in_use: ModuleType) -> None:
    assert native.implementation("gram", "cuda") is in_use.gram and gpu.name() == in_use.DEVICE
    assert gpu.upload(np.zeros((2, 3), np.float16)).shape == [2, 3]


def test_only_large_arrays_go_to_the_device_and_only_where_it_may_be_used(in_use: ModuleType, monkeypatch) -> None:
    x = np.zeros((2, 3), np.float32)
    with gpu.allowed(True):
        assert gpu.kept(x) is None
        monkeypatch.setattr(gpu, "_LARGE_BYTES", x.nbytes)
        kept = gpu.kept(x)
        assert kept is gpu.kept(x) and kept is not gpu.kept(x.copy())
        monkeypatch.setenv("TLEDGE_KERNELS", "scalar")
        assert gpu.kept(x) is None
    monkeypatch.delenv("TLEDGE_KERNELS")
    assert gpu.kept(x) is None
    del kept, x
    assert not gpu._kept


@pytest.mark.parametrize("several", [False, True])
def test_a_head_fitted_on_the_device_is_the_same(in_use: ModuleType, several: bool, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    x = (rng.normal(size=(60, 5)) + labels[:, None]).astype(np.float32)
    truth = np.eye(3, dtype=bool)[labels] if several else labels
    arguments = x, truth, np.ones(truth.shape, np.float32), np.arange(60) % 3, 3
    with monkeypatch.context() as patch:
        patch.setattr(native, "_kernels", None)
        native.implementation.cache_clear()
        expected = regression.fit(*arguments)
        native.implementation.cache_clear()
    monkeypatch.setattr(gpu, "_LARGE_BYTES", 0)
    calls, plain = [], gpu.kept
    monkeypatch.setattr(gpu, "kept", lambda array: calls.append(plain(array)) or calls[-1])
    with gpu.allowed(True):
        found = regression.fit(*arguments)
    assert len(calls) > 3 and all(calls)
    assert found.l2 == expected.l2
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-3)
