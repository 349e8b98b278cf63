"""`--input image`: pictures of any size into the graph come out as those that tledge resizes itself."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import draw_photo, make_backbone, make_head, make_manifest, make_photos, make_samples
from PIL import Image
from test_heads_kinds import draw, fit
from test_joining import CLASSES, PRECISIONS, backbone_in, command, pixels, run, shapeless, small_run

import tledge
from tledge import heads
from tledge.commands.exporting import budgets
from tledge.errors import CheckFailed, ModelError, TledgeError
from tledge.modalities.image import fit_into
from tledge.model import build, check_golden, layouts, through_graph
from tledge.model.image_input import OPSET, fitting, take_any_size
from tledge.model.join import join
from tledge.model.manifest import stamp
from tledge.runtime import MANIFEST_KEY, Predictor
from tledge.schema import Backbone, Budgets, Fit, Interpolation, Packaging, PreprocessSpec, Sample

onnx = pytest.importorskip("onnx", reason="onnx (extra train) is not installed")

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
__all__ = ["small_run"]  # a fixture of the file that it comes from
# Where onnxruntime fuses other nodes, it rounds to float16 in other places: its epsilon, as probabilities are below 1.
ROUNDING = {"fp32": 1e-6, "int8": 1e-6, "fp16": float(np.finfo(np.float16).eps)}
SIZES = [(24, 32), (1, 1), (1, 90), (130, 2), (25, 31), (48, 64), (37, 53), (201, 90), (90, 201), (333, 77), (17, 400)]


@pytest.fixture
def samples(tmp_path: Path) -> tuple[Sample, ...]:
    folder = make_photos(tmp_path / "photos", ["a", "b", "c"], 6, size=61)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):  # of several shapes
        with Image.open(path) as image:
            image.crop((0, 0, 30 + 3 * number, 61 - 2 * number)).save(path)
    return make_samples(folder)


def resized(spec: PreprocessSpec, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `picture` as the graph and as the native code fits it, both int16 [height, width, 3]."""
    native = np.empty((spec.height, spec.width, 3), np.uint8)
    fit_into(picture, spec, native)
    return run(fitting(spec), image=picture[None])[0].transpose(1, 2, 0).astype(np.int16), native.astype(np.int16)


def packed(backbone: Backbone, samples: tuple[Sample, ...], folder: Path, packaging: Packaging) -> Path:
    head = heads.graph(make_head(3), 8)
    expected = run(join(backbone, head), image=pixels(samples, backbone))
    content, check = build(backbone, head, make_manifest(backbone, CLASSES), samples, expected, packaging)
    assert check.passed and check.max_abs_diff < ROUNDING[backbone.precision]
    path = folder / f"{packaging.input}.onnx"
    path.write_bytes(content)
    return path


