"""`tledge verify`: is this machine computing what the exporting machine did?"""

from __future__ import annotations

from pathlib import Path

from tledge import machine, places
from tledge.model.verify import check_golden
from tledge.runtime import Predictor
from tledge.schema import VerifyResult


def verify(model: str | Path, *, provider: str = "auto") -> VerifyResult:
    """Check the digest of the model file `model` and run its golden samples here; `passed` tells whether they agree.

    Raises ModelError when the file is not ours or was changed.
    """
    model = places.at(model)
    predictor = Predictor(model, provider=provider)
    check = check_golden(predictor)
    manifest = predictor.manifest
    return VerifyResult(
        schema_version=1,
        model=str(model),
        passed=check.passed,
        digest=predictor.digest,
        golden=check,
        precision=manifest.precision,
        provider=predictor.provider,
        classes=manifest.classes,
        backbone=manifest.backbone,
        accuracy=manifest.accuracy,
        instruction_sets=tuple(machine.describe()["instruction_sets"]),
    )
