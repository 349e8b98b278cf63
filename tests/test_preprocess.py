from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import draw_photo
from PIL import Image, ImageCms

from tledge.decode import MAX_PIXELS, decode
from tledge.errors import DataError
from tledge.modalities import preprocess
from tledge.modalities.image import fit_into
from tledge.reference import PAD_GREY
from tledge.schema import PreprocessSpec

DEEP = np.array([[0, 257, 32768, 65535]], np.uint16)
DEEP_AS_8_BITS = [[0, 1, 128, 255]]


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photo(size: int = 40) -> Image.Image:
    return Image.fromarray(draw_photo(1, np.random.default_rng(0), size))


def png(width: int, height: int, bits: int, colour: int, rows: list[bytes], *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def tiff(width: int, height: int, bits: int, photometric: int, body: bytes) -> bytes:
    longs = {256: width, 257: height, 273: 8, 278: height, 279: len(body)}
    shorts = {258: bits, 259: 1, 262: photometric, 277: 1}
    rows = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in longs.items()]
    rows += [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in shorts.items()]
    rows.sort(key=lambda row: struct.unpack("<H", row[:2]))
    return (
        struct.pack("<4sI", b"II*\0", 8 + len(body)) + body + struct.pack("<H", len(rows)) + b"".join(rows) + bytes(4)
    )


# ── Conversions: one test per row of the table ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_every_lossless_format_gives_the_pixels_that_were_written(kind):
    image = photo().quantize(64).convert("RGB")
    options = {"lossless": True} if kind == "WEBP" else {}
    stored = image.quantize(64) if kind == "GIF" else image
    np.testing.assert_array_equal(decode(encode(stored, kind, **options)), np.asarray(image))


def test_jpeg_gives_what_pillow_gives():
    contents = encode(photo(), "JPEG")
    np.testing.assert_array_equal(decode(contents), np.asarray(Image.open(io.BytesIO(contents))))


def test_grey_stays_one_plane_and_is_replicated_by_fit():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    found = decode(encode(Image.fromarray(grey), "PNG"))
    np.testing.assert_array_equal(found, grey)
    for size in (8, 5):
        out = preprocess([grey], PreprocessSpec(size, size))
        np.testing.assert_array_equal(out[..., 0], out[..., 1])
        np.testing.assert_array_equal(out[..., 0], out[..., 2])


def test_one_bit_is_black_or_white():
    assert decode(png(8, 1, 1, 0, [b"\xa5"])).tolist() == [[255, 0, 255, 0, 0, 255, 0, 255]]
    assert decode(tiff(8, 1, 1, 0, b"\xa5")).tolist() == [[0, 255, 0, 255, 255, 0, 255, 0]]


@pytest.mark.parametrize(
    "contents",
    [
        encode(Image.fromarray(DEEP), "PNG"),
        encode(Image.fromarray(DEEP), "TIFF"),
        encode(Image.frombytes("I;16B", (4, 1), DEEP.astype(">u2").tobytes()), "TIFF"),
        encode(Image.fromarray(DEEP.astype(np.int32)), "TIFF"),
        encode(Image.fromarray((DEEP / 65535).astype(np.float32)), "TIFF"),
    ],
    ids=["png16", "tiff16", "tiff16 big-endian", "tiff32", "tiff float"],
)
def test_deep_grey_is_scaled_and_not_clipped(contents):
    assert decode(contents).tolist() == DEEP_AS_8_BITS


def test_all_16_bit_values_scale_to_the_nearest_of_8_bits():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(values), "PNG")), (values.astype(int) + 128) // 257)


def test_12_bit_grey_fills_the_range():
    bits = "".join(f"{value:012b}" for value in (0, 4095, 2048, 1000))
    assert decode(tiff(4, 1, 12, 1, int(bits, 2).to_bytes(6, "big"))).tolist() == [[0, 255, 128, 62]]


