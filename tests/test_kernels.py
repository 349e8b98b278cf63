"""Every variant of every kernel that this processor can run: against the NumPy reference, and against Pillow."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
import pytest
from conftest import draw_photo
from PIL import Image

from tledge import native, reference
from tledge.errors import TledgeError

Resize = Callable[..., None]
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Three bytes a pixel: these end just before, at and just after 16, 32 and 64 bytes, and 4-tap and 4-row blocks.
LENGTHS = (1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 21, 22, 43)


@pytest.fixture(params=[variant.name for variant in native.variants("resize") if variant.supported])
def resize(request: pytest.FixtureRequest) -> Resize:
    return native.implementation("resize", request.param)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Half of the values are 0 or 255, so that the cubic overshoots at both ends."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.integers(-128, 384, shape), 0, 255).astype(np.uint8)


def run(resize: Resize, image: np.ndarray, width: int, height: int, **options: object) -> np.ndarray:
    out = np.empty((height, width, 3), np.uint8)
    resize(image, out, **options)
    return out


def pillow_resize(image: np.ndarray, width: int, height: int, box: tuple | None, interpolation: str) -> np.ndarray:
    how = INTERPOLATIONS[interpolation]
    picture = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
    if int(PIL.__version__.split(".")[0]) < 13 and picture.height - height > max(2 * (picture.width - width), 0):
        # Before 13, Pillow always went along the rows first; what is promised is the order of 13.
        x0, y0, x1, y1 = box or (0, 0, *picture.size)
        picture = picture.resize((picture.width, height), how, (0, y0, picture.width, y1))
        box = (x0, 0, x1, height)
    return np.asarray(picture.resize((width, height), how, box).convert("RGB"))


def difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other).max())


def cases(count: int) -> Iterator[tuple[np.ndarray, int, int, tuple | None]]:
    """Yield (image, width, height, box): all lengths against all, chosen by chance but always alike."""
    rng = np.random.default_rng(7)
    for number in range(count):
        rows, columns, height, width = (int(length) for length in rng.choice(LENGTHS, 4))
        image = noise(rows, columns, *((), (1,), (3,), (3,))[number % 4], seed=number)
        x0, x1 = np.sort(rng.uniform(0, columns, 2))
        y0, y1 = np.sort(rng.uniform(0, rows, 2))
        yield image, width, height, (None, (float(x0), float(y0), float(x1), float(y1)))[number % 2]


# ── Pixels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_variants_give_the_bytes_of_the_reference(resize: Resize, interpolation: str) -> None:
    for image, width, height, box in cases(400):
        expected = run(reference.resize, image, width, height, box=box, interpolation=interpolation)
        found = run(resize, image, width, height, box=box, interpolation=interpolation)
        assert difference(found, expected) == 0, (image.shape, width, height, box)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_within_one_grey_level_of_pillow(resize: Resize, interpolation: str) -> None:
    for image, width, height, box in cases(400):
        expected = pillow_resize(image, width, height, box, interpolation)
        found = run(resize, image, width, height, box=box, interpolation=interpolation)
        assert difference(found, expected) <= 1, (image.shape, width, height, box)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("shape", [(480, 640, 3), (640, 480), (17, 3000, 3), (3000, 17), (1000, 70, 3)])
@pytest.mark.parametrize("size", [(224, 224), (33, 7)])
def test_large_pictures_like_pillow(resize: Resize, interpolation: str, shape: tuple, size: tuple) -> None:
    expected = pillow_resize(noise(*shape), *size, None, interpolation)
    assert difference(run(resize, noise(*shape), *size, interpolation=interpolation), expected) <= 1


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_photo_like_pillow(resize: Resize, interpolation: str) -> None:
    image = draw_photo(3, np.random.default_rng(0), 301)
    for width, height, box in ((224, 224, None), (400, 500, None), (224, 224, (10.5, 20.25, 250.75, 300.0))):
        expected = pillow_resize(image, width, height, box, interpolation)
        assert difference(run(resize, image, width, height, box=box, interpolation=interpolation), expected) <= 1


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_same_size_is_a_copy(resize: Resize, interpolation: str) -> None:
    for rows, columns in itertools.product(LENGTHS, LENGTHS):
        image = noise(rows, columns, 3)
        assert difference(run(resize, image, columns, rows, interpolation=interpolation), image) == 0


def test_grey_is_replicated(resize: Resize) -> None:
    grey = noise(37, 41)
    expected = run(resize, np.repeat(grey[..., None], 3, axis=2), 19, 23)
    assert difference(run(resize, grey, 19, 23), expected) == 0
    assert difference(run(resize, grey[..., None], 19, 23), expected) == 0


# ── Windows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [(50, 40, 3), (50, 40), (200, 40, 3), (200, 40)])
def test_nothing_is_written_outside_of_the_window(resize: Resize, shape: tuple) -> None:
    for width, height in itertools.product(LENGTHS, (1, 4, 13)):
        batch = np.full((3, height + 3, width + 9, 3), 77, np.uint8)
        resize(noise(*shape), batch[1, 2 : 2 + height, 4 : 4 + width])
        assert difference(batch[1, 2 : 2 + height, 4 : 4 + width], run(resize, noise(*shape), width, height)) == 0
        batch[1, 2 : 2 + height, 4 : 4 + width] = 77
        assert (batch == 77).all()


def test_rows_may_run_upwards_and_the_image_may_be_read_only(resize: Resize) -> None:
    image, out = noise(30, 20, 3), np.empty((9, 8, 3), np.uint8)
    image.flags.writeable = False
    resize(image, out[::-1])
    assert difference(out[::-1], run(resize, image, 8, 9)) == 0


def test_threads_do_not_disturb_one_another(resize: Resize) -> None:
    images = [noise(60 + 7 * number, 90 - 5 * number, *((3,), ())[number % 2], seed=number) for number in range(12)]
    expected = [run(resize, image, 48, 48) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: run(resize, image, 48, 48), images * 8))
    assert all(difference(one, other) == 0 for one, other in zip(found, expected * 8, strict=True))


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────

IMAGE, OUT = noise(9, 9, 3), np.empty((5, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "out"),
    [
        (IMAGE.astype(np.float32), OUT),
        (IMAGE.view(np.int8), OUT),
        (IMAGE.tolist(), OUT),
        (None, OUT),
        (IMAGE[None], OUT),
        (noise(9), OUT),
        (noise(9, 9, 4), OUT),
        (noise(9, 9, 2), OUT),
        (IMAGE[:, ::2], OUT),
        (IMAGE[:, 1:], OUT),
        (IMAGE[::-1], OUT),
        (np.asfortranarray(IMAGE), OUT),
        (IMAGE, OUT.astype(np.int32)),
        (IMAGE, OUT[..., 0]),
        (IMAGE, OUT[..., :1]),
        (IMAGE, OUT[:, ::2]),
        (IMAGE, OUT[..., ::-1]),
        (IMAGE, np.broadcast_to(OUT, OUT.shape)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(resize: Resize, image: object, out: object) -> None:
    with pytest.raises(TypeError):
        resize(image, out)


BAD_SHAPES = ((0, 0, 9), "none", 9)
BAD_PLACES = ((0, 0, 10, 9), (-1, 0, 9, 9), (3, 0, 3, 9), (5, 0, 4, 9), (0, 0, np.nan, 9), (0, 0, 9, np.inf))


@pytest.mark.parametrize("box", BAD_SHAPES + BAD_PLACES)
def test_boxes_outside_of_the_image_are_refused(resize: Resize, box: object) -> None:
    with pytest.raises(ValueError, match="box must"):
        resize(IMAGE, OUT, box)


def test_other_values_are_refused(resize: Resize) -> None:
    with pytest.raises(ValueError, match="interpolation must"):
        resize(IMAGE, OUT, None, "lanczos")
    with pytest.raises(ValueError, match="must not be empty"):
        resize(IMAGE[:0], OUT)
    with pytest.raises(ValueError, match="must not be empty"):
        resize(IMAGE, OUT[:0])
    with pytest.raises(ValueError, match="overlap"):
        resize(IMAGE, IMAGE[:5])


# ── Choice of variant ────────────────────────────────────────────────────────────────────────────────────────────────


def python(code: str, **environment: str) -> str:
    """Run `code` in a fresh interpreter in which TLEDGE_KERNELS is what `environment` says; returns what it prints."""
    kept = {name: value for name, value in os.environ.items() if name != "TLEDGE_KERNELS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True, check=True
    )
    assert not done.stderr, done.stderr
    return done.stdout.strip()


CHOSEN = """
from tledge.native import implementation
function = implementation("resize")
print(getattr(function, "keywords", None) or function.__name__)
"""


def chosen(name: str) -> str:
    return "resize" if name == "reference" else str({"variant": name})


def test_fastest_supported_variant_is_the_default() -> None:
    fastest = next(variant.name for variant in native.variants("resize") if variant.supported)
    assert python(CHOSEN) == chosen(fastest)


@pytest.mark.parametrize("name", [variant.name for variant in native.variants("resize") if variant.supported])
def test_environment_forces_a_variant(name: str) -> None:
    assert python(CHOSEN, TLEDGE_KERNELS=name) == chosen(name)


def test_unavailable_variant_is_an_error_that_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLEDGE_KERNELS", "mmx")
    native.implementation.cache_clear()
    with pytest.raises(TledgeError, match=r"'mmx'.*one of .*reference"):
        native.resize(IMAGE, OUT)
    native.implementation.cache_clear()


def test_without_the_extension_the_reference_runs_and_says_so_once() -> None:
    code = """
import sys, warnings
sys.modules["tledge._kernels"] = None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import numpy as np
    from tledge import native
    out = np.zeros((4, 4, 3), np.uint8)
    for _ in range(3):
        native.resize(np.full((9, 9), 200, np.uint8), out)
print((out == 200).all(), [w.category.__name__ for w in caught], [v.name for v in native.variants("resize")])
"""
    assert python(code) == "True ['RuntimeWarning'] ['reference']"
    assert python(code, TLEDGE_KERNELS="reference") == "True [] ['reference']"


def test_import_loads_numpy_and_the_standard_library_only() -> None:
    code = "import sys, numpy; before = set(sys.modules); import tledge.native; print(*set(sys.modules) - before)"
    loaded = {name.split(".")[0] for name in python(code).split()}
    assert loaded <= sys.stdlib_module_names | {"tledge"}
