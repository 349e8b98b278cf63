"""A table of texts: CSV, TSV, JSONL or Parquet with `text,label[,split][,group]` and any other columns.

- Columns, labels, splits and groups are as in tables of pictures. Blanks around a text do not count; a cell in quotes
  may hold lines of its own.
- A row that cannot be used, an empty text for one, is left out and listed with its line. Rows of equal texts all count,
  as equal files in folders do; under two labels, they are reported as a conflict.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tledge.data.listing import Item, Listing
from tledge.data.sources import table_rows
from tledge.data.sources.table_cells import Entry, Refused, entries, listed
from tledge.data.sources.table_rows import Row, place

_NEEDED = ("text", "label")
_EXAMPLE = '{"text": "What is a cat?", "label": "animal"}'


def accepts(path: Path) -> bool:
    """Tell whether `path` is a table that names the columns text and label, and none of paths."""
    if not table_rows.accepts(path):
        return False
    names = table_rows.columns(path)
    return set(_NEEDED) <= set(names) and "path" not in names


def scan(path: Path) -> Listing:
    """List the texts of the table in their order, each as the `value` of its sample.

    Raises DataError when the table cannot be read, or when no row can be used.
    """
    rows = table_rows.read(path, _NEEDED, _EXAMPLE)
    found, skipped, multilabel = entries(rows, text_of, {"text"})
    return listed(path, (_item(path, entry) for entry in found), skipped, multilabel)


def text_of(row: Row) -> str:
    """Return the text of a row, without the blanks around it. Raises Refused when there is none."""
    text = row.cells["text"]
    if text is not None and not isinstance(text, str):
        raise Refused("its text must be a string")
    text = (text or "").strip()
    if not text:
        raise Refused("its text is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can write halves of characters
        raise Refused(f"its text holds half of a character ({text[error.start]!a})") from error
    return text


def _item(path: Path, entry: Entry) -> Item:
    digest = hashlib.sha256(entry.value.encode("utf-8")).hexdigest()
    labels, _, split, columns = entry.said
    group = columns.get("group") or None
    return Item(place(path, entry.line), labels, split, digest, entry.value, group, "", columns, "text")
