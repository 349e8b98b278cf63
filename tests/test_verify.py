"""One word for what a machine computes: same, within tolerance, different. Files with changed golden values."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import draw_photo, make_backbone, make_head, make_manifest
from typer.testing import CliRunner

import tledge
from tledge import heads, machine, modalities
from tledge.cli.app import app
from tledge.model.join import join
from tledge.model.manifest import golden_samples, stamp
from tledge.schema import Precision

pytest.importorskip("onnx", reason="onnx (extra train) is not installed")

CLASSES = ("left", "middle", "right")
Rewrite = Callable[[Sequence[float]], Sequence[float]]


def sealed(
    folder: Path, rewrite: Rewrite = lambda row: row, *, precision: Precision = "fp32", seed: int = 3, **facts: Any
) -> Path:
    """Write a model whose first golden sample is said to give `rewrite` of what it gives here."""
    backbone = make_backbone(folder / "graphs")
    graph = join(backbone, heads.graph(make_head(3, seed=seed), 8))
    batch = [draw_photo(kind, np.random.default_rng(kind), 16) for kind in range(4)]
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    reader = modalities.reader(backbone.preprocess)
    golden = list(golden_samples(batch, reader, lambda rows: session.run(["probabilities"], reader.feed(rows))[0]))
    golden[0] = replace(golden[0], probabilities=tuple(rewrite(golden[0].probabilities)))
    manifest = replace(make_manifest(backbone, CLASSES), precision=precision, golden=tuple(golden), **facts)
    path = folder / "model.onnx"
    path.write_bytes(stamp(graph, manifest))
    return path


def nudged(by: float) -> Rewrite:
    """Move probability from the likeliest class to the next, or the other way for less than nothing."""

    def rewrite(row: Sequence[float]) -> list[float]:
        second, best = np.argsort(row)[-2:]
        return [p - by if i == best else p + by if i == second else p for i, p in enumerate(row)]

    return rewrite


def swapped(row: Sequence[float]) -> list[float]:
    """Make a tie of the two likeliest classes and tip it by a hair, so that the label alone changes."""
    second, best = np.argsort(row)[-2:]
    middle = (row[best] + row[second]) / 2
    return [middle - 1e-5 if i == best else middle + 1e-5 if i == second else p for i, p in enumerate(row)]


@pytest.mark.parametrize(
    ("precision", "by", "outcome"),
    [
        ("fp32", 0.0, "same"),
        ("fp32", -1e-7, "within_tolerance"),
        ("fp32", -9e-4, "within_tolerance"),
        ("fp32", -2e-3, "different"),
        ("fp16", -2e-3, "within_tolerance"),
        ("fp16", -3e-2, "different"),
        ("int8", -3e-2, "within_tolerance"),
        ("int8", -6e-2, "different"),
        ("fp32", float("nan"), "different"),
    ],
)
def test_the_outcome_is_one_word(precision: Precision, by: float, outcome: str, tmp_path: Path) -> None:
    found = tledge.verify(sealed(tmp_path, nudged(by), precision=precision))
    assert (found.outcome, found.passed) == (outcome, outcome != "different")
    assert (found.golden.max_abs_diff == 0) == (outcome == "same")
    assert found.instruction_sets == tuple(machine.describe()["instruction_sets"])


def test_a_flip_fails_however_small_the_difference(tmp_path: Path) -> None:
    for seed in range(50):  # one where the likeliest two are so near that only the label can tell
        path = sealed(tmp_path, swapped, precision="int8", seed=seed)
        found = tledge.verify(path)
        if found.golden.max_abs_diff < found.golden.tolerance:
            break
    assert found.golden.flips == 1 and found.golden.max_abs_diff < found.golden.tolerance
    assert (found.outcome, found.passed) == ("different", False)


def test_of_several_labels_each_is_a_decision(tmp_path: Path) -> None:
    # The likeliest class stays the likeliest, but the threshold lies between what is computed and what was said.
    row: list[float] = []
    sealed(tmp_path, lambda found: row.extend(found) or found)
    last = int(np.argmin(row))
    bars = tuple(row[i] - 5e-5 if i == last else 0.5 for i in range(3))
    lowered = lambda found: [p - 1e-4 if i == last else p for i, p in enumerate(found)]  # noqa: E731
    found = tledge.verify(sealed(tmp_path, lowered, multilabel=True, thresholds=bars))
    assert found.golden.flips == 1 and found.outcome == "different"
    found = tledge.verify(sealed(tmp_path, lowered, multilabel=True, thresholds=(0.9, 0.9, 0.9)))
    assert found.golden.flips == 0 and found.outcome == "within_tolerance"


@pytest.mark.parametrize(
    ("by", "code", "word", "end"),
    [
        (0.0, 0, "same", "what it should."),
        (-1e-4, 0, "within tolerance", "what it should."),
        (-0.1, 1, "different", "something else."),
    ],
)
def test_people_and_scripts_are_told(by: float, code: int, word: str, end: str, tmp_path: Path) -> None:
    path = sealed(tmp_path, nudged(by))
    result = CliRunner().invoke(app, ["verify", str(path)], catch_exceptions=False)
    assert result.exit_code == code and word in result.stdout and result.stdout.endswith(f"computes {end}\n")
    assert "cpu" in result.stdout and all(each in result.stdout for each in machine.describe()["instruction_sets"])
    result = CliRunner().invoke(app, ["verify", str(path), "--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert result.exit_code == code and found["outcome"] == word.replace(" ", "_") and found["nodes_elsewhere"] == []
    assert found["passed"] == (code == 0) and found["golden"].keys() >= {
        "samples",
        "max_abs_diff",
        "flips",
        "tolerance",
    }
