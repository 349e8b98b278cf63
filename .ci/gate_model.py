"""Export the model that the latency gate of our own CI judges: int8, trained on pictures drawn by code.

    python .ci/gate_model.py OUT.onnx

It takes the tledge that Python finds, so that one script makes the model of two commits from the same pictures.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

_CLASSES = ("left", "right")
_PER_CLASS = 24
_SIDE = 96


def main(out: str) -> None:
    """Train on the drawn pictures and export to `out`."""
    import tledge

    with tempfile.TemporaryDirectory() as folder:
        tledge.train(draw(Path(folder) / "pictures"), Path(folder) / "run")
        tledge.export(Path(folder) / "run", out, precision="int8")
    print(out, tledge.__file__)


def draw(folder: Path) -> Path:
    """Draw noise that is brighter on the left or on the right, one folder a class; return `folder`."""
    rng, slope = np.random.default_rng(0), np.linspace(-60, 60, _SIDE)[:, None]
    for name, sign in zip(_CLASSES, (-1, 1), strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(_PER_CLASS):
            pixels = (128 + sign * slope + rng.normal(0, 30, (_SIDE, _SIDE, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    return folder


if __name__ == "__main__":
    main(sys.argv[1])
