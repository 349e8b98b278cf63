"""Write the JSON Schema of the document of `tledge bench` from its dataclasses: `make schema`.

The descriptions are the docstrings. What a newer tledge may add is allowed, so that an old schema takes new documents.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pydantic

from tledge.schema import BenchResult

PLACE = Path(__file__).parent.parent / "tledge" / "schema" / "bench.schema.json"


def made() -> str:
    """Return the schema as the text of its file."""
    found = pydantic.TypeAdapter(BenchResult).json_schema()
    version = found["properties"]["schema_version"]["const"]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:tledge:bench:{version}"}
    return json.dumps(_described({**head, **found}), indent=1, ensure_ascii=False) + "\n"


def _described(node: Any) -> Any:
    """Take the indentation of the source out of every description, and pydantic's titles, which repeat the names."""
    if isinstance(node, list):
        return [_described(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: inspect.cleandoc(value) if key == "description" and isinstance(value, str) else _described(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str))
    }


if __name__ == "__main__":
    PLACE.write_text(made())
    print(PLACE)
