"""`tledge backbones`: the networks that can be trained on."""

from __future__ import annotations

from tledge import backbones
from tledge.schema import BackbonesResult


def list_backbones() -> BackbonesResult:
    """List the backbones, and whether their weights are on this machine."""
    return BackbonesResult(1, tuple(backbones.describe()))
