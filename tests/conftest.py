"""What the tests share: pictures drawn by code, a tiny backbone made by hand, and the default one converted once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tledge
from tledge import backbones, heads
from tledge.heads import dense
from tledge.model.join import join
from tledge.model.manifest import MANIFEST_VERSION, stamp
from tledge.schema import Backbone, Head, Manifest, PreprocessSpec, Sample


def draw_photo(kind: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw uint8 [size, size, 3]: noisy stripes; `kind` sets hue and angle, chance sets place and brightness."""
    y, x = np.mgrid[:size, :size] / size
    angle, phase = kind * 0.7, rng.uniform(0, 6.3)
    stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 6.3 * (2 + kind % 4) + phase)
    hue = 0.5 + 0.5 * np.cos(np.array([0.0, 2.1, 4.2]) + kind * 1.3)
    picture = 80 + 60 * hue + 50 * stripes[..., None] * hue + rng.uniform(-25, 25) + rng.normal(0, 18, (size, size, 3))
    return picture.clip(0, 255).astype(np.uint8)


def make_photos(folder: Path, classes: Sequence[str], per_class: int, seed: int = 0, size: int = 48) -> Path:
    """Draw `per_class` pictures into `folder`/class for each class, JPEG and PNG in turn; returns `folder`."""
    rng = np.random.default_rng(seed)
    for kind, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            path = folder / name / f"{number:03}.{('jpg', 'png')[number % 2]}"
            Image.fromarray(draw_photo(kind, rng, size)).save(path)
    return folder


def make_samples(folder: Path) -> tuple[Sample, ...]:
    """Return the files of a class folder tree as samples, labelled by the order of their folders."""
    names = sorted(place.name for place in folder.iterdir())
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return tuple(
        Sample(str(file), names.index(file.parent.name), hashlib.sha256(file.read_bytes()).hexdigest())
        for file in files
    )


def make_backbone(
    folder: Path,
    *,
    name: str = "tiny",
    size: int = 16,
    mean: tuple[float, float, float] = (127.0, 127.0, 127.0),
    std: tuple[float, float, float] = (128.0, 128.0, 128.0),
    seed: int = 0,
    gain: float = 1.0,
) -> Backbone:
    """Write a backbone of two convolutions with random weights, in the form that conversion gives; 8 features.

    `gain` multiplies the last weights, so that infinity brings features that are not finite.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    constants = {
        "mean": np.array(mean, np.float32).reshape(3, 1, 1),
        "scale": (1 / np.array(std, np.float32)).reshape(3, 1, 1),
        "first.weight": rng.normal(0, 0.4, (6, 3, 3, 3)).astype(np.float32),
        "first.bias": rng.normal(0, 0.2, 6).astype(np.float32),
        "low": np.float32(0),
        "high": np.float32(6),
        "second.weight": (rng.normal(0, 0.5, (8, 6, 3, 3)) * gain).astype(np.float32),
        "second.bias": rng.normal(0, 0.2, 8).astype(np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Transpose", ["image"], ["pixels"], "transpose", perm=[0, 3, 1, 2]),
        node("Cast", ["pixels"], ["cast"], "cast", to=TensorProto.FLOAT),
        node("Sub", ["cast", "mean"], ["centred"], "sub"),
        node("Mul", ["centred", "scale"], ["normalised"], "mul"),
        node("Conv", ["normalised", "first.weight", "first.bias"], ["first"], "first", strides=[2, 2]),
        node("Clip", ["first", "low", "high"], ["first.relu6"], "first.relu6"),
        node("Conv", ["first.relu6", "second.weight", "second.bias"], ["second"], "second"),
        node("Relu", ["second"], ["second.relu"], "second.relu"),
        node("GlobalAveragePool", ["second.relu"], ["pool"], "pool"),
        node("Flatten", ["pool"], ["features"], "flatten"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", size, size, 3])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 8])
    weights = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, [image], [features], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Backbone(name, path, PreprocessSpec(size, size, mean=mean, std=std), 8, digest)


def make_head(classes: int, dimension: int = 8, seed: int = 3) -> Head:
    """Return a head with random weights."""
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(0, 0.5, (dimension, classes)), rng.normal(0, 0.5, classes)
    arrays = dense.one_layer(weights.astype(np.float32), bias.astype(np.float32))
    return Head("linear", arrays, {"l2": 0.1})


def make_manifest(backbone: Backbone, classes: Sequence[str]) -> Manifest:
    """Return a manifest that fits a model of `backbone` and `classes`; what else it says is made up."""
    return Manifest(
        schema_version=MANIFEST_VERSION,
        tledge_version="0",
        created="2026-01-01T00:00:00+00:00",
        backbone=backbone.name,
        backbone_digest=backbone.digest,
        licence="none",
        precision=backbone.precision,
        classes=tuple(classes),
        preprocess=backbone.preprocess,
        accuracy=0.5,
        test_samples=24,
        data_fingerprint="f",
    )


def make_model(path: Path, classes: Sequence[str] = ("left", "right"), backbone: Backbone | None = None) -> Path:
    """Write a sealed model file of a tiny backbone and a random head; returns `path`."""
    backbone = backbone or make_backbone(path.parent / "graphs")
    head = make_head(len(classes), backbone.dimension)
    path.write_bytes(stamp(join(backbone, heads.graph(head, backbone.dimension)), make_manifest(backbone, classes)))
    return path


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    """A float backbone of two convolutions on pictures of 16 pixels."""
    return make_backbone(tmp_path / "graphs")


@pytest.fixture
def samples(tmp_path: Path) -> tuple[Sample, ...]:
    """Eight pictures of each of three classes; a test may change them."""
    return make_samples(make_photos(tmp_path / "photos", ["a", "b", "c"], 8))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder of the whole test session, where everything under test finds it too."""
    folder = tmp_path_factory.mktemp("tledge-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLEDGE_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def lite0(cache: Path) -> Backbone:
    """The default backbone, converted once for the whole session."""
    return backbones.load("efficientnet_lite0", cache)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes, twelve pictures each. Not to be changed."""
    return make_photos(tmp_path_factory.mktemp("photos") / "photos", ("cat", "dog", "owl"), 12)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, photos: Path, lite0: Backbone) -> Path:
    """The run folder of the default backbone trained on `photos`. Not to be changed, but for exports in its report."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    tledge.train(photos, folder)
    return folder


@pytest.fixture(scope="session")
def int8_model(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    """The int8 model file of `run`. Not to be changed."""
    path = tmp_path_factory.mktemp("models") / "model.onnx"
    tledge.export(run, path)
    return path
