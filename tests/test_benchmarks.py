"""The parts of benchmarks/ that decide what a figure means: intervals, bars, documents, and how ELPV is laid out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

# Benchmarks are no part of the package. At the end of the path, so that the installed tledge stays the one under test.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import datasets, measure, startup
from tledge.errors import DataError, MissingExtra, OutputError


def test_ratio_is_the_median_of_rounds_and_not_of_sides() -> None:
    slow_rounds_hit_both = ([2.0, 20.0, 200.0], [1.0, 10.0, 50.0])
    assert measure.ratio(*slow_rounds_hit_both) == (2.0, 2.0, 4.0)


@pytest.mark.parametrize(("rounds", "rank"), [(1, 1), (5, 1), (10, 1), (11, 2), (60, 22), (100, 40)])
def test_interval_lies_between_the_ranks_that_the_sign_test_gives(rounds: int, rank: int) -> None:
    values = [float(value) for value in range(1, rounds + 1)]
    middle, low, high = measure.ratio(values, [1.0] * rounds)
    assert (low, high) == (rank, rounds + 1 - rank)
    assert middle == (rounds + 1) / 2


def test_ratio_refuses_sides_of_different_length() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        measure.ratio([1.0, 2.0], [1.0])


def test_interleave_times_all_in_each_round_and_turns_the_order() -> None:
    calls: list[str] = []
    seconds = measure.interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert "".join(calls) == "ba" + "ab" + "ba" + "ab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    ("kind", "bar", "holds"),
    [
        ("ratio", {"at_least": 1.9}, False),
        ("ratio", {"at_least": 1.5}, True),
        ("ratio", {"at_most": 2.1}, False),
        ("ratio", {"at_most": 2.5}, True),
        ("value", {"at_least": 2.0}, True),
        ("value", {"at_least": 2.1}, False),
        ("value", {"at_most": 2.0}, True),
        ("value", {"at_most": 1.9}, False),
        ("value", {}, None),
    ],
)
def test_ratio_holds_by_its_worse_end_and_value_by_itself(kind: str, bar: dict[str, float], holds: bool | None) -> None:
    found = measure.claim("it is so", (2.0, 1.5, 2.5), kind=kind, **bar)
    expected = {"claim": "it is so", kind: 2.0, "low": 1.5, "high": 2.5, "bar": next(iter(bar.values()), None)}
    assert found == {**expected, "holds": holds}


def test_bar_is_judged_before_rounding() -> None:
    assert measure.claim("close", measure.spread([0.85999]), at_least=0.86)["holds"] is False


def test_document_survives_json_and_says_where_it_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    found = measure.document("x", [measure.claim("c", measure.spread([3, 1, 2]), at_most=2)], 1.26)
    measure.show(found, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed == found
    assert set(printed) == {"benchmark", "claims", "machine", "commit", "seconds"}
    assert printed["claims"] == [{"claim": "c", "value": 2.0, "low": 1.0, "high": 3.0, "bar": 2, "holds": True}]
    assert printed["machine"]["cores"] >= 1
    assert printed["seconds"] == 1.3


def test_table_names_a_loss(capsys: pytest.CaptureFixture[str]) -> None:
    claims = [measure.claim("fast", (2.0, 2.0, 2.0), at_most=1), measure.claim("so much", (3.0, 2.0, 4.0))]
    measure.show(measure.document("x", claims, 0), as_json=False)
    lost, stated = capsys.readouterr().out.splitlines()
    assert "bar 1" in lost
    assert "DOES NOT HOLD" in lost
    assert "2 to 4" in stated
    assert "stated" in stated


@pytest.mark.parametrize(
    ("cpu", "slug"),
    [
        ("AMD EPYC", "amd-epyc-2c"),
        ("AMD EPYC 9V74 80-Core Processor", "amd-epyc-9v74-2c"),
        ("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz", "intel-xeon-platinum-8370c-2c"),
        ("Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi-5-model-2c"),
        ("", "2c"),
    ],
)
def test_machine_slug_is_a_short_folder_name(cpu: str, slug: str) -> None:
    assert measure.machine_slug({"cpu": cpu, "cores": 2}) == slug


def test_look_keeps_packages_and_leaves_out_pythons_own() -> None:
    line = "2048 sys os.path encodings.utf_8 _hook __main__ tledge.cli numpy numpy.linalg typer"
    assert startup.parse_look(line) == (2048 * 1024, {"numpy", "typer"})


# ── ELPV ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_ROWS = "images/a.png  1.0  mono\nimages/b.png  0.6666666666666666  poly\nimages/c.png  0.3333333333333333  mono\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a package that looks like elpv_dataset on the path; importing it would fail."""
    folder = tmp_path / "site" / "elpv_dataset"
    (folder / "data" / "images").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('nobody should import this')")
    (folder / "data" / "labels.csv").write_text(_ROWS + "images/d.png  0.0  poly\n")
    for name in "abcd":
        (folder / "data" / "images" / f"{name}.png").write_bytes(name.encode() * 9)
    monkeypatch.setattr(sys, "path", [str(folder.parent), *sys.path])
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    return folder


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


_EXPECTED = {
    "defective/a.png": b"a" * 9,
    "defective/b.png": b"b" * 9,
    "functional/c.png": b"c" * 9,
    "functional/d.png": b"d" * 9,
}


def test_elpv_counts_as_defective_from_one_half_on(package: Path, tmp_path: Path) -> None:
    assert _contents(datasets.elpv(tmp_path / "out" / "elpv")) == _EXPECTED


def test_elpv_again_mends_a_copy_that_was_cut_short_and_leaves_the_rest(package: Path, tmp_path: Path) -> None:
    out = datasets.elpv(tmp_path / "out")
    (out / "defective" / "a.png").write_bytes(b"a")
    (out / "defective" / "mine.png").write_bytes(b"mine")
    kept = (out / "functional" / "c.png").stat().st_mtime_ns
    assert _contents(datasets.elpv(out)) == {**_EXPECTED, "defective/mine.png": b"mine"}
    assert (out / "functional" / "c.png").stat().st_mtime_ns == kept


def test_elpv_takes_only_so_many_of_each_class(package: Path, tmp_path: Path) -> None:
    assert set(_contents(datasets.elpv(tmp_path / "out", most=1))) == {"defective/a.png", "functional/c.png"}


def test_elpv_without_its_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    monkeypatch.setattr(sys, "argv", ["datasets", "elpv", str(tmp_path / "out")])
    with pytest.raises(MissingExtra, match=r"tledge\[demo\]"):
        datasets.elpv(tmp_path / "out")
    with pytest.raises(SystemExit) as stop:
        datasets.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("labels", [None, "images/a.png\n", "images/a.png  high  mono\n", "images/none.png 1 mono\n"])
def test_elpv_of_a_damaged_package_is_one_line(package: Path, tmp_path: Path, labels: str | None) -> None:
    table = package / "data" / "labels.csv"
    table.unlink()
    if labels is not None:
        table.write_text(labels)
    with pytest.raises(DataError, match="again"):
        datasets.elpv(tmp_path / "out")


def test_elpv_into_a_file_is_one_line(package: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("taken")
    with pytest.raises(OutputError, match="out"):
        datasets.elpv(tmp_path / "out")
