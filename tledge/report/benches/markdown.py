"""A bench as Markdown, for the summary of a pull request. The text is of GitHub's flavour, which GitLab reads too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from tledge.report.benches import figures
from tledge.report.benches.checks import ICONS, checks, failed_budgets, warnings
from tledge.report.benches.figures import Document, Figure

_MARKUP = re.compile(r"[\\`*_{}\[\]<>|@#&~]")
_UNPRINTABLE = re.compile(r"[^\S ]+|[\x00-\x1f\x7f\ud800-\udfff]")
_SIGNS = {"passed": "✅", "failed": "❌", "skipped": "⚠️"}


def render(document: Document, old: Document | None = None) -> str:
    """Return the verdict, the first figures beside those of the document `old`, warnings, and the rest folded.

    Whatever comes from outside (names, labels) is shown as text.
    """
    first = _table(figures.first(document, old))
    lines = [_heading(document), "", *_budgets(document), *first, "", *_warnings(document), *_details(document, old)]
    return "\n".join(lines)


def headline(document: Document) -> tuple[str, str]:
    """Return what a bench decided, or that it measured, as a sign and one line of plain text."""
    verdict, broken = document.get("verdict"), failed_budgets(document)
    name = PurePath(document["model"]).name
    if verdict and not (broken and verdict["outcome"] == "pass"):
        return ICONS[verdict["outcome"]], f"{verdict['outcome'].capitalize()}: {name}: {verdict['reason']}"
    if broken:
        return "❌", f"Over budget: {name}: {', '.join(check.name.removeprefix('budget ') for check in broken)}"
    if document.get("budgets"):
        return "✅", f"Within budget: {name}"
    return "⏱️", f"Measured: {name}"


def facts(document: Document) -> list[tuple[str, str]]:
    """Return (name, value) of what was measured, where and how."""
    machine, verdict = document.get("machine") or {}, document.get("verdict") or {}
    found = {
        "model": document["model"],
        "against": verdict.get("against"),
        "pairs": verdict.get("pairs"),
        "ratio of p99": _p99(verdict.get("p99")),
        "commit": document.get("label"),
        "digest": document.get("digest"),
        "machine": ", ".join(str(machine[key]) for key in ("cpu", "system") if machine.get(key)),
        "cores": machine.get("cores"),
        "governor": machine.get("governor"),
        "provider": document.get("provider"),
        "threads": document.get("threads"),
        "onnxruntime": document.get("onnxruntime"),
        "tledge": document.get("tledge_version"),
        "measured": document.get("created"),
    }
    return [(name, str(value)) for name, value in found.items() if value not in (None, "", "unknown")]


def _p99(ratio: Document | None) -> str:
    return f"{ratio['ratio']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})" if ratio else ""


def _heading(document: Document) -> str:
    sign, words = headline(document)
    return f"### {sign} {_text(words)}"


def _budgets(document: Document) -> list[str]:
    budgets = [check for check in checks(document) if check.name.startswith("budget ")]
    lines = [f"- {_SIGNS[check.outcome]} {_text(check.name)}: {_text(check.message)}" for check in budgets]
    return [*lines, ""] if lines else []


def _table(rows: Sequence[Figure]) -> list[str]:
    if not rows:
        return []
    with_old = any(row.old for row in rows)
    titles = ["", "old", "new"] if with_old else ["", ""]
    lines = [_row(titles), _row([":---"] + ["---:"] * (len(titles) - 1))]
    for row in rows:
        name = f"{row.part} {row.name}".strip()
        lines.append(_row([_text(name), *([_text(row.old)] if with_old else []), _text(row.new)]))
    return lines


def _warnings(document: Document) -> list[str]:
    return [line for warning in warnings(document) for line in (f"> ⚠️ {_text(warning)}", "")]


def _details(document: Document, old: Document | None) -> list[str]:
    said = [f"- {_text(name)}: {_text(value)}" for name, value in facts(document)]
    lines = ["<details><summary>Machine, setting and all figures</summary>", "", *said, ""]
    lines += _table(figures.every(document, old))
    return [*lines, "", "</details>", ""]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    """Return `text` such that nothing in it is markup: what could be is written as an entity of HTML."""
    plain = _UNPRINTABLE.sub(" ", text)
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", plain)