# ── The resize ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_graph_resizes_as_tledge_does(fit: Fit, interpolation: Interpolation, size: tuple[int, int]) -> None:
    height, width = size
    photo = draw_photo(height, np.random.default_rng(width), 400)[:height, :width]
    found, expected = resized(PreprocessSpec(24, 32, fit, interpolation), np.ascontiguousarray(photo))
    # One grey level; a few where the height shrinks much more than the width, and rows come first in Pillow.
    rows_first = fit == "stretch" and height - 24 > 2 * max(0, width - 32)
    assert np.abs(found - expected).max() <= (4 if rows_first else 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_crop_is_off_by_half_a_pixel_at_most(interpolation: Interpolation) -> None:
    """Of a picture that is a slope, the difference in grey levels tells by how many of its pixels the crop is off."""
    for height, width in [(240, 321), (321, 240), (97, 400), (500, 203), (24, 32), (240, 320)]:
        across = np.broadcast_to(np.arange(width) % 256, (height, width))
        smooth = np.stack([across / 2, np.broadcast_to(np.arange(height)[:, None] / 2, (height, width)), across / 3], 2)
        picture = np.ascontiguousarray(smooth[:, : min(width, 256)].astype(np.uint8))
        found, expected = resized(PreprocessSpec(24, 32, "crop", interpolation), picture)
        assert np.abs(found - expected)[2:-2, 2:-2].max() <= 1


def test_noise_of_the_models_size_passes_unchanged() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    for way in ("stretch", "crop", "pad"):
        for interpolation in ("bilinear", "bicubic"):
            found, _ = resized(PreprocessSpec(24, 32, way, interpolation), noise)
            np.testing.assert_array_equal(found, noise)


# ── The model behind it ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_plain_operators_lead_to_the_same_model(precision, fit, samples, tmp_path):
    backbone = backbone_in(precision, samples, tmp_path)
    backbone = replace(backbone, preprocess=replace(backbone.preprocess, fit=fit))
    tensor, image = (packed(backbone, samples, tmp_path, Packaging(input=kind)) for kind in ("tensor", "image"))
    model = onnx.load(image)
    onnx.checker.check_model(model, full_check=True)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", OPSET)] and model.ir_version == 8
    (given,) = model.graph.input
    assert (given.name, given.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    dims = [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim]
    assert dims == ["N", "H", "W", 3]
    kinds = [each.op_type for each in model.graph.node]
    assert kinds.count("Transpose") == 1  # the network's own would only undo that of the resize
    if precision == "int8":  # behind the resize, the bytes still are the first layer's quantized input
        behind = model.graph.node[kinds.index("Conv") - 3 : kinds.index("Conv")]
        assert (
            "DequantizeLinear" in [each.op_type for each in behind]
            and "QuantizeLinear" not in kinds[: kinds.index("Conv")]
        )
    if fit == "stretch":
        assert not shapeless(model)
    images = pixels(samples, backbone)
    expected = Predictor(tensor).run(images)
    np.testing.assert_allclose(Predictor(image).run(list(images)), expected, atol=ROUNDING[precision])
    together = onnxruntime.InferenceSession(str(image)).run(None, {"image": images})[0]  # several of one size at once
    np.testing.assert_allclose(together, expected, atol=ROUNDING[precision])


def test_a_network_that_reads_pictures_channels_last_gets_them_so(tmp_path):
    backbone = make_backbone(tmp_path / "graphs")
    model = join(backbone, heads.graph(make_head(3), 8))
    model.graph.node.insert(0, onnx.helper.make_node("Identity", ["image"], ["same"]))
    model.graph.node[1].input[0] = "same"
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    expected = run(model, image=images)
    found = take_any_size(model, backbone.preprocess)
    onnx.checker.check_model(found, full_check=True)
    np.testing.assert_allclose(run(found, image=images), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "binary", "centroid", "svm", "forest"])
def test_every_kind_of_head_goes_with_the_newer_operators(kind, tmp_path):
    backbone = make_backbone(tmp_path / "graphs")
    features = draw(60, 2, dimension=8)
    head = heads.graph(fit(kind, features, 2), 8)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    expected = run(join(backbone, head), image=images)
    model = take_any_size(join(backbone, head), backbone.preprocess)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model, image=images), expected, atol=1e-6)


def odd_pictures(folder: Path) -> list[Path]:
    """Write one photo in the forms that a decoder must make alike: turned by EXIF, grey, transparent, of 16 bits."""
    photo = Image.fromarray(draw_photo(1, np.random.default_rng(0), 80)[:50])
    exif = Image.Exif()
    exif[274] = 6
    photo.save(folder / "turned.jpg", exif=exif, quality=98)
    photo.convert("L").save(folder / "grey.png")
    photo.convert("LA").save(folder / "grey_alpha.png")
    Image.merge("RGBA", (*photo.split(), photo.split()[0])).save(folder / "transparent.png")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    photo.resize((1, 1)).save(folder / "one.png")
    photo.convert("P").save(folder / "palette.gif")
    return sorted(path for path in folder.iterdir() if path.is_file())


