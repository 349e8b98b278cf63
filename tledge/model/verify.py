"""Does this machine compute what the exporting machine did? Run the golden samples that the model file carries."""

from __future__ import annotations

import numpy as np

from tledge import decisions
from tledge.errors import ModelError
from tledge.runtime import Predictor
from tledge.schema import GoldenCheck, Manifest, Outcome, Precision

# float32 sums differ in their last bits between instruction sets; int8 rounds those bits to whole steps now and then.
# float16 has eleven bits: CPUs compute it in float32 and round at the ends, GPUs round after every product.
TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "fp16": 2e-2, "int8": 5e-2}


# A resize rounds to whole grey levels, now up and then down.
RESIZED_TOLERANCE = 2e-2


def tolerance(manifest: Manifest) -> float:
    """Return by how much a probability of a golden sample may be off on another machine."""
    resized = RESIZED_TOLERANCE if manifest.input == "image" else 0.0
    return max(TOLERANCE[manifest.precision], resized)


def check_golden(predictor: Predictor) -> GoldenCheck:
    """Run the golden samples of `predictor` and compare with what the file says they must give.

    Raises ModelError when the file carries none, or none that can be read.
    """
    manifest = predictor.manifest
    if not manifest.golden:
        raise ModelError(f"{predictor.path} carries no golden samples.", "Export it again with 'tledge export'.")
    try:
        batch, expected = _golden(predictor)
    except (ValueError, TypeError, OSError) as error:
        hint = "Export it again with 'tledge export'."
        raise ModelError(f"The golden samples in {predictor.path} cannot be read.", hint) from error
    found = predictor.run(batch)
    flips = int((_decided(found, manifest) != _decided(expected, manifest)).any(axis=1).sum())
    worst = float(np.abs(found - expected).max())
    most = tolerance(manifest)
    return GoldenCheck(len(expected), worst, flips, most, passed=flips == 0 and worst <= most)


def outcome(check: GoldenCheck) -> Outcome:
    """Return `check` as one word: same (every probability bit for bit), within_tolerance, or different (not passed)."""
    if not check.passed:
        return "different"
    return "same" if check.max_abs_diff == 0 else "within_tolerance"


def _decided(rows: np.ndarray, manifest: Manifest) -> np.ndarray:
    return decisions.predicted(rows, manifest.thresholds, manifest.multilabel)


def _golden(predictor: Predictor) -> tuple[list[np.ndarray], np.ndarray]:
    manifest = predictor.manifest
    batch = [predictor.reader.from_golden(sample) for sample in manifest.golden]
    expected = np.array([sample.probabilities for sample in manifest.golden], np.float32)
    if expected.shape != (len(batch), len(manifest.classes)):
        raise ValueError("of another shape than the model's")
    return batch, expected
