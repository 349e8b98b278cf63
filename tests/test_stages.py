"""End to end: the road that is timed is the one that the predictor takes, and its stages are the whole of it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_photo, make_backbone, make_head, make_manifest, make_model, make_photos
from PIL import Image

from tledge import heads
from tledge.decode import decode
from tledge.errors import DataError, TledgeError
from tledge.measurement import Subject, open_subject
from tledge.measurement.box import made_up_files, sample_files, stages
from tledge.measurement.box.sample_files import SampleFiles
from tledge.modalities.image import ImageReader
from tledge.model.image_input import take_any_size
from tledge.model.join import join
from tledge.model.manifest import stamp
from tledge.runtime import Predictor
from tledge.schema import PreprocessSpec

CLASSES = ["left", "middle", "right"]
READER = ImageReader(PreprocessSpec(8, 8), {})


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return open_subject(make_model(tmp_path / "model.onnx", CLASSES), threads=1)


@pytest.fixture
def any_size(tmp_path: Path) -> Subject:
    """A model that takes pictures of any size and resizes them by itself."""
    backbone = make_backbone(tmp_path / "graphs")
    graph = take_any_size(join(backbone, heads.graph(make_head(3), 8)), backbone.preprocess)
    path = tmp_path / "any.onnx"
    path.write_bytes(stamp(graph, replace(make_manifest(backbone, CLASSES), input="image")))
    return open_subject(path, threads=1)


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def files() -> list[bytes]:
    """Pictures of several sizes and kinds."""
    rng = np.random.default_rng(0)
    drawn = [draw_photo(kind, rng, size) for kind, size in ((0, 40), (1, 90), (2, 300))]
    return [
        *(encoded(pixels, kind) for pixels in drawn for kind in ("JPEG", "PNG")),
        encoded(drawn[1][..., 0], "JPEG"),
        encoded(drawn[2][:20, :250], "WEBP"),
    ]


@pytest.mark.parametrize("kind", ["subject", "any_size"])
def test_the_label_is_the_predictors_from_the_same_pixels(request, tmp_path, kind):
    opened = request.getfixturevalue(kind)
    predictor = Predictor(opened.path, threads=1)
    for content in files():
        prediction, times, (row,) = stages.one(stages.predictor_of(opened), content)
        (tmp_path / "picture").write_bytes(content)
        (expected,) = predictor([tmp_path / "picture"])
        assert (prediction.label, prediction.probabilities) == (expected.label, expected.probabilities)
        np.testing.assert_array_equal(row, predictor.reader.load(content))
        assert len(times) == len(predictor.reader.steps) + 2 and min(times) >= 0


def test_every_stage_is_there_and_they_are_the_whole(subject):
    contents = files()
    found = stages.end_to_end(
        subject, SampleFiles("some", tuple((str(i), each) for i, each in enumerate(contents))), 0.1
    )
    parts = (found.decode, found.resize, found.run, found.label)
    assert sum(stage.mean_ms for stage in parts) == pytest.approx(found.whole.mean_ms, rel=1e-9)
    assert all(0 < stage.p50_ms <= stage.p99_ms for stage in (*parts, found.whole, found.model_alone))
    assert max(stage.p50_ms for stage in parts) < found.whole.p99_ms
    assert found.passes % len(contents) == 0 and found.passes >= len(contents) == found.files
    assert found.mean_bytes == pytest.approx(np.mean([len(each) for each in contents]))
    assert found.extent == "pixels"
    assert found.mean_extent == pytest.approx(np.mean([np.prod(decode(each).shape[:2]) for each in contents]))


def test_a_graph_that_resizes_has_no_such_stage(any_size):
    found = stages.end_to_end(any_size, SampleFiles("some", (("one", files()[0]),)), 0.0)
    assert found.resize is None
    assert found.passes == 1
    assert found.decode.mean_ms + found.run.mean_ms + found.label.mean_ms == pytest.approx(found.whole.mean_ms)


def test_models_of_others_are_refused_in_words(tmp_path, subject):
    import onnx

    model = onnx.load(subject.path)
    del model.metadata_props[:]
    model.producer_name = "other"
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(TledgeError, match="was not exported by tledge") as caught:
        stages.predictor_of(open_subject(tmp_path / "foreign.onnx", threads=1))
    assert "--end-to-end" in caught.value.hint


# ── Pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_drawn_pictures_are_jpegs_as_large_as_they_say():
    for pictures, (width, height) in zip(made_up_files.made_up(READER), [(1920, 1080), (640, 480)], strict=True):
        assert pictures.name == f"drawn {width} × {height}"
        for _, content in pictures.files:
            assert content.startswith(b"\xff\xd8\xff") and decode(content).shape == (height, width, 3)
            assert 1.5 < 8 * len(content) / (width * height) < 4  # bits per pixel, as of a camera


def test_pictures_of_a_folder_are_known_by_content_and_spread_over_it(tmp_path):
    folder = make_photos(tmp_path / "photos", ["a", "b", "c"], 50, size=8)
    (folder / "a" / "notes.jpg").write_text("no picture")
    (folder / ".hidden.jpg").write_bytes(files()[0])
    found = sample_files.given(folder, READER)
    names = [name for name, _ in found.files]
    assert found.name == str(folder)
    assert len(names) == 64 == len(set(names)) and names == sorted(names)
    assert [sum(f"/{kind}/" in name for name in names) for kind in "abc"] == pytest.approx([64 / 3] * 3, abs=1)
    assert not any("notes" in name or "hidden" in name for name in names)
    one = sample_files.given(folder / "a" / "000.jpg", READER)
    assert one.files == ((str(folder / "a" / "000.jpg"), (folder / "a" / "000.jpg").read_bytes()),)


def test_what_is_no_picture_is_named(tmp_path, subject):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no pictures"):
        sample_files.given(tmp_path / "empty", subject.predictor.reader)
    with pytest.raises(DataError, match=r"gone\.jpg cannot be read: No such file"):
        sample_files.given(tmp_path / "gone.jpg", subject.predictor.reader)
    (tmp_path / "cut.jpg").write_bytes(files()[0][:400])
    with pytest.raises(DataError, match=r"cut\.jpg: damaged or cut short"):
        stages.end_to_end(subject, sample_files.given(tmp_path / "cut.jpg", subject.predictor.reader), 0.1)
