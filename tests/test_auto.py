"""--precision auto: all candidates in a table, the fastest that keeps all budgets in the file, or nothing at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tledge
from tledge.cli.app import app
from tledge.commands.exporting import auto, budgets
from tledge.commands.exporting.candidate import Candidate
from tledge.errors import CheckFailed, TledgeError
from tledge.runtime import Predictor
from tledge.schema import AccuracyChange, Budgets, ClassChange, Comparison, ErrorChange, Parity

pytest.importorskip("onnx", reason="onnx (extra train) is not installed")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on how well latencies are known."""
    monkeypatch.setattr(auto, "SECONDS", 0.1)


def made(precision: str, p50_ms: float, size: int = 100, drop: float = 0.0) -> Candidate:
    classes = (ClassChange("cut", 0.9, 0.9 - drop / 100, drop),)
    accuracy, errors = AccuracyChange(0.9, 0.9 - drop / 100), ErrorChange(10, 10 + round(drop), 1 + drop / 10)
    found = Comparison(1, precision, accuracy, errors, classes, Parity(100, 1.0, 0.0, 0.0, passed=True), size, p50_ms)
    return Candidate(precision, b"", "", None, found, None, None)


def test_the_fastest_that_keeps_every_budget_is_chosen() -> None:
    three = [made("fp32", 5, 400), made("fp16", 4, 200, 0.1), made("int8", 2, 100, 1.5)]
    assert auto.fastest(three, Budgets()) is three[2]
    assert auto.fastest(three, Budgets(max_drop=1)) is three[1]
    assert auto.fastest(three, Budgets(max_drop=0)) is three[0]
    assert auto.fastest(three, Budgets(max_class_drop=1, max_latency_ms=3)) is None
    slow = [three[0], made("int8", 6, 100)]
    assert auto.fastest(slow, Budgets()) is slow[0]  # int8 is no end in itself
    assert auto.fastest(slow, Budgets(max_bytes=300)) is slow[1]


def test_the_table_says_why_not() -> None:
    three = [made("fp32", 5, 400), made("fp16", 4, 200, 0.1), made("int8", 2, 100, 1.5)]
    limits = Budgets(max_drop=1, max_bytes=300)
    rows = auto.rows(three, three[1], limits)
    assert [each.chosen for each in rows] == [False, True, False]
    assert [each.reason for each in rows] == ["breaks --max-bytes", "", "breaks --max-drop"]
    assert (rows[2].worst_class, rows[2].worst_class_drop, rows[2].error_ratio) == ("cut", 1.5, 1.15)
    assert auto.rows(three, three[2], Budgets())[0].reason == "slower than int8"


def test_auto_writes_the_one_it_chose_and_shows_all(run: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(run, tmp_path / "run")
    found = tledge.export(mine, tmp_path / "first-auto.onnx", precision="auto", min_agreement=0)
    (chosen,) = (each for each in found.candidates if each.chosen)
    assert {each.precision for each in found.candidates} == {"fp32", "int8"}
    assert found.precision == chosen.precision == Predictor(tmp_path / "first-auto.onnx").manifest.precision
    assert chosen.bytes == found.bytes == (tmp_path / "first-auto.onnx").stat().st_size
    assert chosen.p50_ms == min(each.p50_ms for each in found.candidates) > 0
    page = (mine / "report.html").read_text()
    assert page.count("Exported: auto") == 1 and "slower than" in page
    tledge.export(mine, tmp_path / "again.onnx", precision="auto", min_agreement=0)
    again = (mine / "report.html").read_text()
    assert again.count("Exported: auto") == 1 and "/again.onnx" in again and "/first-auto.onnx" not in again
    tledge.export(mine, tmp_path / "f.onnx", precision="fp32")
    both = (mine / "report.html").read_text()
    assert both.count("Exported: auto") == both.count("Exported: fp32") == 1


def test_a_size_that_only_int8_keeps(run: Path, tmp_path: Path) -> None:
    found = tledge.export(run, tmp_path / "m.onnx", precision="auto", min_agreement=0, max_bytes="5M")
    assert found.precision == "int8" and found.bytes < 5 * 2**20
    assert found.candidates[0].reason == "breaks --max-bytes"


def test_where_none_keeps_the_budgets_nothing_is_written_and_the_table_is_shown(run: Path, tmp_path: Path) -> None:
    before = (run / "report.html").read_bytes()
    arguments = ["export", str(run), "--precision", "auto", "--out", str(tmp_path / "m.onnx"), "--max-bytes", "1000"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == 1 and not (tmp_path / "m.onnx").exists()
    rows = document["candidates"]
    assert [each["precision"] for each in rows] == ["fp32", "fp16", "int8"]  # half precision was worth a try
    assert all("--max-bytes" in each["reason"] and not each["chosen"] for each in rows)
    assert (run / "report.html").read_bytes() == before


def test_a_latency_that_no_model_keeps(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"--max-latency-ms\), the median here is") as caught:
        tledge.export(run, tmp_path / "m.onnx", precision="fp32", max_latency_ms=0.001)
    assert caught.value.measured.p50_ms > 0.001 and not (tmp_path / "m.onnx").exists()
    kept = tledge.export(run, tmp_path / "m.onnx", precision="fp32", max_latency_ms=1e6)
    assert 0 < kept.p50_ms < 1e6


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Budgets(max_bytes=0), "size must be a number above 0"),
        (Budgets(max_latency_ms=-1), "latency must be a number above 0"),
        (Budgets(max_latency_ms=float("nan")), "latency must be a number above 0"),
    ],
)
def test_bounds_that_mean_nothing_are_refused(limits: Budgets, said: str) -> None:
    with pytest.raises(TledgeError, match=said):
        budgets.check_asked(limits)


def test_a_size_must_be_one(run: Path, tmp_path: Path) -> None:
    with pytest.raises(TledgeError, match="got 'small'"):
        tledge.export(run, tmp_path / "m.onnx", max_bytes="small")


def test_bytes_and_latency_are_judged_to_the_bound_itself() -> None:
    found = made("int8", 2.0, 100).comparison
    assert budgets.breaches(found, Budgets(max_bytes=100, max_latency_ms=2.0)) == []
    broken = budgets.breaches(found, Budgets(max_bytes=99, max_latency_ms=1.99))
    assert [each.option for each in broken] == ["--max-bytes", "--max-latency-ms"]
    assert budgets.breaches(replace(found, p50_ms=None), Budgets(max_latency_ms=1)) == []  # not measured, not judged


def test_a_report_of_before_is_left_as_it_is(run: Path, tmp_path: Path) -> None:
    mine, notes = shutil.copytree(run, tmp_path / "run"), []
    (mine / "report.html").write_text("an older page")
    tledge.export(mine, tmp_path / "m.onnx", precision="fp32", on_note=notes.append)
    assert (mine / "report.html").read_text() == "an older page" and any("no place for exports" in n for n in notes)
    (mine / "report.html").unlink()
    assert tledge.export(mine, tmp_path / "n.onnx", precision="fp32").bytes > 0
    assert not (mine / "report.html").exists()
