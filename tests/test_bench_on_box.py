"""`tledge bench` on a box: budgets and their exit codes, what they have measured, and what is refused beforehand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import make_model, make_photos
from typer.testing import CliRunner, Result

import tledge
from tledge.cli.app import app
from tledge.cli.bench import _bench_code
from tledge.errors import TledgeError
from tledge.schema import BudgetCheck, Verdict

ALWAYS = {"max_p50_ms": 1e6, "max_p99_ms": 1e6, "min_throughput": 1e-3, "max_memory_mb": 1e6, "max_cold_start_ms": 1e6}
NEVER = {"max_p50_ms": 1e-6, "max_p99_ms": 1e-6, "min_throughput": 1e9, "max_memory_mb": 1, "max_cold_start_ms": 1e-3}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("box") / "model.onnx")


def invoke(model: Path, *arguments: str | Path) -> Result:
    words = ["bench", model, "--seconds", "0.1", "--threads", "1", *arguments]
    return CliRunner().invoke(app, [str(each) for each in words], catch_exceptions=False)


def options(budgets: dict[str, float]) -> list[str]:
    return [f"--{name.replace('_', '-')}={limit}" for name, limit in budgets.items()]


def test_all_budgets_are_judged_and_have_measured_what_they_are_about(model):
    result = tledge.bench(model, seconds=0.1, threads=1, scenarios=["offline"], **{**ALWAYS, "max_p99_ms": 1e-6})
    assert {each.name: (each.limit, each.holds) for each in result.budgets} == {
        name: (1e-6, False) if name == "max_p99_ms" else (limit, True) for name, limit in ALWAYS.items()
    }
    found = {each.name: each.found for each in result.budgets}
    single, offline = result.scenarios["single_stream"], result.scenarios["offline"]
    assert found == {
        "max_p50_ms": single.p50_ms,
        "max_p99_ms": single.p99_ms,
        "min_throughput": offline.samples_per_second,
        "max_memory_mb": result.resources.peak_bytes / 1e6,
        "max_cold_start_ms": result.cold_start.total_ms,
    }


def test_nothing_is_measured_that_nobody_asked_for(model):
    result = tledge.bench(model, seconds=0.1, threads=1, scenarios=["offline"])
    assert (result.end_to_end, result.cold_start, result.resources, result.budgets) == ((), None, None, ())
    assert result.scenarios.keys() == {"offline"}
    assert result.conditions.seconds > 0.05


def test_a_budget_that_does_not_hold_exits_1_with_the_whole_document(model, tmp_path):
    saved = tmp_path / "base.json"
    cheap = {name: NEVER[name] for name in ("max_p50_ms", "min_throughput")}
    result = invoke(model, "--json", "--save", saved, *options(cheap))
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert json.loads(saved.read_text()) == document
    assert [(each["name"], each["holds"]) for each in document["budgets"]] == [
        ("max_p50_ms", False),
        ("min_throughput", False),
    ]
    assert document["scenarios"].keys() == {"single_stream", "offline"} and document["conditions"]["before"]


def test_people_see_stages_resources_and_budgets(model, tmp_path):
    photos = make_photos(tmp_path / "photos", ["a"], 3)
    result = invoke(model, "--pictures", photos, "--resources", *options({"max_cold_start_ms": 1e6, "max_p99_ms": 1e6}))
    assert result.exit_code == 0, result.output
    for words in ("decode", "model alone", "3 files", "cold start", "at most", "ms per run", "of a core", "energy"):
        assert words in result.stdout
    assert "Budget holds: cold start" in result.stdout and "Budget holds: p99" in result.stdout


def test_pictures_are_drawn_where_none_are_named(model):
    document = json.loads(invoke(model, "--json", "--end-to-end").stdout)
    assert [each["samples"] for each in document["end_to_end"]] == ["drawn 1920 × 1080", "drawn 640 × 480"]
    assert (document["cold_start"], document["resources"]) == (None, None)


# ── Exit codes ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("outcome", "holds", "code"),
    [
        (None, True, 0),
        (None, False, 1),
        ("pass", True, 0),
        ("pass", False, 1),
        ("regression", True, 1),
        ("inconclusive", True, 3),
        ("inconclusive", False, 1),
    ],
)
def test_what_does_not_hold_comes_before_what_cannot_be_told(model, outcome, holds, code):
    verdict = Verdict(outcome, "old", 1.0, 1.0, 1.0, 0.05, 1, 1.0, "") if outcome else None
    budgets = (BudgetCheck("max_p50_ms", 1, 0.5, True), BudgetCheck("max_p99_ms", 1, 2, holds))
    result = tledge.bench(model, seconds=0.02, threads=1, scenarios=["single_stream"])
    assert _bench_code(replace(result, verdict=verdict, budgets=budgets)) == code


# ── Refused ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf"])
@pytest.mark.parametrize("name", ALWAYS)
def test_limits_that_mean_nothing_are_one_line(tmp_path, name, limit):
    result = invoke(tmp_path / "not even looked at.onnx", f"--{name.replace('_', '-')}={limit}")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert f"--{name.replace('_', '-')} must be above 0 and finite" in result.stderr


def refused(model: Path, *arguments: str | Path, words: str) -> None:
    result = invoke(model, *arguments)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.stderr
    assert words in result.stderr


def test_end_to_end_wants_pictures_and_a_model_that_takes_them(model, tmp_path):
    refused(model, "--pictures", tmp_path / "gone.jpg", words="gone.jpg cannot be read")
    refused(model, "--pictures", tmp_path, words="holds no pictures")
    (tmp_path / "text.jpg").write_text("no picture")
    refused(model, "--pictures", tmp_path / "text.jpg", words="text.jpg: damaged, or not one of")
    import onnx

    foreign = onnx.load(model)
    del foreign.metadata_props[:]
    foreign.producer_name = "other"
    onnx.save(foreign, tmp_path / "foreign.onnx")
    refused(tmp_path / "foreign.onnx", "--end-to-end", words="was not exported by tledge")


def test_the_library_raises_what_the_command_says(model):
    arguments: dict[str, Any] = {"max_memory_mb": float("nan")}
    with pytest.raises(TledgeError, match="--max-memory-mb must be above 0"):
        tledge.bench(model, **arguments)
