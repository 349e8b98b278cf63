"""A run as one self-contained HTML page: `render` makes it, `write` puts it in a file."""

from tledge.report.page import render, write

__all__ = ["render", "write"]