def test_16_bit_colour_keeps_its_high_byte():
    row = np.repeat(DEEP[0], 3).astype(">u2").tobytes()
    assert decode(png(4, 1, 16, 2, [row]))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_16_bit_grey_with_alpha_is_scaled():
    row = np.stack([DEEP[0], np.full(4, 65535, np.uint16)], 1).astype(">u2").tobytes()
    assert decode(png(4, 1, 16, 4, [row]))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("values", [[-1, 5], [0, 70000]], ids=["negative", "beyond 16 bits"])
def test_integers_without_an_agreed_scale_are_refused(values):
    with pytest.raises(DataError, match=r"beyond 0\.\.65535"):
        decode(encode(Image.fromarray(np.array([values], np.int32)), "TIFF"))


@pytest.mark.parametrize("values", [[0, 255], [-0.1, 0.5], [0.5, np.nan]])
def test_floats_outside_of_0_to_1_are_refused(values):
    with pytest.raises(DataError, match=r"beyond 0\.\.1"):
        decode(encode(Image.fromarray(np.array([values], np.float32)), "TIFF"))


def test_16_bit_grey_that_counts_from_white_is_refused():
    with pytest.raises(DataError, match="0 as white"):
        decode(tiff(4, 1, 16, 0, DEEP.astype("<u2").tobytes()))


def test_palette_gives_its_colours_and_its_transparency_gives_white():
    palette = chunk(b"PLTE", bytes([200, 0, 0, 0, 100, 0, 0, 0, 50]))
    opaque = decode(png(3, 1, 8, 3, [bytes([0, 1, 2])], palette))
    assert opaque.tolist() == [[[200, 0, 0], [0, 100, 0], [0, 0, 50]]]
    clear = decode(png(3, 1, 8, 3, [bytes([0, 1, 2])], palette, chunk(b"tRNS", bytes([255, 0]))))
    assert clear.tolist() == [[[200, 0, 0], [255, 255, 255], [0, 0, 50]]]


def test_one_transparent_colour_gives_white():
    grey = decode(png(2, 1, 8, 0, [bytes([10, 20])], chunk(b"tRNS", struct.pack(">H", 10))))
    assert grey.tolist() == [[[255] * 3, [20] * 3]]
    deep = decode(png(4, 1, 16, 0, [DEEP.astype(">u2").tobytes()], chunk(b"tRNS", struct.pack(">H", 257))))
    assert deep.tolist() == [[0, 255, 128, 255]]
    rgb = decode(png(2, 1, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))))
    assert rgb.tolist() == [[[255] * 3, [4, 5, 6]]]


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "TIFF"), ("RGBA", "WEBP")])
def test_alpha_is_composited_over_white(mode, kind):
    alpha = Image.fromarray(np.array([[0, 51, 255]], np.uint8))
    image = Image.new("L" if mode == "LA" else "RGB", (3, 1))
    image.putalpha(alpha)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert decode(encode(image, kind, **options))[0, :, 0].tolist() == [255, 204, 0]


def test_other_colour_spaces_become_rgb():
    image = photo()
    near = np.asarray(image).astype(int)
    for contents in (encode(image.convert("CMYK"), "JPEG", quality=98), encode(image.convert("YCbCr"), "TIFF")):
        assert np.abs(decode(contents).astype(int) - near).mean() < 6
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    assert np.abs(decode(encode(ImageCms.applyTransform(image, to_lab), "TIFF")).astype(int) - near).mean() < 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind, orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16], upright[:8, 16:], upright[8:, :16] = 255, 160, 80
    inverse = (None, 0, 3, 1, 5, 2, 6, 4)[orientation - 1]
    stored = Image.fromarray(upright) if inverse is None else Image.fromarray(upright).transpose(inverse)
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    found = decode(encode(stored, kind, exif=exif, **options))
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() < 8


def test_unreadable_exif_counts_as_none():
    assert decode(encode(photo(), "JPEG", exif=b"Exif\0\0nonsense")).shape == (40, 40, 3)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_taken(kind):
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    contents = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (decode(contents) == (255, 0, 0)).all()


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_paths_and_bytes_give_the_same(tmp_path):
    path = tmp_path / "no extension"
    path.write_bytes(encode(photo(), "PNG"))
    for source in (path, str(path)):
        np.testing.assert_array_equal(decode(source), decode(path.read_bytes()))


