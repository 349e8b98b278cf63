"""The history of many benches as one self-contained page."""

from __future__ import annotations

from tledge import __version__
from tledge.report import page, words
from tledge.report.benches.page import drawn
from tledge.schema import HistoryResult


def render(result: HistoryResult) -> str:
    """Return `result` as one HTML page that needs no other file, no network and no script.

    Raises MissingExtra when jinja2 or pygal is not installed.
    """
    template = page.environment("bench").get_template("history_page.html.j2")
    groups = [(group, drawn(group)) for group in result.groups]
    return words.printable(template.render(result=result, groups=groups, version=__version__))
