"""Which samples belong together: by a column of the table, or by a pattern on their paths."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tledge.data.listing import Item, Listing
from tledge.errors import DataError

Rule = str | re.Pattern[str] | None


def rule(group_by: str | None, listing: Listing) -> Rule:
    """Return what `group_by` means for `listing`: the name of one of its columns, or else a regular expression.

    None keeps the groups that the source itself names in a column `group`. Raises DataError for a broken pattern.
    """
    if group_by is None or group_by in columns(listing.items):
        return group_by
    try:
        return re.compile(group_by)
    except re.error as error:
        raise DataError(f"Group pattern '{group_by}' is no regular expression ({error}).", _hint(listing)) from error


def columns(items: Sequence[Item]) -> list[str]:
    """Return the names of the columns that the source has beside path, label and split."""
    return sorted({name for item in items if item.columns for name in item.columns})


def apply(how: Rule, listing: Listing, data: str | Path) -> Listing:
    """Return `listing` with the groups by the rule; `data` is where it was read from.

    A pattern is searched in the path as it stands below the folder of the data, so that a move changes nothing; its
    first parenthesis names the group, or all that it matches. An empty cell belongs to no group. Raises DataError when
    a pattern is not found in a path.
    """
    if how is None:
        return listing
    if isinstance(how, str):
        groups: list[str | None] = [(item.columns or {}).get(how) or None for item in listing.items]
    else:
        root = Path(data) if Path(data).is_dir() else Path(data).parent
        groups = [_search(how, os.path.relpath(item.path, root), listing) for item in listing.items]
    grouped = (replace(item, group=group) for item, group in zip(listing.items, groups, strict=True))
    return replace(listing, items=tuple(grouped))


def _search(pattern: re.Pattern[str], path: str, listing: Listing) -> str:
    match = pattern.search(path)
    found = match and match[1 if pattern.groups else 0]
    if not found:
        raise DataError(f"Group pattern '{pattern.pattern}' finds nothing in {path!r}.", _hint(listing))
    return found


def _hint(listing: Listing) -> str:
    names = columns(listing.items)
    there = f" The table's columns are: {', '.join(names)}." if names else ""
    return f"For names like p12_003.png of patient p12, for instance: --group-by '(p[0-9]+)_'.{there}"
