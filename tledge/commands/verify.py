"""`tledge verify`: is this machine computing what the exporting machine did? And is the file who it says it is?"""

from __future__ import annotations

from pathlib import Path

from tledge import machine, places
from tledge.errors import TledgeError
from tledge.model import signature as signatures
from tledge.model.verify import check_golden, outcome
from tledge.runtime import Predictor
from tledge.schema import VerifyResult


def verify(
    model: str | Path,
    *,
    key: str | Path | None = None,
    signature: str | Path | None = None,
    provider: str = "auto",
) -> VerifyResult:
    """Check the digest of the model file `model` and run its golden samples here; `passed` tells whether they agree.

    `outcome` says how: same (every probability as the file has it, bit for bit), within_tolerance (no decision
    changed, and none of the probabilities by more than the precision of the file allows) or different.

    With the public key in the PEM file `key`, its signature is checked before anything else: the file `signature`, or
    the model's name with .sig behind it. Raises ModelError when the file is not ours or was changed, CheckFailed when
    the signature is missing or another one's, TledgeError for a `key` that cannot be used, MissingExtra.
    """
    model = places.at(model)
    file = places.at(signature) if signature else signatures.beside(model)
    if key:
        signatures.check(model, file, places.at(key))
    elif signature:
        raise TledgeError("A signature is checked with a public key, found none.", "Name it with --key PUBLIC.pem.")
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
        signature="valid" if key else "unchecked" if file.is_file() else "none",
        signature_file=str(file) if file.is_file() else "",
        outcome=outcome(check),
        nodes_elsewhere=predictor.nodes_elsewhere,
    )
