"""A table of pictures: CSV, TSV, JSONL or Parquet with `path,label[,split][,group]` and any other columns.

- Paths are relative to the table. Columns are found by name; of CSV, blanks around a cell do not count.
- `cat|dog` gives a picture two labels. If any row has a `|`, or in JSONL a list, the set is multi-label; in such a set
  a picture without a label is one that has none of them.
- Of a sound, the numbers `start` and `end` name the part that the row is about, in seconds.
- `split` is train, val or test, in the words that folders may use too; an empty one is as if it were not there.
- A row that cannot be used is left out and listed with its line. A row that says what another one said is left out
  too. A file under two labels is kept under both, and reported as a conflict, as in folders.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from tledge.data.listing import Item, Listing
from tledge.data.sources.contents import Content, look_into_all, of_one_kind
from tledge.data.sources.row_parts import part_of
from tledge.data.sources.table_cells import Refused, require_text, said
from tledge.data.sources.table_rows import Odd, Row, accepts, columns, header_place, is_jsonl, place, read
from tledge.errors import DataError
from tledge.schema import Problem, Split

__all__ = ["accepts", "path_of", "scan"]

_NEEDED = ("path", "label")
_MOST_CHARACTERS = 4096  # as Linux has it
_EXAMPLE = '{"path": "cat/1.jpg", "label": "cat"}'


class _Entry(NamedTuple):
    line: int
    name: str
    path: str
    labels: tuple[str, ...]
    several: bool
    split: Split | None
    columns: dict[str, str]


def scan(path: Path) -> Listing:
    """List the pictures of the table, sorted by path; nothing is decoded.

    Raises DataError when the file is no such table (see `table_rows.read`), or when no row can be used.
    """
    _require_columns(path)
    skipped: list[Odd] = []
    entries = _entries(path, skipped)
    multilabel = any(entry.several for entry in entries)
    entries = _without_repeats(entries, skipped)
    items = _look_into(path, entries, multilabel, skipped)
    problems = tuple(Problem(place(path, odd.line), odd.reason) for odd in sorted(skipped))
    if not items:
        found = f" ({problems[0].path}: {problems[0].reason})" if problems else ""
        raise DataError(f"{path} names no usable picture{found}.", "Paths are relative to the table.")
    return Listing(tuple(sorted(items, key=lambda item: (item.path, item.class_names))), problems, (), multilabel)


def _require_columns(path: Path) -> None:
    """Raise DataError unless the header is that of a table of pictures; no other source wanted it."""
    names = columns(path)
    if set(_NEEDED) <= set(names) or is_jsonl(path):  # whose lines are judged one by one
        return
    raise DataError(
        f"{header_place(path)} must name the columns path,label and, if there are any, split and group; or text,label "
        f"of texts, or label beside columns of numbers; found {','.join(names)[:80]!r}.",
        "Add the header: path,label",
    )


def _entries(path: Path, skipped: list[Odd]) -> list[_Entry]:
    entries = []
    for row in read(path, _NEEDED, _EXAMPLE):
        if isinstance(row, Odd):
            skipped.append(row)
            continue
        try:
            entries.append(_entry(row, path.parent))
        except Refused as refused:
            skipped.append(Odd(row.line, str(refused)))
    return entries


# ── Cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _entry(row: Row, root: Path) -> _Entry:
    path = path_of(row, root)
    return _Entry(row.line, row.cells["path"], path, *said(row, {"path"}))


def path_of(row: Row, root: Path) -> str:
    """Return the path that a row of a table in the folder `root` names. Raises Refused when there is none."""
    name = row.cells["path"]
    if not isinstance(name, str) or not name:
        raise Refused("names no path" if not name else "its path must be a string")
    if len(name) > _MOST_CHARACTERS:
        raise Refused(f"its path is longer than {_MOST_CHARACTERS:,} characters")
    require_text(name)
    return os.path.normpath(root / name)


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _without_repeats(entries: list[_Entry], skipped: list[Odd]) -> list[_Entry]:
    first: dict[tuple[object, ...], _Entry] = {}
    for entry in entries:
        part = (entry.columns.get("start"), entry.columns.get("end"))
        said = first.setdefault((entry.path, entry.labels, entry.split, part), entry)
        if said is not entry:
            skipped.append(Odd(entry.line, f"{entry.name} repeats line {said.line}"))
    return list(first.values())


def _look_into(path: Path, entries: list[_Entry], multilabel: bool, skipped: list[Odd]) -> list[Item]:
    contents = _contents(sorted({entry.path for entry in entries}))
    items = []
    for entry in entries:
        content = contents[entry.path]
        reason = content.reason or ("" if entry.labels or multilabel else "has no label")
        part = None
        if content.kind == "audio" and not reason:
            try:
                part = part_of(entry.columns)
            except ValueError as error:
                reason = str(error)
        if reason:
            skipped.append(Odd(entry.line, f"{entry.name}: {reason}"))
        else:
            group, where = entry.columns.get("group") or None, place(path, entry.line)
            said = (entry.path, entry.labels, entry.split, content.digest, None, group, where, entry.columns)
            items.append(Item(*said, kind=content.kind, part=part))
    return items


def _contents(paths: list[str]) -> dict[str, Content]:
    found = {path: Content("", reason=_what_keeps(path)) for path in paths}
    regular = [path for path, content in found.items() if not content.reason]
    return found | dict(zip(regular, of_one_kind(look_into_all(regular)), strict=True))


def _what_keeps(path: str) -> str:
    """Return why `path` cannot be read as a file, "" when it can: a pipe would be waited for without end."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if stat.S_ISREG(mode) else "not a regular file"
