"""Loss and gradient of linear classifiers: every variant that this processor can run, against float64 and slopes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tledge import native

LossGrad = Callable[..., float]
KINDS = ("softmax_loss_grad", "sigmoid_loss_grad")
# What a GPU computes, and what it is given, is tested in test_kernels_cuda.py.
VARIANTS = [each.name for each in native.variants(KINDS[0]) if each.supported and each.name != "cuda"]
# (rows, features, classes, folds): around 4, 8, 16 and 64 lanes, tiles of 4 rows and of 16 to 128, groups of 2 to 5.
SIZES = (
    *((1, 1, 2, 1), (3, 2, 2, 2), (5, 7, 3, 1), (16, 16, 5, 1), (17, 17, 2, 3), (31, 63, 4, 1), (33, 65, 11, 1)),
    *((127, 129, 6, 2), (129, 128, 7, 1), (300, 33, 3, 5), (1100, 9, 2, 5), (70, 1280, 10, 1), (40, 8200, 2, 1)),
)
EPSILON = float(np.finfo(np.float32).eps)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return request.param


def case(kind: str, rows: int, features: int, classes: int, folds: int, dtype: type = np.float32, seed: int = 0):
    """Return x, weights, truth and shares; some rows have no share in some folds, as when they are held out."""
    rng = np.random.default_rng((seed, rows, features, classes, folds))
    x = rng.normal(size=(rows, features)).astype(dtype)
    weights = (rng.normal(size=(classes * folds, features + 1)) * 2 / np.sqrt(features)).astype(np.float32)
    shape = (folds, rows) if kind == KINDS[0] else (classes, folds, rows)
    shares = (rng.random(shape) * (rng.random(shape) < 0.8)).astype(np.float32)
    chosen = rng.integers(0, classes, rows).astype(np.int32)
    return x, weights, chosen if kind == KINDS[0] else rng.random((rows, classes)) < 0.4, shares


def exact(kind: str, x, weights, truth, shares) -> tuple[float, np.ndarray]:
    """Return loss and gradient in float64, one sample and fold after another, straight from the definition."""
    wide = np.hstack([x.astype(np.float64), np.ones((len(x), 1))])
    folds = shares.shape[-2]
    loss, gradient = 0.0, np.zeros(weights.shape)
    for row, fold in np.ndindex(len(x), folds):
        z = weights[fold::folds].astype(np.float64) @ wide[row]
        if kind == KINDS[0]:
            p = np.exp(z - z.max())
            p /= p.sum()
            share, wanted = shares[fold, row], np.eye(len(z))[truth[row]]
            loss -= share * np.log(p[truth[row]])
        else:
            share, wanted = shares[:, fold, row], truth[row].astype(float)
            p = 1 / (1 + np.exp(-z))
            loss -= float((share * np.where(wanted, np.log(p), np.log1p(-p))).sum())
        gradient[fold::folds] += np.outer(share * (p - wanted), wide[row])
    return loss, gradient


def computed(function: LossGrad, arrays: tuple) -> tuple[float, np.ndarray]:
    gradient = np.zeros(arrays[1].shape)
    return function(*arrays, gradient), gradient


def cases() -> Iterator[tuple[str, tuple[int, int, int, int], type]]:
    for kind in KINDS:
        for size in SIZES:
            for dtype in (np.float32, np.float16):
                yield kind, size, dtype


# ── Numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_as_in_double_precision(variant: str) -> None:
    for kind, size, dtype in cases():
        arrays = case(kind, *size, dtype)
        expected_loss, expected = exact(kind, *arrays)
        loss, gradient = computed(native.implementation(kind, variant), arrays)
        # A product of d terms is off by eps · √d of its typical size, and so is what is made of it.
        tolerance = 4 * EPSILON * np.sqrt(size[0] + size[1])
        assert abs(loss - expected_loss) <= tolerance * max(1.0, abs(expected_loss)), (kind, size, dtype)
        scale = np.abs(gradient).max() + np.abs(arrays[3]).sum(axis=-1).max() / np.sqrt(size[0])
        assert np.abs(gradient - expected).max() <= tolerance * scale, (kind, size, dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_slope_of_the_loss(variant: str, kind: str) -> None:
    x, weights, truth, shares = case(kind, 9, 5, 3, 2)
    function = native.implementation(kind, variant)
    _, gradient = computed(function, (x, weights, truth, shares))
    for at in np.ndindex(weights.shape):
        moved = [weights.copy() for _ in range(2)]
        moved[0][at] += 2**-7
        moved[1][at] -= 2**-7
        up, down = (computed(function, (x, each, truth, shares))[0] for each in moved)
        assert (up - down) * 2**6 == pytest.approx(gradient[at], abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_added_to_what_is_there(variant: str, kind: str) -> None:
    arrays = case(kind, 20, 6, 3, 2)
    function = native.implementation(kind, variant)
    _, once = computed(function, arrays)
    twice = once.copy()
    function(*arrays, twice)
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_huge_logits_stay_finite(variant: str, kind: str) -> None:
    x, weights, truth, shares = case(kind, 40, 20, 4, 1)
    loss, gradient = computed(native.implementation(kind, variant), (x, 1e4 * weights, truth, shares))
    assert np.isfinite(loss)
    assert loss > 1e3
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_half_is_read_right(variant: str, kind: str) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    _, _, truth, shares = case(kind, 1, 1, 2, 1)
    for values in np.split(finite, 31):
        arrays = (values[None], np.zeros((2, len(values) + 1), np.float32), truth, np.ones_like(shares))
        _, gradient = computed(native.implementation(kind, variant), arrays)
        expected = np.abs(values.astype(np.float64) / 2)[None].repeat(2, axis=0)
        np.testing.assert_array_equal(np.abs(gradient[:, :-1]), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_the_rows_add_up(variant: str, kind: str) -> None:
    x, weights, truth, shares = case(kind, 200, 30, 3, 4)
    function = native.implementation(kind, variant)
    whole = computed(function, (x, weights, truth, shares))
    cuts = slice(0, 77), slice(77, 200)
    parts = [computed(function, (x[rows], weights, truth[rows], shares[..., rows])) for rows in cuts]
    assert sum(loss for loss, _ in parts) == pytest.approx(whole[0], rel=1e-6)
    np.testing.assert_allclose(sum(gradient for _, gradient in parts), whole[1], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_bits_from_callers_on_several_threads(variant: str, kind: str) -> None:
    problems = [case(kind, 50 + 9 * number, 20 + number, 3, 2, seed=number) for number in range(8)]
    function = native.implementation(kind, variant)
    expected = [computed(function, arrays) for arrays in problems]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda arrays: computed(function, arrays), problems * 6))
    for (loss, gradient), (expected_loss, expected_gradient) in zip(found, expected * 6, strict=True):
        assert loss == expected_loss
        np.testing.assert_array_equal(gradient, expected_gradient)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_bits_on_any_number_of_threads(variant: str, kind: str) -> None:
    arrays = case(kind, 2700, 21, 3, 2)
    function = native.implementation(kind, variant)
    expected_loss, expected = computed(function, arrays)
    for threads in (2, 3, 50):
        gradient = np.zeros(expected.shape)
        assert function(*arrays, gradient, threads=threads) == expected_loss
        np.testing.assert_array_equal(gradient, expected)


def test_features_may_lie_in_a_file(variant: str, tmp_path: Path) -> None:
    for dtype in (np.float32, np.float16):
        x, *rest = case(KINDS[0], 70, 33, 3, 2, dtype)
        np.save(tmp_path / "x.npy", x)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert isinstance(mapped, np.memmap)
        function = native.implementation(KINDS[0], variant)
        loss, gradient = computed(function, (mapped, *rest))
        expected_loss, expected = computed(function, (x, *rest))
        assert loss == expected_loss
        np.testing.assert_array_equal(gradient, expected)


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────

NAMES = ("x", "weights", "truth", "shares", "gradient")


def refused(kind: str, variant: str, **changes: object) -> None:
    x, weights, truth, shares = case(kind, 12, 6, 3, 3)
    given = dict(zip(NAMES, (x, weights, truth, shares, np.zeros(weights.shape)), strict=True))
    function = native.implementation(kind, variant)
    function(*given.values())
    function(*{name: changes[name](array) if name in changes else array for name, array in given.items()}.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "change",
    [
        lambda array: array.astype(np.int64),
        lambda array: array.tolist(),
        lambda array: None,
        lambda array: array[None],
        lambda array: array[:-1],
        lambda array: array[..., :-1],
        lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
        lambda array: array[..., ::-1],
        lambda array: np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2],
    ],
    ids=["integers", "list", "nothing", "rank", "shorter", "narrower", "gaps", "backwards", "zeros with gaps"],
)
def test_arrays_that_do_not_fit_are_refused(variant: str, kind: str, name: str, change: Callable) -> None:
    with pytest.raises(TypeError):
        refused(kind, variant, **{name: change})


def test_a_gradient_that_cannot_be_written_is_refused(variant: str) -> None:
    def lock(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.flags.writeable = False
        return array

    with pytest.raises(TypeError):
        refused(KINDS[0], variant, gradient=lock)


def test_other_values_are_refused(variant: str) -> None:
    for label in (-1, 3):
        with pytest.raises(ValueError, match=rf"labels must lie in 0\.\.2, found {label}"):
            refused(KINDS[0], variant, truth=lambda array, label=label: np.full_like(array, label))
    with pytest.raises(ValueError, match="must not be empty"):
        refused(KINDS[1], variant, x=lambda array: array[:0], truth=lambda array: array[:0])
    x, weights, truth, shares = case(KINDS[0], 12, 6, 3, 3)
    with pytest.raises(ValueError, match="threads must be at least 1, found 0"):
        native.implementation(KINDS[0], variant)(x, weights, truth, shares, np.zeros(weights.shape), threads=0)
