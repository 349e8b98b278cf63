"""What a bench decided, as checks that pass, fail or cannot be made: the test cases of a CI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tledge.report.benches import figures

ICONS = {"pass": "✅", "regression": "❌", "inconclusive": "⚠️"}
_OUTCOMES: dict[str, Literal["passed", "failed", "skipped"]] = {
    "pass": "passed",
    "regression": "failed",
    "inconclusive": "skipped",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One check; `name` is the same from one commit to the next, by which a CI compares them.

    What cannot be told is skipped: it is no evidence that anything got worse.
    """

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    message: str
    seconds: float | None = None


def checks(document: figures.Document) -> list[Check]:
    """Return the verdict, every budget and every scenario of the document of a bench."""
    return [*_verdict(document.get("verdict")), *_budgets(document.get("budgets") or ()), *_scenarios(document)]


def failed_budgets(document: figures.Document) -> list[Check]:
    """Return the budgets that do not hold."""
    return [check for check in _budgets(document.get("budgets") or ()) if check.outcome == "failed"]


def warnings(document: figures.Document) -> list[str]:
    """Return what speaks against the figures: the state of the machine, and runs that LoadGen calls invalid."""
    found = list((document.get("conditions") or {}).get("warnings") or ())
    for name, scenario in (document.get("scenarios") or {}).items():
        if reason := _invalid(scenario):
            found.append(f"{name.replace('_', ' ')}: INVALID: {reason}")
    return found


def _invalid(scenario: figures.Document) -> str:
    validity = scenario.get("validity") or {}
    return validity.get("reason", "") if validity.get("valid") is False else ""


def _verdict(verdict: figures.Document | None) -> Iterator[Check]:
    if verdict:
        yield Check("verdict", _OUTCOMES[verdict["outcome"]], verdict["reason"], verdict["seconds"])


def _budgets(budgets: Any) -> Iterator[Check]:
    for each in budgets:
        message = f"{each['found']:.4g} was found, the limit is {each['limit']:g}."
        yield Check(f"budget {each['name']}", "passed" if each["holds"] else "failed", message)


def _scenarios(document: figures.Document) -> Iterator[Check]:
    scenarios = document.get("scenarios") or {}
    every = figures.every({"scenarios": scenarios})
    for name, scenario in scenarios.items():
        if reason := _invalid(scenario):
            yield Check(f"scenario {name}", "skipped", f"INVALID: {reason}")
            continue
        mine = [each for each in every if each.part == name.replace("_", " ")]
        yield Check(f"scenario {name}", "passed", ", ".join(f"{each.name} {each.new}" for each in mine))
