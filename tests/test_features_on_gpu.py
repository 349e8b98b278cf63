"""The pipeline for GPUs, on a CPU: the same features as the plain path; graphs in half precision; strict providers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import make_backbone, make_photos, make_samples

from tledge import engine, half, modalities
from tledge.errors import EngineError, ModelError
from tledge.features import FeatureStore, extract, on_gpu
from tledge.features.extract import space_of
from tledge.modalities import preprocess
from tledge.reading import read
from tledge.schema import Backbone, Sample

HALF_EPSILON = float(np.finfo(np.float16).eps)
needs_provider = pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="needs onnxruntime-gpu and a CUDA device",
)


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    return make_backbone(tmp_path / "graphs")


@pytest.fixture
def samples(tmp_path: Path) -> tuple[Sample, ...]:
    return make_samples(make_photos(tmp_path / "photos", ["left", "right"], 20))


@pytest.fixture
def as_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let what is asked of CUDA run on the CPU: all but the provider and the memory is as on a GPU."""
    open_session, full = engine.open_session, []

    def opened(model: bytes | Path, **options: object) -> onnxruntime.InferenceSession:
        return open_session(model, **{**options, "provider": "cpu"})

    def pipeline(*arguments: object, **options: object) -> on_gpu.Pipeline:
        return plain(*arguments, **{"full": bool(full), **options})

    plain = on_gpu.Pipeline
    monkeypatch.setattr(engine, "open_session", opened)
    monkeypatch.setattr(on_gpu, "Pipeline", pipeline)
    yield lambda: full.append(True)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_the_pipeline_gives_the_features_of_the_plain_path(backbone, samples, tmp_path, as_gpu) -> None:
    as_gpu()  # in full precision, so that every bit must agree
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    with FeatureStore(tmp_path / "a") as one, FeatureStore(tmp_path / "b") as other:
        expected = extract(samples, backbone, one)
        seen: list[tuple[int, int]] = []
        found = extract(samples, backbone, other, provider="cuda", on_progress=lambda *at: seen.append(at))
    assert (found.matrix == expected.matrix).all() and found.misses == len(samples)
    assert seen[-1] == (len(samples), len(samples)) and len(seen) == 2  # pieces of 32


def loading(backbone):
    reader = modalities.reader(backbone.preprocess)
    return lambda sample: read(sample, reader)


def test_lanes_in_flight_do_not_mix_their_pictures(backbone, samples) -> None:
    expected = preprocess([sample.path for sample in samples], backbone.preprocess)
    (rows,) = engine.open_session(backbone.path, provider="cpu").run(["features"], {"image": expected})
    pipeline = on_gpu.Pipeline(backbone, "cpu", 3, loading(backbone), full=True)
    starts = [start % (len(samples) - 3) for start in range(120)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda start: pipeline.run(samples[start : start + 3]), starts))
    pipeline.close()
    for start, (some, reasons) in zip(starts, found, strict=True):
        assert reasons == [None] * 3
        np.testing.assert_allclose(some, rows[start : start + 3], atol=1e-5)


def test_a_broken_file_is_left_out_and_its_row_is_empty(backbone, samples, tmp_path, as_gpu) -> None:
    as_gpu()
    Path(samples[3].path).write_bytes(b"no picture")
    with FeatureStore(tmp_path) as store:
        found = extract(samples, backbone, store, provider="cuda")
    assert len(found.samples) == len(samples) - 1 and [problem.path for problem in found.skipped] == [samples[3].path]
    pipeline = on_gpu.Pipeline(backbone, "cpu", 4, loading(backbone), full=True)
    pipeline.run(samples[4:8])
    for _ in range(on_gpu.LANES - 1):
        pipeline.run(samples[4:8])
    rows, reasons = pipeline.run(samples[2:4])  # in a lane where four pictures stood before
    pipeline.close()
    assert reasons[0] is None and reasons[1] and len(rows) == 2
    lanes = [pipeline._free.get() for _ in range(on_gpu.LANES)]
    assert lanes[-1].batch[0].any() and not lanes[-1].batch[1:].any()


def test_features_that_overflow_are_refused_with_the_way_out(samples, tmp_path, as_gpu) -> None:
    loud = make_backbone(tmp_path / "loud", gain=1e9)
    with FeatureStore(tmp_path) as store, pytest.raises(ModelError, match=r"finite.*--provider cpu"):
        extract(samples, loud, store, provider="cuda")


# ── Half precision ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_graph_in_half_precision_is_near_the_whole_one(backbone, samples, tmp_path, as_gpu) -> None:
    with FeatureStore(tmp_path) as store:
        whole = extract(samples, backbone, store).matrix
        found = extract(samples, backbone, store, provider="cuda").matrix
    assert found.dtype == np.float32 and 0 < relative(found, whole) <= 8 * HALF_EPSILON


def test_half_precision_spares_pixels_and_averages(backbone) -> None:
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(half.in_half(backbone.path)))
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    types |= {value.name: value.data_type for value in model.graph.initializer}
    by_op = {node.op_type: node for node in model.graph.node}
    for kept in ("Sub", "Mul", "GlobalAveragePool"):
        assert {types[name] for name in by_op[kept].input} == {onnx.TensorProto.FLOAT}, kept
    assert {types[name] for name in by_op["Conv"].input} == {onnx.TensorProto.FLOAT16}
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_the_default_backbone_in_half_precision(lite0, photos, tmp_path, as_gpu) -> None:
    some = make_samples(photos)[:6]
    with FeatureStore(tmp_path) as store:
        whole = extract(some, lite0, store).matrix
        found = extract(some, lite0, store, provider="cuda").matrix
    assert relative(found, whole) <= 32 * HALF_EPSILON


def test_precisions_do_not_share_features(backbone) -> None:
    spaces = [space_of(backbone, provider) for provider in ("cpu", "cuda", "tensorrt")]
    assert len({space.digest for space in spaces}) == 3
    assert "fp16" in spaces[1].label and "fp32" in spaces[0].label


# ── Providers ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not needs_provider.args[0], reason="needs an onnxruntime without CUDA")
def test_without_the_provider_the_pipeline_is_refused(backbone, samples, tmp_path) -> None:
    with FeatureStore(tmp_path) as store, pytest.raises(EngineError, match="'cuda' is not active") as caught:
        extract(samples, backbone, store, provider="cuda")
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


@needs_provider
def test_on_a_device_the_features_are_near_those_of_a_processor(lite0, photos, tmp_path) -> None:
    some = make_samples(photos)
    with FeatureStore(tmp_path) as store:
        whole = extract(some, lite0, store).matrix
        found = extract(some, lite0, store, provider="cuda").matrix
    assert relative(found, whole) <= 32 * HALF_EPSILON