def test_the_predictor_takes_what_it_took_before(samples, tmp_path):
    backbone = make_backbone(tmp_path / "graphs", size=24)
    tensor, image = (
        Predictor(packed(backbone, samples, tmp_path, Packaging(input=kind))) for kind in ("tensor", "image")
    )
    assert image.manifest.input == "image" and image.manifest.preprocess == tensor.manifest.preprocess
    (tmp_path / "odd").mkdir()
    paths = odd_pictures(tmp_path / "odd")
    arrays = [draw_photo(kind, np.random.default_rng(kind), 50) for kind in range(3)]
    for given in (paths, arrays, np.stack(arrays), [arrays[0][..., 0]], paths[0], str(paths[1]), arrays[1]):
        np.testing.assert_allclose(image.probabilities(given), tensor.probabilities(given), atol=0.01)
        assert [each.path for each in image(given)] == [each.path for each in tensor(given)]
    assert image([]) == [] and image.probabilities([]).shape == (0, 3)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(TledgeError, match=r"bad\.png"):
        image([tmp_path / "bad.png"])
    for wrong in (np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(TypeError, match="uint8"):
            image([wrong])


def test_golden_samples_are_small_pictures_of_their_own_sizes(samples, tmp_path):
    path = packed(make_backbone(tmp_path / "graphs"), samples, tmp_path, Packaging(input="image"))
    golden = Predictor(path).manifest.golden
    sizes = [Image.open(io.BytesIO(base64.b64decode(each.png))).size for each in golden]
    assert (16, 16) not in sizes and len(set(sizes)) > 1 and all(w * h <= 1.5 * 16 * 16 for w, h in sizes)
    check = check_golden(Predictor(path))
    assert check.passed and check.samples == 4 and check.max_abs_diff < 1e-6
    other = make_head(3, seed=4)
    model = take_any_size(join(make_backbone(tmp_path / "graphs"), heads.graph(other, 8)), PreprocessSpec(16, 16))
    path.write_bytes(stamp(model, Predictor(path).manifest))
    assert not check_golden(Predictor(path)).passed


def test_a_manifest_that_says_another_input_than_the_graph_has_is_refused(samples, tmp_path):
    backbone = make_backbone(tmp_path / "graphs")
    image = packed(backbone, samples, tmp_path, Packaging(input="image"))
    tensor = packed(backbone, samples, tmp_path, Packaging())
    for path, word in ((image, "tensor"), (tensor, "image"), (tensor, "sound")):
        manifest = replace(Predictor(path).manifest, input=word)
        changed = tmp_path / "changed.onnx"
        changed.write_bytes(stamp(onnx.load(path), manifest))
        with pytest.raises(ModelError, match="manifest"):
            Predictor(changed)


def test_parity_is_that_of_whole_pictures(samples, tmp_path):
    backbone = make_backbone(tmp_path / "graphs")
    content = packed(backbone, samples, tmp_path, Packaging(input="image")).read_bytes()
    rows, (largest, mean) = through_graph(content, backbone.preprocess, samples)
    expected = run(join(backbone, heads.graph(make_head(3), 8)), image=pixels(samples, backbone))
    assert rows.shape == expected.shape
    change = np.abs(rows - expected).max(axis=1)
    jpeg = np.array([sample.path.endswith(".jpg") for sample in samples])
    assert 0 < change[~jpeg].max() < 0.002
    assert 0.002 < change[jpeg].max() < 0.1  # tledge decodes a large JPEG at half its size; here it came whole
    assert 0 < largest <= 4 and 0 < mean < 0.5


def test_pictures_that_are_decided_on_otherwise_fail_the_export():
    before = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    after = before[:, ::-1].copy()
    found = budgets.input_parity((before > 0.5, before > 0.5), before - before, (1.0, 0.01), 0.95)
    assert found.passed and (found.samples, found.agreement, found.pixel_max_abs_diff) == (3, 1.0, 1.0)
    failed = budgets.input_parity((before > 0.5, after > 0.5), before - after, (1.0, 0.01), 0.95)
    assert not failed.passed and failed.max_abs_diff == pytest.approx(0.8)
    from test_budgets import compared

    with pytest.raises(CheckFailed, match=r"any size must be decided on .* 95\.0% .* they are in 0\.0% of 3") as caught:
        budgets.check(replace(compared([], []), input_parity=failed), Budgets())
    assert caught.value.exit_code == 1


# ── The command, and what else reads the file ────────────────────────────────────────────────────────────────────────


def test_the_whole_way_of_a_picture_of_any_size(small_run, tmp_path):
    out, photos = tmp_path / "m.onnx", small_run.parent / "photos"
    code, found, _ = command("export", small_run, "--out", out, "--input", "image", "--batch", 1, "--json")
    assert code == 0 and found["input"] == "image"
    parity = found["input_parity"]
    assert parity["samples"] == found["parity"]["samples"] and parity["passed"] and parity["agreement"] == 1
    assert parity["pixel_max_abs_diff"] <= 4 and parity["max_abs_diff"] < 0.02
    native = tledge.export(small_run, tmp_path / "native.onnx")
    assert native.input_parity is None and native.accuracy.after == found["accuracy"]["after"]
    accuracies = [tledge.evaluate(each, photos).metrics.accuracy for each in (out, tmp_path / "native.onnx")]
    assert abs(accuracies[0] - accuracies[1]) <= 1 / 36
    assert command("verify", out)[0] == 0
    code, found, _ = command("predict", out, photos, "--json")
    assert code == 0 and len(found["predictions"]) == 36
    code, found, _ = command("bench", out, "--seconds", 0.2, "--json")
    assert code == 0 and found["scenarios"]["single_stream"]["p50_ms"] > 0


def test_what_takes_no_pictures_is_told_so_in_one_line(tmp_path, small_run, cache):
    rng, y = np.random.default_rng(0), np.arange(40) % 2
    np.savez(tmp_path / "v.npz", x=(rng.normal(size=(40, 6)) + y[:, None]).astype(np.float32), y=y)
    vectors = tledge.train(tmp_path / "v.npz", tmp_path / "run").run
    for run_, words, said in (
        (vectors, [], "trained on vectors"),
        (small_run, ["--batch", "4"], "one by one"),
        (small_run, ["--layout", "onnxruntime-web"], "resizes pictures itself"),
        (small_run, ["--precision", "keras"], "for ONNX files"),
    ):
        code, _, error = command("export", run_, "--out", tmp_path / "m.onnx", "--input", "image", *words)
        assert code == 2 and said in error and error.rstrip().count("\n") == 0, error
    assert not (tmp_path / "m.onnx").exists()


def test_triton_and_the_example_take_pictures_of_any_size(samples, tmp_path):
    path = packed(make_backbone(tmp_path / "graphs"), samples, tmp_path, Packaging(input="image"))
    layouts.write(tmp_path / "models", "triton", "m", path.read_bytes(), force=False)
    assert "dims: [-1, -1, 3]" in (tmp_path / "models/m/config.pbtxt").read_text()
    picture = tmp_path / "new.png"
    Image.fromarray(draw_photo(2, np.random.default_rng(0), 70)[:41]).save(picture)
    (expected,) = Predictor(path)([picture])
    done = subprocess.run([sys.executable, EXAMPLES / "classify.py", path, picture], capture_output=True, text=True)
    label, probability = done.stdout.rsplit(maxsplit=1)
    assert label == ascii(expected.label) and float(probability) == pytest.approx(expected.probability, abs=1e-3)
    fixed = packed(make_backbone(tmp_path / "graphs"), samples, tmp_path, Packaging(batch=3))
    done = subprocess.run([sys.executable, EXAMPLES / "classify.py", fixed, picture], capture_output=True, text=True)
    assert done.stdout.split()[0] == label.split()[0], done.stderr
    metadata: dict[str, Any] = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert metadata["input"] == "image" and json.loads(metadata[MANIFEST_KEY])["input"] == "image"
