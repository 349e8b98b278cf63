"""Write the table of README.md: rows as readme.toml lists them, figures from the newest kept document that has them.

    python -m benchmarks.readme

A row names claims by their text; `…` stands for anything, so that a claim may hold figures of its own. Rows whose
claims no document holds are left out, and named on standard error: nothing is written by hand.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes

HERE = Path(__file__).resolve().parent
README, ROWS = HERE.parent / "README.md", HERE / "readme.toml"
BEGIN, END = "<!-- python -m benchmarks.readme -->\n", "<!-- end -->\n"
_HEAD = "| What | Measured (spread) | Bar | Holds | Commit |\n|---|---|---|---|---|\n"
_ANYTHING = "…"
_NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Found:
    """A claim as it was kept, the commit that was measured, and what stood where the pattern has `…`."""

    claim: Mapping[str, Any]
    commit: str
    words: tuple[str, ...]

    @property
    def middle(self) -> float:
        """The figure itself."""
        return self.claim.get("ratio", self.claim.get("value"))


# ── Kept documents ───────────────────────────────────────────────────────────────────────────────────────────────────


def kept(folder: Path) -> list[dict[str, Any]]:
    """Return the documents of single benchmarks that the files in `folder` hold, the newest first."""
    files = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    files.sort(key=lambda each: each["measured"], reverse=True)
    return [document for each in files for document in reversed(each["benchmarks"])]


def find(pattern: str, documents: Sequence[dict[str, Any]]) -> Found | None:
    """Return the claim that `pattern` names in the first of `documents` that has it, or None.

    Raises ValueError when it names two in one document.
    """
    parts = [re.escape(part) for part in pattern.split(_ANYTHING)]
    expression = re.compile("(.*?)".join(parts))
    for document in documents:
        matches = [(match, each) for each in document["claims"] if (match := expression.fullmatch(each["claim"]))]
        if len(matches) > 1:
            raise ValueError(f"'{pattern}' names {len(matches)} claims of benchmark {document['benchmark']}")
        if matches:
            match, claim = matches[0]
            return Found(claim, document["commit"], match.groups())
    return None


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(rows: Sequence[Mapping[str, Any]], documents: Sequence[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    return _HEAD + "".join(_lines(rows, documents))


def _lines(rows: Sequence[Mapping[str, Any]], documents: Sequence[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        found = [find(pattern, documents) for pattern in row["claims"]]
        beside = {name: find(pattern, documents) for name, pattern in row.get("beside", {}).items()}
        if all(found) and all(beside.values()):
            yield _line(row, found, beside)
        else:
            processes.say(f"Left out for want of a kept document: {row['claims'][0]}")


def _line(row: Mapping[str, Any], found: Sequence[Found], beside: Mapping[str, Found]) -> str:
    what = row["what"].format(*found[0].words, **{name: each.middle for name, each in beside.items()})
    commits = dict.fromkeys(_short(each.commit) for each in (*found, *beside.values()))
    cells = (what, _measured(row, found), _bar(row, found), _holds(found), " ".join(commits))
    return f"| {' | '.join(cells)} |\n"


def _measured(row: Mapping[str, Any], found: Sequence[Found]) -> str:
    """Return the figure with its spread; of several claims, the figures alone."""
    digits = row.get("digits", 2)
    text = ", ".join(_number(each.middle, digits) for each in found) + _unit(row)
    low, high = (_number(found[0].claim[end], digits) for end in ("low", "high"))
    return f"{text} ({low} to {high})" if len(found) == 1 and low != high else text


def _bar(row: Mapping[str, Any], found: Sequence[Found]) -> str:
    return ", ".join(dict.fromkeys(_one_bar(each.claim, _unit(row)) for each in found))


def _one_bar(claim: Mapping[str, Any], unit: str) -> str:
    if claim["bar"] is None:
        return _NOTHING
    if "exactly" in claim["claim"]:
        return f"{claim['bar']:g}{unit}"
    return f"{'≤' if 'at most' in claim['claim'] else '≥'} {claim['bar']:g}{unit}"


def _holds(found: Sequence[Found]) -> str:
    """Return whether the claims hold; of several, how many do. A loss is bold."""
    verdicts = [each.claim["holds"] for each in found if each.claim["holds"] is not None]
    if not verdicts:
        return _NOTHING
    if all(verdicts):
        return "yes"
    return f"**{sum(verdicts)} of {len(verdicts)}**" if any(verdicts) else "**no**"


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def _unit(row: Mapping[str, Any]) -> str:
    return f" {row['unit']}" if "unit" in row else ""


def _short(commit: str) -> str:
    return commit[:7] + "+" * commit.endswith("+")


# ── README ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def rendered(readme: str) -> str:
    """Return the text `readme` with its table written anew. Raises ValueError when it has no place for one."""
    listed = tomllib.loads(ROWS.read_text(encoding="utf-8"))
    documents = kept(HERE / "results" / listed["machine"])
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md must hold the lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{begin}\n{table(listed['row'], documents)}\n{end}{after}"


def write() -> None:
    """Write the table of README.md anew."""
    README.write_text(rendered(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
