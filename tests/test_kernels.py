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
FITS = ("stretch", "crop", "pad")
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.fixture(params=[variant.name for variant in native.variants("resize_normalize") if variant.supported])
def resize(request: pytest.FixtureRequest) -> Resize:
    return native.implementation("resize_normalize", request.param)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Half of the values are 0 or 255, so that the cubic overshoots at both ends."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.integers(-128, 384, shape), 0, 255).astype(np.uint8)


def run(resize: Resize, image: np.ndarray, width: int, height: int, *options: object) -> np.ndarray:
    out = np.empty((1, height, width, 3), np.uint8)
    resize([image], out, *options)
    return out[0]


def pillow_resize(image: np.ndarray, width: int, height: int, fit: str, interpolation: str) -> np.ndarray:
    if image.shape[:2] == (height, width):  # Pillow, too, gives a copy; but a box would have rounded edges
        return np.repeat(image.reshape(height, width, -1), 3 // (image.size // (height * width)), axis=2)
    out, how = np.full((height, width, 3), reference.PAD_GREY, np.uint8), INTERPOLATIONS[interpolation]
    box, rows, columns = reference._FITS[fit](image.shape[:2], (height, width))
    height, width = out[rows, columns].shape[:2]
    picture = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
    if int(PIL.__version__.split(".")[0]) < 13 and picture.height - height > max(2 * (picture.width - width), 0):
        # Before 13, Pillow always went along the rows first; what is promised is the order of 13.
        x0, y0, x1, y1 = box
        picture = picture.resize((picture.width, height), how, (0, y0, picture.width, y1))
        box = (x0, 0, x1, height)
    out[rows, columns] = np.asarray(picture.resize((width, height), how, box).convert("RGB"))
    return out


def difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other).max())


def cases(count: int) -> Iterator[tuple[np.ndarray, int, int, str]]:
    """Yield (image, width, height, fit): all lengths against all, chosen by chance but always alike."""
    rng = np.random.default_rng(7)
    for number in range(count):
        rows, columns, height, width = (int(length) for length in rng.choice(LENGTHS, 4))
        yield noise(rows, columns, *((), (1,), (3,), (3,))[number % 4], seed=number), width, height, FITS[number % 3]


# ── Pixels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_variants_give_the_bytes_of_the_reference(resize: Resize, interpolation: str) -> None:
    for image, width, height, fit in cases(500):
        expected = run(reference.resize_normalize, image, width, height, fit, interpolation)
        found = run(resize, image, width, height, fit, interpolation)
        assert difference(found, expected) == 0, (image.shape, width, height, fit)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_within_one_grey_level_of_pillow(resize: Resize, interpolation: str) -> None:
    for image, width, height, fit in cases(500):
        expected = pillow_resize(image, width, height, fit, interpolation)
        found = run(resize, image, width, height, fit, interpolation)
        assert difference(found, expected) <= 1, (image.shape, width, height, fit)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("shape", [(480, 640, 3), (640, 480), (17, 3000, 3), (3000, 17), (1000, 70, 3)])
@pytest.mark.parametrize(("size", "fit"), [((224, 224), "stretch"), ((33, 7), "crop")])
def test_large_pictures_like_pillow(resize: Resize, interpolation: str, shape: tuple, size: tuple, fit: str) -> None:
    expected = pillow_resize(noise(*shape), *size, fit, interpolation)
    assert difference(run(resize, noise(*shape), *size, fit, interpolation), expected) <= 1


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_photo_like_pillow(resize: Resize, interpolation: str) -> None:
    image = draw_photo(3, np.random.default_rng(0), 301)
    for width, height, fit in ((224, 224, "stretch"), (400, 500, "stretch"), (224, 200, "crop"), (64, 50, "pad")):
        expected = pillow_resize(image, width, height, fit, interpolation)
        assert difference(run(resize, image, width, height, fit, interpolation), expected) <= 1


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_same_size_is_a_copy(resize: Resize, interpolation: str) -> None:
    for rows, columns in itertools.product(LENGTHS, LENGTHS):
        image = noise(rows, columns, 3)
        assert difference(run(resize, image, columns, rows, "stretch", interpolation), image) == 0


