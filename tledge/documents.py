"""Documents to JSON and back: what `--json` prints and what a run folder keeps."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tledge.errors import TledgeError


def to_json(document: Any) -> str:
    """Return a dataclass as one JSON object; file names that are no valid text survive as escapes, NaN becomes null."""
    return dumps(asdict(document))


def dumps(plain: dict[str, Any]) -> str:
    """Return a dictionary of plain values as one JSON object, in the same way."""
    return json.dumps(_plain(plain), indent=2, allow_nan=False) + "\n"


def read(path: Path, kind: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON object in `path`, which must be a `kind` that holds `keys`. Raises TledgeError otherwise."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise TledgeError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
    except ValueError as error:
        raise TledgeError(f"{path} is not a {kind}: it holds no JSON.", "Check the path.") from error
    missing = [key for key in keys if not isinstance(document, dict) or key not in document]
    if missing:
        raise TledgeError(f"{path} is not a {kind}: '{missing[0]}' is missing.", "Check the path.")
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
