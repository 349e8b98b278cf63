"""The parts of benchmarks/ that decide what a figure means: intervals, bars, documents, and how ELPV is laid out."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

# Benchmarks are no part of the package. At the end of the path, so that the installed tledge stays the one under test.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import datasets, measure, precision_rows, startup
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


# ── Other data ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def idx_files(tmp_path: Path) -> Path:
    """Write ten training and six test pictures of 2 × 2 pixels as Fashion-MNIST has them; no two are equal."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for name, count, first in (("train", 10, 0), ("t10k", 6, 100)):
        pixels = bytes(first + i for i in range(count) for _ in range(4))
        (folder / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, count, 2, 2) + pixels)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + bytes(range(count)))
    return folder


def test_parts_of_fashion_mnist_share_no_row_and_keep_their_labels(idx_files: Path, tmp_path: Path) -> None:
    parts = [np.load(datasets.fashion_mnist(idx_files, tmp_path / f"{i}.npz", i, train=5, test=3)) for i in range(2)]
    assert [part["x_train"][:, 0, 0].tolist() for part in parts] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert [part["y_train"].tolist() for part in parts] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert [part["x_test"][:, 0, 0].tolist() for part in parts] == [[100, 101, 102], [103, 104, 105]]


def test_part_that_fashion_mnist_is_too_short_for_is_refused(idx_files: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no part 2"):
        datasets.fashion_mnist(idx_files, tmp_path / "out.npz", 2, train=5, test=3)
    assert not (tmp_path / "out.npz").exists()


def test_flowers_of_both_splits_are_pooled_and_none_hides_another(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "in" / split / "rose").mkdir(parents=True)
        (tmp_path / "in" / split / "rose" / "1.jpg").write_text(split)
    for _ in range(2):  # what is there already stays
        out = datasets.flowers(tmp_path / "in", tmp_path / "out")
    assert sorted(path.read_text() for path in out.glob("rose/*")) == ["train", "val"]
    with pytest.raises(DataError, match="train/ and val/"):
        datasets.flowers(tmp_path / "nowhere", tmp_path / "other")


# ── Two models on the same samples ───────────────────────────────────────────────────────────────────────────────────


def test_lead_is_counted_on_the_samples_that_two_models_differ_on() -> None:
    ours, theirs = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 1, 0], bool)
    assert precision_rows.points(ours, theirs) == pytest.approx(20)
    assert (precision_rows.only(ours, theirs), precision_rows.only(theirs, ours)) == (2, 1)


@pytest.mark.parametrize(
    ("ahead", "behind", "chance"), [(0, 0, 1), (5, 0, 1 / 32), (0, 5, 1), (2, 1, 0.5), (9, 1, 11 / 1024)]
)
def test_chance_of_a_lead_is_that_of_a_fair_coin(ahead: int, behind: int, chance: float) -> None:
    assert precision_rows.chance(ahead, behind) == pytest.approx(chance)
