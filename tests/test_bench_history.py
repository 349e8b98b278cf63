"""Many benches over time: what is read, what compares, where levels change, and how it is asked for."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import html5lib
import numpy as np
import pytest
from bench_documents import Document, changed, save, slowed
from conftest import make_model
from typer.testing import CliRunner, Result

import tledge
from tledge import documents
from tledge.cli.app import app
from tledge.errors import DataError, MissingExtra, OutputError
from tledge.measurement import change_points


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """The document of a real bench."""
    model = make_model(tmp_path_factory.mktemp("bench") / "model.onnx")
    return documents.plain(tledge.bench(model, seconds=0.1))


def filled(folder: Path, measured: Document, factors: list[float]) -> Path:
    """Save one document a day, each `factors` times as slow as `measured`; the files' names are not in that order."""
    for day, factor in enumerate(factors):
        created = f"2026-{1 + day // 28:02}-{1 + day % 28:02}T08:00:00+00:00"
        label = f"commit{day:02}"
        save(changed(slowed(measured, factor), created=created, label=label), folder / f"{999 - day}.json")
    return folder


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


# ── Change points ────────────────────────────────────────────────────────────────────────────────────────────────────


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(0, 0.01, count))


def test_noise_has_no_levels():
    assert [change_points(noise(40, seed)) for seed in range(8)] == [[]] * 8
    assert change_points([3.0] * 20) == []


@pytest.mark.parametrize("factor", [1.06, 0.94, 30.0])
def test_a_step_is_found_where_it_is(factor: float):
    values = noise(40)
    values[25:] *= factor
    assert change_points(values) == [25]


def test_two_steps_are_two():
    values = noise(60)
    values[20:] *= 1.1
    values[45:] *= 0.85
    assert change_points(values) == [20, 45]


def test_one_wild_value_is_no_level():
    for place in (0, 10, 39):
        values = noise(40)
        values[place] *= 5
        assert change_points(values) == []


def test_few_values_have_no_levels():
    for count in range(4):
        assert change_points([1.0, 100.0, 1.0][:count]) == []


# ── What is read ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_change_is_told_between_its_commits(measured: Document, tmp_path: Path):
    factors = [1.0, 1.001, 0.999, 1.0, 1.002, 1.1, 1.101, 1.099, 1.1, 1.1]
    result = tledge.bench_history(filled(tmp_path, measured, factors))
    (group,) = result.groups
    assert result.documents == 10 and [point.label for point in group.points] == [f"commit{i:02}" for i in range(10)]
    found = {change.figure: change for change in group.changes}
    assert found.keys() >= {"p50_ms", "p99_ms", "samples_per_second"}
    p50, rate = found["p50_ms"], found["samples_per_second"]
    assert (p50.index, p50.last, p50.first, p50.worse) == (5, "commit04", "commit05", True)
    assert p50.ratio == pytest.approx(1.1, rel=0.01) and p50.after == pytest.approx(1.1 * p50.before, rel=0.01)
    assert rate.ratio == pytest.approx(1 / 1.1, rel=0.01) and rate.worse


def test_faster_is_not_worse(measured: Document, tmp_path: Path):
    (group,) = tledge.bench_history(filled(tmp_path, measured, [1.0] * 5 + [0.8] * 5)).groups
    assert len(group.changes) >= 3 and not any(change.worse for change in group.changes)


def test_only_what_compares_is_together(measured: Document, tmp_path: Path):
    machine = measured["machine"]
    others = [
        changed(measured, threads=measured["threads"] + 1),
        changed(measured, provider="cuda"),
        changed(measured, machine=machine | {"cpu": "another"}),
        changed(measured, model="elsewhere/other.onnx"),
    ]
    for number, document in enumerate(others):
        save(document, tmp_path / "deep" / f"{number}.json")
    save(measured, tmp_path / "a.json")
    save(changed(measured, model="/home/of/somebody/else/model.onnx"), tmp_path / "b.json")
    groups = tledge.bench_history(tmp_path).groups
    assert [len(group.points) for group in groups] == [2, 1, 1, 1, 1]
    assert {point.path for point in groups[0].points} == {"a.json", "b.json"}


DAMAGED = {
    "empty.json": b"",
    "half.json": b'{"schema_version": 1, "crea',
    "binary.json": bytes(range(256)),
    "list.json": b"[1, 2]",
    "package.json": b'{"name": "x", "version": "1"}',
    "deep.json": b"[" * 100_000,
}


