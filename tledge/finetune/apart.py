"""Have the process that fine-tunes follow an order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tledge import keras_process
from tledge.backbones.conversion import require_converter
from tledge.errors import BackboneError


def run(folder: Path, order: dict[str, Any], on_document: Callable[[Any], None] = lambda _: None) -> None:
    """Run program.py on `order`, in `folder`, as keras_process says. Raises MissingExtra and BackboneError."""
    require_converter()
    keras_process.run(
        "tledge.finetune.program",
        folder,
        order,
        what=f"Fine-tuning {order['arguments'].get('name', order['module'])}",
        when_killed="use a smaller batch size, or unfreeze less",
        kind=BackboneError,
        on_document=on_document,
    )