def test_what_cannot_be_read_is_a_data_error(tmp_path):
    for source, reason in [
        (tmp_path / "missing.png", "cannot be read (No such file or directory)"),
        (tmp_path, "cannot be read (Is a directory)"),
        ("nul\0byte", "cannot be read"),
        (b"", "empty file (0 bytes)"),
        (b"hello, I am a text", "damaged, or not one of"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "damaged, or not one of"),
        (encode(photo(), "PPM"), "damaged, or not one of"),
    ]:
        with pytest.raises(DataError) as caught:
            decode(source)
        assert caught.value.message.startswith(reason)


@pytest.mark.parametrize("side", [50_000, 12_000])
def test_a_picture_of_too_many_pixels_is_refused_from_its_header(side):
    lzw = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02D\x01\0;"
    bombs = [
        png(side, side, 8, 2, [b""]),
        b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0" + bytes(6) + lzw,
        struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0),
        tiff(side, side, 8, 1, bytes(100)),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for bomb in bombs:
            with pytest.raises(DataError, match=f"more than {MAX_PIXELS:,} pixels"):
                decode(bomb)


def specimens() -> dict[str, bytes]:
    image, deep = photo(), Image.fromarray(np.asarray(photo())[..., 0] * np.uint16(257))
    exif = Image.Exif()
    exif[274] = 6
    return {
        "jpeg": encode(image, "JPEG", exif=exif),
        "progressive": encode(image, "JPEG", progressive=True),
        "cmyk": encode(image.convert("CMYK"), "JPEG"),
        "png": encode(image, "PNG", exif=exif),
        "palette": encode(image.quantize(), "PNG", transparency=3),
        "deep": encode(deep, "PNG"),
        "bmp": encode(image, "BMP"),
        "webp": encode(image, "WEBP"),
        "gif": encode(image.quantize(), "GIF"),
        "tiff": encode(image, "TIFF"),
        "lzw": encode(image, "TIFF", compression="tiff_lzw"),
    }


