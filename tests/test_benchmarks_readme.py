"""README's table comes from kept documents alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import __main__ as every
from benchmarks import measure, readme


def document(name: str, commit: str, *claims: dict[str, Any]) -> dict[str, Any]:
    return {"benchmark": name, "commit": commit, "claims": list(claims)}


OLD = document("x", "a" * 40, measure.claim("fast, 3.1 ms: at least 2", (2.5, 2.25, 3.0), at_least=2, kind="ratio"))
NEW = document(
    "x",
    "b" * 40 + "+",
    measure.claim("fast, 2.9 ms: at least 2", (2.125, 1.5, 3.0), at_least=2, kind="ratio"),
    measure.claim("misses: exactly 5", (5, 5, 5), at_most=5),
    measure.claim("so much", (1234.5, 1234.5, 1234.5)),
)


def lines(row: dict[str, Any], *documents: dict[str, Any]) -> list[str]:
    return readme.table([row], documents).splitlines()[2:]


def test_readme_is_what_its_documents_give() -> None:
    text = readme.README.read_text(encoding="utf-8")
    assert readme.rendered(text) == text, "run: python -m benchmarks.readme"


def test_figures_come_from_the_newest_document_with_its_commit_and_a_loss_is_bold() -> None:
    row = {"what": "Fast ({0} ms; {much:,.0f})", "claims": ["fast, … ms: at least 2"], "unit": "×", "digits": 1}
    found = lines({**row, "beside": {"much": "so much"}}, NEW, OLD)
    assert found == ["| Fast (2.9 ms; 1,234) | 2.1 × (1.5 to 3.0) | ≥ 2 × | **no** | bbbbbbb+ |"]
    assert lines(row | {"what": "Fast"}, OLD) == ["| Fast | 2.5 × (2.2 to 3.0) | ≥ 2 × | yes | aaaaaaa |"]


def test_a_claim_that_the_newest_document_lacks_comes_from_an_older_one() -> None:
    older = document("y", "c" * 40, measure.claim("size: at most 4", (3, 3, 3), at_most=4))
    assert lines({"what": "Size", "claims": ["size: at most …"]}, NEW, older) == [
        "| Size | 3.00 | ≤ 4 | yes | ccccccc |"
    ]


def test_claims_side_by_side_say_how_many_hold() -> None:
    row = {"what": "Both", "claims": ["fast, … ms: at least 2", "misses: exactly 5"], "digits": 0}
    assert lines(row, NEW) == ["| Both | 2, 5 | ≥ 2, 5 | **1 of 2** | bbbbbbb+ |"]
    assert lines({"what": "Stated", "claims": ["so much"]}, NEW) == ["| Stated | 1,234.50 | – | – | bbbbbbb+ |"]


def test_rows_without_a_document_are_left_out_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines({"what": "Nothing", "claims": ["slow, … ms"]}, NEW) == []
    assert lines({"what": "{less}", "claims": ["so much"], "beside": {"less": "so little"}}, NEW) == []
    assert "slow, … ms" in capsys.readouterr().err


def test_a_text_is_no_regular_expression_and_must_name_one_claim() -> None:
    dotted = document("x", "d" * 40, measure.claim("a.b (c)", (1, 1, 1)), measure.claim("axb (c)", (2, 2, 2)))
    found = readme.find("a.b (c)", [dotted])
    assert found is not None
    assert found.middle == 1
    with pytest.raises(ValueError, match="3 claims"):
        readme.find("a…b (c)", [document("x", "", *dotted["claims"], measure.claim("a..b (c)", (3, 3, 3)))])


def test_a_readme_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold"):
        readme.rendered("# tledge\n")


def test_kept_documents_are_read_newest_first_and_later_runs_of_a_commit_are_added(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps({"measured": "2026-01-01T00:00:00+00:00", "benchmarks": [OLD]}))
    first = every.keep([NEW], "b" * 40, tmp_path / "results")
    assert every.keep([OLD], "b" * 40, tmp_path / "results") == first
    assert json.loads(first.read_text())["benchmarks"] == [NEW, OLD]
    (first.parent / "old.json").write_bytes((tmp_path / "old.json").read_bytes())
    assert readme.kept(first.parent) == [OLD, NEW, OLD]


def test_every_benchmark_that_is_run_is_there() -> None:
    for name in every.NAMES:
        assert (readme.HERE / f"{name}.py").is_file()