def test_grey_is_replicated(resize: Resize) -> None:
    grey = noise(37, 41)
    expected = run(resize, np.repeat(grey[..., None], 3, axis=2), 19, 23)
    assert difference(run(resize, grey, 19, 23), expected) == 0
    assert difference(run(resize, grey[..., None], 19, 23), expected) == 0


# ── Batches ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [(50, 40, 3), (50, 40), (200, 40, 3), (200, 40)])
@pytest.mark.parametrize("fit", FITS)
def test_nothing_is_written_beside_its_place(resize: Resize, shape: tuple, fit: str) -> None:
    for width, height in itertools.product(LENGTHS, (1, 4, 13)):
        around = np.full((3, height, width, 3), 77, np.uint8)
        resize([noise(*shape)], around[1:2], fit)
        assert difference(around[1], run(resize, noise(*shape), width, height, fit)) == 0
        assert (around[::2] == 77).all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_floats_are_the_normalised_bytes(resize: Resize, fit: str, dtype: type) -> None:
    levels = reference.levels_of(MEAN, STD, dtype)
    for image, width, height, _ in cases(100):
        pixels = run(resize, image, width, height, fit)
        out = np.full((3, 3, height, width), 77, dtype)
        resize([image], out[1:2], fit, "bilinear", levels)
        exact = ((pixels - np.array(MEAN)) / STD).astype(np.float32).astype(dtype)
        np.testing.assert_array_equal(out[1], exact.transpose(2, 0, 1))
        assert (out[::2] == 77).all()


@pytest.mark.parametrize("threads", [1, 2, 5, 50])
def test_a_batch_is_its_pictures_one_by_one(resize: Resize, threads: int) -> None:
    images = [noise(60 + 7 * number, 90 - 5 * number, *((3,), ())[number % 2], seed=number) for number in range(12)]
    expected = np.stack([run(resize, image, 48, 40, "pad", "bicubic") for image in images])
    for _ in range(5):
        out = np.empty_like(expected)
        resize(images, out, "pad", "bicubic", None, threads)
        np.testing.assert_array_equal(out, expected)
    same = np.stack([noise(30, 20, 3, seed=number) for number in range(7)])
    out = np.empty((7, 9, 8, 3), np.uint8)
    resize(same, out, threads=threads)  # an array of pictures is as good as a list
    np.testing.assert_array_equal(out, [run(resize, image, 8, 9) for image in same])


def test_the_image_may_be_read_only(resize: Resize) -> None:
    image = noise(30, 20, 3)
    image.flags.writeable = False
    assert difference(run(resize, image, 8, 9), run(resize, image.copy(), 8, 9)) == 0


def test_callers_threads_do_not_disturb_one_another(resize: Resize) -> None:
    images = [noise(60 + 7 * number, 90 - 5 * number, *((3,), ())[number % 2], seed=number) for number in range(12)]
    expected = [run(resize, image, 48, 48) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: run(resize, image, 48, 48), images * 8))
    assert all(difference(one, other) == 0 for one, other in zip(found, expected * 8, strict=True))


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────

