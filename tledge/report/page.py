"""The page itself: what the template is given, and the file that it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge.errors import MissingExtra, OutputError
from tledge.modalities import READERS
from tledge.report import figures, gallery, tables, words
from tledge.schema import ReportData

if TYPE_CHECKING:
    import jinja2

MISTAKES_SHOWN = 24
FILES_SHOWN = 200


def render(data: ReportData) -> str:
    """Return the report as one HTML page that needs no other file, no network and no script.

    The same data gives the same page, as long as the files of its mistakes do not change. Whatever comes from
    outside (class names, paths, warnings) is shown as text; bytes of a file name that are not UTF-8 appear as `\\xNN`.
    Raises MissingExtra when jinja2 or pygal is not installed.
    """
    page = environment().get_template("page.html.j2").render(_contents(data))
    return words.printable(page)


def write(data: ReportData, path: str | Path) -> None:
    """Render the report into the file at `path`, in UTF-8. Raises OutputError when it cannot be written."""
    page = render(data).encode()
    try:
        Path(path).write_bytes(page)
    except OSError as error:
        raise OutputError(
            f"The report could not be written to {path}: {error.strerror}.", "Check the folder."
        ) from error


def environment(extra: str = "train") -> jinja2.Environment:
    """Return where the templates are, with the filters they use.

    Raises MissingExtra, which names `extra`, when jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("jinja2", extra) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tledge.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(words, name) for name in words.FILTERS}
    return environment


def _contents(data: ReportData) -> dict[str, Any]:
    result = data.result
    by_confidence = sorted(data.mistakes, key=lambda mistake: -mistake.probability)
    return {
        "result": result,
        "metrics": result.metrics,
        "noun": READERS[result.kind].noun,
        "things": words.things(result),
        "environment": data.environment,
        "run_name": Path(result.run).name or result.run,
        "interval": words.interval(result),
        "summary": words.summary(result),
        "figures_table": tables.figures(result),
        "classes": tables.weakest_first(result.metrics),
        "confusion": tables.confusion(result.metrics),
        "confused_pairs": tables.confused_pairs(result.metrics),
        "stages": tables.stages(result.seconds),
        "mistakes": gallery.exhibits(by_confidence[:MISTAKES_SHOWN]),
        "mistakes_total": max(len(data.mistakes), tables.tested(result) - tables.right(result)),
        "reliability": figures.reliability(data.reliability, words.things(result)),
        "bins": [each for each in data.reliability if each.count],
        "cross_validation": figures.cross_validation(result.l2_path, result.l2) if result.l2 else "",
        "repeat": words.repeat(result),
        "next_commands": words.next_commands(result),
        "files_shown": FILES_SHOWN,
    }
