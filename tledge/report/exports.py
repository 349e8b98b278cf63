"""What was exported of a run, as sections of the report that the run already has."""

from __future__ import annotations

import re

from tledge.report import page, words
from tledge.schema import ExportResult

_START, _END = "<!-- export {} -->", "<!-- end of export {} -->"
_PLACE = "<!-- exports -->"  # names from outside are escaped, so that nothing but the template can write this


def add(report: str, asked: str, result: ExportResult) -> str | None:
    """Return the page `report` with a section on `result`, in place of the one on an earlier export of `asked`.

    `asked` is the precision that was asked for. None when the page has no place for it: it is no report, or one that
    was written before there were such sections. Raises MissingExtra without jinja2.
    """
    if _PLACE not in report:
        return None
    start, end = _START.format(asked), _END.format(asked)
    without = re.sub(f"{re.escape(start)}.*?{re.escape(end)}\n", "", report, flags=re.DOTALL)
    section = page.environment().get_template("export.html.j2").render(asked=asked, result=result)
    return without.replace(_PLACE, f"{_PLACE}\n{start}\n{words.printable(section)}\n{end}", 1)
