"""What every rendering is made of: lines, tables, sizes, and paths that can be typed again."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from tledge.cli.session import printable

if TYPE_CHECKING:
    from tledge.schema import BenchResult, VerifyResult

MOST_LISTED = 20


def table(console: Any, titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print `rows` under `titles`; without titles there is no header."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, show_header=any(titles))
    for title in titles:
        made.add_column(Text(printable(title)), overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    console.print(made)


def line(console: Any, text: str) -> None:
    """Print one line, in which nothing is markup."""
    console.print(printable(text), markup=False)


def size(count: int) -> str:
    """Return `count` bytes as people write them."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def quoted(path: str) -> str:
    """Return `path` as a shell takes it."""
    return shlex.quote(path)


def elsewhere(console: Any, result: VerifyResult | BenchResult) -> None:
    """Say which nodes do not run where the model does."""
    for node in (result.nodes_elsewhere or ())[:MOST_LISTED]:
        why = " (no GPU kernel exists)" if node.expected else ""
        line(console, f"Not on {result.provider}: {node.name} ({node.operator}) runs on {node.provider}{why}")
    if result.nodes_elsewhere and len(result.nodes_elsewhere) > MOST_LISTED:
        line(console, f"and {len(result.nodes_elsewhere) - MOST_LISTED} more; all of them are in the JSON document.")
