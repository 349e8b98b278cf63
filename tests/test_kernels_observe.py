"""Range, histogram and moments of activations: every variant that this processor can run, against the definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from math import floor

import numpy as np
import pytest

from tledge import native
from tledge.reference import BINS

Observe = Callable[..., None]
VARIANTS = [variant.name for variant in native.variants("observe") if variant.supported]
LENGTHS = (1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000, 40_000)  # around 2, 4, 8 and 16 lanes, and a block
LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).smallest_subnormal)
EPSILON = float(np.finfo(np.float64).eps)


@pytest.fixture(params=VARIANTS)
def observe(request: pytest.FixtureRequest) -> Observe:
    return native.implementation("observe", request.param)


def observed(observe: Observe, batches: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    counts, summary = np.zeros(BINS, np.int64), np.zeros(6)
    for x in batches:
        observe(x, counts, summary)
    return counts, summary


def exact(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the counts and the exponent, bin by bin in fractions, straight from the definition."""
    fractions = [Fraction(float(value)) for value in values.ravel()]
    exponent = -160
    while any(abs(each) >= Fraction(2) ** (exponent + 11) for each in fractions):
        exponent += 1
    counts = np.zeros(BINS, np.int64)
    for each in fractions:
        counts[BINS // 2 + floor(each / Fraction(2) ** exponent)] += 1
    return counts, exponent


def activations(length: int, seed: int = 0, scale: float = 3.0) -> np.ndarray:
    """Return values of which a third is zero and some lie on edges of bins."""
    rng = np.random.default_rng((seed, length))
    x = (rng.normal(size=length) * scale).astype(np.float32)
    x[rng.random(length) < 0.3] = 0
    edges = rng.random(length) < 0.2
    x[edges] = np.round(x[edges] * 64) / 64
    return x


HARD = {
    "zeros": [0.0, -0.0],
    "powers of two": [1.0, 2.0, 4.0, -4.0, 0.5],
    "just below": [np.nextafter(np.float32(4), np.float32(0)), -np.nextafter(np.float32(4), np.float32(0))],
    "smallest": [SMALLEST, -SMALLEST, 0.0],
    "largest": [LARGEST, -LARGEST, SMALLEST, -SMALLEST, 0.0],
    "no zero": [1000.0, 1000.5],
    "negative": [-7.0, -6.5, -1e-30],
}


# ── Numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("values", HARD.values(), ids=HARD)
def test_hard_values_fall_where_fractions_say(observe: Observe, values: list[float]) -> None:
    x = np.array(values * 13, np.float32)
    counts, summary = observed(observe, [x])
    expected, exponent = exact(x)
    np.testing.assert_array_equal(counts, expected)
    assert summary[0] == exponent
    assert (summary[1], summary[2], summary[3]) == (x.min(), x.max(), len(x))


def test_counts_range_and_moments_at_every_length(observe: Observe) -> None:
    for length in LENGTHS:
        x = activations(length)
        counts, summary = observed(observe, [x])
        if length <= 1000:
            np.testing.assert_array_equal(counts, exact(x)[0])
        wide = x.astype(np.float64)
        assert tuple(summary[1:4]) == (x.min(), x.max(), length)
        # Adding n numbers is off by n · eps of the sum of their sizes at most.
        assert abs(summary[4] - wide.sum()) <= length * EPSILON * np.abs(wide).sum()
        assert abs(summary[5] - (wide**2).sum()) <= length * EPSILON * (wide**2).sum()


def test_all_variants_give_equal_bits() -> None:
    for length in LENGTHS:
        batches = [activations(length, seed, 10.0**seed) for seed in range(3)]
        expected = observed(native.implementation("observe", "reference"), batches)
        for variant in VARIANTS:
            found = observed(native.implementation("observe", variant), batches)
            for one, wanted in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, wanted, err_msg=variant)


def test_batches_in_any_order_and_of_any_size_count_as_one(observe: Observe) -> None:
    scales = (1e-6, 300.0, 1.0, 0.0, 1e20, 1e-3)
    batches = [activations(50 + 11 * number, number, scale) for number, scale in enumerate(scales)]
    expected, summary = observed(observe, [np.concatenate(batches)])
    rng = np.random.default_rng(0)
    for _ in range(20):
        counts, found = observed(observe, [batches[i] for i in rng.permutation(len(batches))])
        np.testing.assert_array_equal(counts, expected)
        np.testing.assert_array_equal(found[:4], summary[:4])
        np.testing.assert_allclose(found[4:], summary[4:], rtol=1e-12)


def test_at_least_2048_bins_lie_between_the_extremes(observe: Observe) -> None:
    for scale in np.geomspace(1e-30, 1e30, 50):
        x = activations(64, scale=scale)
        _, summary = observed(observe, [x])
        assert 2048 <= 2 * np.abs(x).max() / 2.0 ** summary[0] <= BINS


def test_any_rank_is_one_row_of_values(observe: Observe) -> None:
    x = activations(240)
    for shape in ((240,), (2, 3, 5, 8), (240, 1), (1, 1, 240, 1, 1)):
        np.testing.assert_array_equal(observed(observe, [x.reshape(shape)])[0], observed(observe, [x])[0])


def test_equal_bits_from_any_number_of_threads(observe: Observe) -> None:
    tensors = [activations(5000 + 700 * number, number) for number in range(8)]
    expected = [observed(observe, [x, x]) for x in tensors]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: observed(observe, [x, x]), tensors * 6))
    for one, other in zip(found, expected * 6, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["x", "counts", "summary"])
@pytest.mark.parametrize(
    "change",
    [
        lambda array: array.astype(np.float16),
        lambda array: array.tolist(),
        lambda array: None,
        lambda array: np.repeat(array, 2)[::2],
        lambda array: array[::-1],
        lambda array: array.reshape(-1, 2).T,
        lambda array: array[0],
    ],
    ids=["half", "list", "nothing", "gaps", "backwards", "turned", "one number"],
)
def test_arrays_that_do_not_fit_are_refused(observe: Observe, name: str, change: Callable) -> None:
    given = {"x": activations(40), "counts": np.zeros(BINS, np.int64), "summary": np.zeros(6)}
    with pytest.raises(TypeError):
        observe(*(change(array) if key == name else array for key, array in given.items()))


def test_states_of_another_shape_or_that_cannot_be_written_are_refused(observe: Observe) -> None:
    x, counts, summary = activations(40), np.zeros(BINS, np.int64), np.zeros(6)
    locked = np.zeros(BINS, np.int64), np.zeros(6)
    for each in locked:
        each.flags.writeable = False
    for state in ((counts[1:], summary), (counts, summary[1:]), (counts[None], summary), (locked[0], summary)):
        with pytest.raises(TypeError):
            observe(x, *state)
    with pytest.raises(TypeError):
        observe(x, counts, locked[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 20, 39])
def test_what_is_not_finite_is_refused_and_leaves_no_trace(observe: Observe, bad: float, place: int) -> None:
    counts, summary = observed(observe, [activations(40)])
    before = counts.copy(), summary.copy()
    x = activations(40, 1, 100.0)
    x[place] = bad
    with pytest.raises(ValueError, match="must be finite"):
        observe(x, counts, summary)
    np.testing.assert_array_equal(counts, before[0])
    np.testing.assert_array_equal(summary, before[1])


def test_nothing_is_refused(observe: Observe) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        observed(observe, [activations(40)[:0]])
