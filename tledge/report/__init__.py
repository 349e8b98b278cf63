"""A run as one self-contained HTML page: `render` makes it, `write` puts it in a file, `add_export` adds to it.

`sweep_plot` draws what a sweep of `tledge bench` found.
"""

from tledge.report.exports import add as add_export
from tledge.report.page import render, write
from tledge.report.sweeps import check_drawing, sweep_plot

__all__ = ["add_export", "check_drawing", "render", "sweep_plot", "write"]
