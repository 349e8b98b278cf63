"""A bench as JUnit XML, which GitLab, Jenkins and most other CIs show as tests."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from tledge.errors import MissingExtra
from tledge.report import words
from tledge.report.benches.checks import Check, checks
from tledge.report.benches.figures import Document

if TYPE_CHECKING:
    import junitparser

_PROPERTIES = ("label", "digest", "precision", "provider", "threads", "onnxruntime", "tledge_version")


def render(document: Document) -> bytes:
    """Return the checks of a bench as JUnit XML in UTF-8, one test case each.

    A regression and a budget that does not hold are failures. An inconclusive verdict is skipped, with its reason:
    as an error it would turn the tests red for noise. Raises MissingExtra when junitparser is not installed.
    """
    try:
        import junitparser
    except ImportError as error:
        raise MissingExtra("junitparser", "bench") from error
    suite = junitparser.TestSuite("tledge bench")
    suite.timestamp = document["created"]
    for name, value in _facts(document).items():
        suite.add_property(name, words.printable(str(value)))
    place = f"tledge.bench.{PurePath(document['model']).name}"
    for check in checks(document):
        suite.add_testcase(_case(junitparser, check, place))
    xml = junitparser.JUnitXml("tledge bench")
    xml.add_testsuite(suite)
    xml.update_statistics()
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring()


def _case(junitparser: junitparser, check: Check, place: str) -> junitparser.TestCase:
    message = words.printable(check.message)
    case = junitparser.TestCase(check.name, words.printable(place), check.seconds or 0.0)
    if check.outcome == "passed":
        case.system_out = message
        return case
    kind = junitparser.Failure if check.outcome == "failed" else junitparser.Skipped
    result = kind(message)
    result.text = message  # GitLab shows the text, Jenkins the attribute
    case.result = result
    return case


def _facts(document: Document) -> Document:
    machine = document.get("machine") or {}
    facts = {"model": document["model"], "cpu": machine.get("cpu"), "cores": machine.get("cores")}
    facts |= {name: document.get(name) for name in _PROPERTIES}
    return {name: value for name, value in facts.items() if value is not None}