def test_other_files_are_told_and_do_no_harm(measured: Document, tmp_path: Path):
    for name, content in DAMAGED.items():
        (tmp_path / name).write_bytes(content)
    wrong = {"created": 5, "model": None, "machine": "mine", "scenarios": [], "threads": "two", "provider": {}}
    for name, value in wrong.items():
        save(changed(measured, **{name: value}), tmp_path / f"{name}.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "readme.txt").write_text("not looked at")
    save(measured, tmp_path / "good.json")
    result = tledge.bench_history(tmp_path)
    assert result.documents == 1
    assert {each.path for each in result.skipped} == {
        *DAMAGED, *(f"{name}.json" for name in wrong), "folder.json", "gone.json",
    }  # fmt: skip
    assert all(each.reason and str(tmp_path) not in each.reason for each in result.skipped)


def test_odd_figures_are_no_figures(measured: Document, tmp_path: Path):
    for number, value in enumerate((None, 0, -1.0, "fast", True, {})):
        odd = changed(measured, scenarios={"single_stream": {"p50_ms": value}, "offline": value}, label=[1])
        odd["reference"] = {"ratio": value}
        save(odd, tmp_path / f"{number}.json")
    (tmp_path / "6.json").write_text((tmp_path / "0.json").read_text().replace('"p50_ms": null', '"p50_ms": NaN'))
    with pytest.raises(DataError, match="holds no document"):
        tledge.bench_history(tmp_path)
    single = {"single_stream": {"p50_ms": 3, "p99_ms": "slow"}}
    save(changed(measured, scenarios=single, label=[1], reference=None), tmp_path / "7.json")
    result = tledge.bench_history(tmp_path, html=tmp_path / "page.html")
    ((point,),) = (group.points for group in result.groups)
    assert (point.p50_ms, point.p99_ms, point.label) == (3.0, None, None)
    assert {each.reason for each in result.skipped} == {"holds no figures whose history could be told"}


def test_a_folder_with_documents_is_needed(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for folder, words in ((tmp_path / "gone", "is none"), (tmp_path / "file", "is none"), (tmp_path, "holds no")):
        with pytest.raises(DataError, match=words):
            tledge.bench_history(folder)


# ── The page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_is_whole_and_never_in_place_of_another(measured: Document, tmp_path: Path):
    folder = filled(tmp_path / "docs", measured, [1.0] * 6 + [1.2] * 6)
    save(changed(measured, model="a<script>.onnx"), folder / "hostile.json")
    (folder / "bad.json").write_text("{")
    tledge.bench_history(folder, html=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    assert "<script" not in page and "commit05" in page and "+20.0" in page and "bad.json" in page
    with pytest.raises(OutputError, match="exists already"):
        tledge.bench_history(folder, html=tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page
    tledge.bench_history(folder, html=tmp_path / "page.html", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "page.html"]


@pytest.mark.parametrize("package", ["ruptures", "jinja2", "pygal"])
def test_a_missing_package_is_one_line(
    measured: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
):
    filled(tmp_path, measured, [1.0] * 6)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=package):
        tledge.bench_history(tmp_path, html=tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_history_is_a_command_beside_bench(measured: Document, tmp_path: Path):
    filled(tmp_path, measured, [1.0] * 6 + [1.3] * 6)
    shown = invoke("bench", "history", tmp_path)
    assert (
        shown.exit_code == 0 and "between commit05 and commit06" in shown.stdout and "+30.0 % (worse)" in shown.stdout
    )
    found = json.loads(invoke("bench", "history", tmp_path, "--json").stdout)
    assert found["schema_version"] == 1 and found["documents"] == 12
    assert "--html" in invoke("bench", "history", "-h").stdout
    assert invoke("bench", "history").exit_code == 2


def test_bench_is_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    make_model(Path("history"))
    shutil.copy("history", "model.onnx")
    quick = ("--seconds", "0.02", "--scenario", "single_stream")
    for words in (
        ["bench", "model.onnx", *quick],
        ["bench", *quick, "--json", "model.onnx"],
        ["bench", "./history", *quick],
    ):
        assert invoke(*words).exit_code == 0, words
    assert "M.onnx" in invoke("bench", "-h").stdout and "bench history" in invoke("bench", "-h").stdout
    assert "bench history" in invoke("--help").stdout
    assert invoke("bench").exit_code == 2 and "M.onnx" in invoke("bench").stderr
    assert "Did you mean" in invoke("benhc").stderr
