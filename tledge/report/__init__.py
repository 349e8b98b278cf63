"""A run as one self-contained HTML page: `render` makes it, `write` puts it in a file, `add_export` adds to it.

`benches` has a bench for a CI, a pull request and as a page; `sweep_plot` draws what a sweep of one found.
"""

from tledge.report import benches
from tledge.report.exports import add as add_export
from tledge.report.page import render, write
from tledge.report.sweeps import check_drawing, sweep_plot

__all__ = ["add_export", "benches", "check_drawing", "render", "sweep_plot", "write"]
