"""A run as one self-contained HTML page: `render` makes it, `write` puts it in a file, `add_export` adds to it.

`benches` has a bench for a CI, a pull request and as a page; `sweeps` draws what a sweep of one found.
"""

from tledge.report.exports import add as add_export
from tledge.report.page import render, write

__all__ = ["add_export", "render", "write"]