IMAGE, OUT, PLANES = noise(9, 9, 3), np.empty((1, 5, 5, 3), np.uint8), np.empty((1, 3, 5, 5), np.float32)
LEVELS = reference.levels_of(MEAN, STD)


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
        (IMAGE, OUT[0]),
        (IMAGE, OUT[..., :1]),
        (IMAGE, OUT[:, ::2]),
        (IMAGE, OUT[:, :, 1:]),
        (IMAGE, OUT[..., ::-1]),
        (IMAGE, np.broadcast_to(OUT, OUT.shape)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(resize: Resize, image: object, out: object) -> None:
    with pytest.raises(TypeError):
        resize([image], out)


@pytest.mark.parametrize(
    ("out", "levels"),
    [
        (OUT, LEVELS),
        (PLANES, None),
        (PLANES, LEVELS.astype(np.float16)),
        (PLANES, LEVELS.astype(np.float64)),
        (PLANES, LEVELS[:2]),
        (PLANES, LEVELS[:, :255]),
        (PLANES, np.asfortranarray(LEVELS)),
        (PLANES.astype(np.float64), LEVELS.astype(np.float64)),
        (PLANES.transpose(0, 2, 3, 1), LEVELS),
        (PLANES[:, :, ::2], LEVELS),
        (np.empty((1, 5, 5, 3), np.float32), LEVELS),
    ],
)
def test_levels_that_do_not_fit_are_refused(resize: Resize, out: np.ndarray, levels: np.ndarray | None) -> None:
    with pytest.raises(TypeError):
        resize([IMAGE], out, levels=levels)


@pytest.mark.parametrize("images", [None, 3, "ab", {"a": IMAGE}])
def test_what_is_no_list_of_images_is_refused(resize: Resize, images: object) -> None:
    with pytest.raises(TypeError):
        resize(images, OUT)


def test_other_values_are_refused(resize: Resize) -> None:
    with pytest.raises(ValueError, match="interpolation must"):
        resize([IMAGE], OUT, "stretch", "lanczos")
    with pytest.raises(ValueError, match="fit must"):
        resize([IMAGE], OUT, "shrink")
    with pytest.raises(ValueError, match="threads must"):
        resize([IMAGE], OUT, threads=0)
    with pytest.raises(ValueError, match="as many as out holds, 1, found 2"):
        resize([IMAGE, IMAGE], OUT)
    with pytest.raises(ValueError, match="must not be empty"):
        resize([IMAGE[:0]], OUT)
    with pytest.raises(ValueError, match="must not be empty"):
        resize([IMAGE], OUT[:, :0])
    with pytest.raises(ValueError, match="overlap"):
        resize([OUT[0]], OUT)


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
function = implementation("resize_normalize")
print(getattr(function, "keywords", None) or function.__name__)
"""


def chosen(name: str) -> str:
    return "resize_normalize" if name == "reference" else str({"variant": name})


def test_fastest_supported_variant_is_the_default() -> None:
    fastest = next(variant.name for variant in native.variants("resize_normalize") if variant.supported)
    assert python(CHOSEN) == chosen(fastest)


@pytest.mark.parametrize("name", [variant.name for variant in native.variants("resize_normalize") if variant.supported])
def test_environment_forces_a_variant(name: str) -> None:
    assert python(CHOSEN, TLEDGE_KERNELS=name) == chosen(name)


def test_unavailable_variant_is_an_error_that_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLEDGE_KERNELS", "mmx")
    native.implementation.cache_clear()
    with pytest.raises(TledgeError, match=r"'mmx'.*one of .*reference"):
        native.resize_normalize([IMAGE], OUT)
    native.implementation.cache_clear()


def test_without_the_extension_the_reference_runs_and_says_so_once() -> None:
    code = """
import sys, warnings
sys.modules["tledge._kernels"] = None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import numpy as np
    from tledge import native
    out = np.zeros((1, 4, 4, 3), np.uint8)
    for _ in range(3):
        native.resize_normalize([np.full((9, 9), 200, np.uint8)], out)
print((out == 200).all(), [w.category.__name__ for w in caught], [v.name for v in native.variants("resize_normalize")])
"""
    assert python(code) == "True ['RuntimeWarning'] ['reference']"
    assert python(code, TLEDGE_KERNELS="reference") == "True [] ['reference']"


def test_import_loads_numpy_and_the_standard_library_only() -> None:
    code = "import sys, numpy; before = set(sys.modules); import tledge.native; print(*set(sys.modules) - before)"
    loaded = {name.split(".")[0] for name in python(code).split()}
    assert loaded <= sys.stdlib_module_names | {"tledge"}