@pytest.mark.parametrize("name", specimens())
def test_damage_gives_a_data_error_or_a_picture_and_nothing_else(name):
    contents, rng = specimens()[name], random.Random(0)
    cuts = [contents[:length] for length in (*range(60), *(rng.randrange(len(contents)) for _ in range(60)))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for damaged in cuts + [flip_some(contents, rng) for _ in range(150)]:
            try:
                found = decode(damaged)
            except DataError as error:
                assert error.message and "\n" not in str(error)
            else:
                assert found.dtype == np.uint8 and found.ndim in (2, 3) and found.size


def flip_some(contents: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(contents)
    for _ in range(rng.choice((1, 2, 20))):
        damaged[rng.randrange(rng.choice((100, len(damaged))))] = rng.randrange(256)
    return bytes(damaged)


@pytest.mark.parametrize("name", specimens())
def test_a_picture_cut_in_half_is_refused(name):
    contents = specimens()[name]
    with pytest.raises(DataError):
        decode(contents[: len(contents) // 2])


def test_threads_leave_the_warning_filters_as_they_were():
    before = list(warnings.filters)
    contents = [*specimens().values(), b"BM", b""] * 20
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(shape_or_error, contents))
    assert found == [shape_or_error(each) for each in contents]
    assert warnings.filters == before


def shape_or_error(contents: bytes) -> object:
    try:
        return decode(contents).shape
    except DataError as error:
        return error.message


def test_importing_loads_no_decoder():
    script = "import sys, tledge.modalities; sys.exit(not {'PIL', 'simplejpeg'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# ── JPEG by libjpeg-turbo and by Pillow, whole and reduced ───────────────────────────────────────────────────────────


def jpegs() -> dict[str, bytes]:
    image = Image.fromarray(draw_photo(1, np.random.default_rng(0), 90)).resize((203, 149))
    exif = Image.Exif()
    exif[274] = 6
    rgb = io.BytesIO()
    image.save(rgb, "JPEG", keep_rgb=True)
    flawed = bytearray(encode(image, "JPEG"))
    flawed[-2:-2] = b"\0\0\0"  # "extraneous bytes before marker": Pillow lets it pass
    return {
        "4:2:0": encode(image, "JPEG"),
        "4:2:2": encode(image, "JPEG", subsampling=1),
        "4:4:4": encode(image, "JPEG", subsampling=0),
        "progressive": encode(image, "JPEG", progressive=True),
        "restarts": encode(image, "JPEG", restart_marker_rows=1),
        "grey": encode(image.convert("L"), "JPEG"),
        "rgb": rgb.getvalue(),
        "cmyk": encode(image.convert("CMYK"), "JPEG"),
        "turned": encode(image, "JPEG", exif=exif),
        "unreadable exif": encode(image, "JPEG", exif=b"Exif\0\0nonsense"),
        "flawed": bytes(flawed),
    }


def without_simplejpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tledge.decode._simplejpeg", lambda: None)


@pytest.mark.parametrize("wanted", [None, (60, 60), (30, 40), (9, 9), (1, 90)])
@pytest.mark.parametrize("name", jpegs())
def test_pillow_gives_the_bytes_of_libjpeg_turbo(name, wanted, monkeypatch):
    found = decode(jpegs()[name], wanted)
    without_simplejpeg(monkeypatch)
    np.testing.assert_array_equal(found, decode(jpegs()[name], wanted))


@pytest.mark.parametrize("name", ["4:2:0", "grey", "cmyk", "turned"])
@pytest.mark.parametrize(
    ("wanted", "divisor"),
    [
        *((None, 1), ((75, 60), 1), ((74, 102), 1), ((74, 101), 2)),
        *(((37, 51), 2), ((37, 50), 4), ((18, 25), 8), ((1, 1), 8)),
    ],
)
def test_a_jpeg_is_reduced_as_far_as_the_size_wanted_allows(name, wanted, divisor):
    turned = name == "turned"
    shape = decode(jpegs()[name], wanted[::-1] if wanted and turned else wanted).shape
    upright = shape[1::-1] if turned else shape[:2]
    assert upright == (-(-149 // divisor), -(-203 // divisor))


def test_a_reduced_jpeg_resized_is_near_the_whole_one_resized():
    image = Image.fromarray(draw_photo(1, np.random.default_rng(0), 300))
    contents = encode(image, "JPEG", quality=90)
    for size in (70, 30):
        spec = PreprocessSpec(size, size)
        whole, reduced = np.zeros((2, spec.height, spec.width, 3), np.uint8)
        fit_into(decode(contents), spec, whole)
        fit_into(decode(contents, (size, size)), spec, reduced)
        assert np.abs(whole.astype(int) - reduced).mean() < 3


def test_other_formats_come_whole():
    for kind in ("PNG", "BMP", "WEBP", "TIFF", "GIF"):
        assert decode(encode(photo(), kind), (2, 2)).shape == (40, 40, 3)


def test_orientation_in_xmp_counts_as_pillow_says():
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(xmp)) + xmp
    contents = encode(Image.new("RGB", (40, 20)), "JPEG")
    assert decode(contents[:2] + segment + contents[2:]).shape == (40, 20, 3)


@pytest.mark.parametrize("wanted", [None, (5, 5)])
@pytest.mark.parametrize("name", jpegs())
def test_damage_is_judged_alike_with_and_without_libjpeg_turbo(name, wanted, monkeypatch):
    contents, rng = jpegs()[name], random.Random(0)
    cuts = [contents[:length] for length in (*range(0, 60, 7), *(rng.randrange(len(contents)) for _ in range(20)))]
    damaged = cuts + [flip_some(contents, rng) for _ in range(100)]
    found = [pixels_or_nothing(each, wanted) for each in damaged]
    without_simplejpeg(monkeypatch)
    for each, pixels in zip(damaged, found, strict=True):
        np.testing.assert_array_equal(pixels, pixels_or_nothing(each, wanted))


def pixels_or_nothing(contents: bytes, wanted: tuple[int, int] | None) -> np.ndarray | None:
    try:
        return decode(contents, wanted)
    except DataError:
        return None


# ── Fit ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fit(image: np.ndarray, height: int, width: int, mode: str, interpolation: str = "bilinear") -> np.ndarray:
    out = np.zeros((height, width, 3), np.uint8)
    fit_into(image, PreprocessSpec(height, width, mode, interpolation), out)
    return out


@pytest.mark.parametrize("mode", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_picture_of_the_right_size_passes_unchanged(mode, interpolation):
    image = np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8)
    np.testing.assert_array_equal(fit(image, 17, 23, mode, interpolation), image)


@pytest.mark.parametrize(("interpolation", "kernel"), [("bilinear", 2), ("bicubic", 3)])
def test_stretch_takes_the_whole_picture(interpolation, kernel):
    image = np.asarray(photo(61))
    expected = np.asarray(Image.fromarray(image).resize((31, 20), kernel)).astype(int)
    assert np.abs(fit(image, 20, 31, "stretch", interpolation) - expected).max() <= 1


@pytest.mark.parametrize(
    ("shape", "target", "box"),
    [
        ((40, 80), (20, 20), (20, 0, 60, 40)),
        ((80, 40), (20, 20), (0, 20, 40, 60)),
        ((41, 80), (20, 20), (19.5, 0, 60.5, 41)),
        ((30, 30), (10, 20), (0, 7.5, 30, 22.5)),
        ((5, 7), (20, 20), (1, 0, 6, 5)),
    ],
)
def test_crop_takes_the_largest_centred_box(shape, target, box):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    resized = Image.fromarray(image).resize(target[::-1], 2, box=box)
    assert np.abs(fit(image, *target, "crop") - np.asarray(resized).astype(int)).max() <= 1


def test_crop_stays_inside_of_every_shape():
    for height in range(1, 40, 3):
        for width in range(1, 40, 3):
            fit(np.zeros((height, width), np.uint8), 13, 17, "crop")


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((40, 80), slice(5, 15), slice(0, 20)),
        ((80, 40), slice(0, 20), slice(5, 15)),
        ((10, 5), slice(0, 20), slice(5, 15)),
        ((1, 1000), slice(9, 10), slice(0, 20)),
    ],
)
def test_pad_centres_the_whole_picture_on_grey(shape, rows, columns):
    out = fit(np.full((*shape, 3), 7, np.uint8), 20, 20, "pad")
    expected = np.full((20, 20, 3), PAD_GREY, np.uint8)
    expected[rows, columns] = 7
    np.testing.assert_array_equal(out, expected)


# ── Both ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_paths_and_arrays_give_the_same_pixels(tmp_path):
    image, spec = np.asarray(photo(50)), PreprocessSpec(24, 32, "crop")
    Image.fromarray(image).save(tmp_path / "a.png")
    out = preprocess([tmp_path / "a.png", str(tmp_path / "a.png"), image, image[:, ::-1][:, ::-1]], spec)
    assert out.shape == (4, 24, 32, 3) and out.dtype == np.uint8
    assert all((each == out[0]).all() for each in out)
    np.testing.assert_array_equal(preprocess(np.stack([image, image]), spec), out[:2])


def test_no_pictures_give_an_empty_batch():
    assert preprocess([], PreprocessSpec(8, 9)).shape == (0, 8, 9, 3)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros(8, np.uint8),
        [[1, 2], [3, 4]],
        None,
    ],
    ids=str,
)
def test_anything_else_is_a_type_error_that_says_what_must_hold(image):
    with pytest.raises(TypeError, match=r"path, bytes, or uint8 \[H, W, 3\] RGB or \[H, W\] grey; found"):
        preprocess([image], PreprocessSpec(8, 8))


@pytest.mark.parametrize("images", ["a.png", np.zeros((8, 8, 3), np.uint8)], ids=["path", "picture"])
def test_one_picture_in_place_of_a_list_is_a_type_error(images):
    with pytest.raises(TypeError, match="must be a list"):
        preprocess(images, PreprocessSpec(8, 8))


def test_the_error_of_a_list_names_the_path(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"bad\.png: damaged"):
        preprocess([tmp_path / "bad.png"], PreprocessSpec(8, 8))
