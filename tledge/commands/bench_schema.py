"""`tledge bench --schema`: what the document of a bench holds, as JSON Schema."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def bench_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the document that `bench` returns and `--json` prints.

    Fields may be added without a new `schema_version`; none that is there changes its meaning without one.
    """
    return json.loads((files("tledge.schema") / "bench.schema.json").read_bytes())
