"""The report: one page, whole, safe and the same every time."""

from __future__ import annotations

import dataclasses
import html.parser
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sounds import encode, tone

from tledge import report
from tledge.errors import OutputError
from tledge.report import figures, gallery, tables, words
from tledge.schema import (
    CacheCounts,
    ClassMetrics,
    Metrics,
    Mistake,
    Problem,
    ReliabilityBin,
    ReportData,
    SampleCounts,
    TrainResult,
)

LONG = [f"class {i:02d} with a name that goes on and on, as labels of catalogues do ({i * 7919})" for i in range(40)]
VOID = {"meta", "img", "br", "hr", "input", "link", "area", "base", "col", "embed", "source", "track", "wbr"}


def metrics_of(names: list[str], seed: int = 0) -> Metrics:
    """Return the figures of a made-up classifier that is right about nine times in ten."""
    rng = np.random.default_rng(seed)
    supports = rng.integers(60, 400, len(names))
    matrix = np.array([rng.multinomial(n, _row(rng, i, len(names))) for i, n in enumerate(supports)])
    hits = np.diag(matrix)
    precision, recall = hits / np.maximum(matrix.sum(0), 1), hits / np.maximum(matrix.sum(1), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    per_class = tuple(ClassMetrics(*row) for row in zip(names, precision, recall, f1, map(int, supports), strict=True))
    overall = (hits.sum() / matrix.sum(), recall.mean(), precision.mean(), recall.mean(), f1.mean(), 0.2946, 0.0312)
    return Metrics(*map(float, overall), per_class, tuple(tuple(map(int, row)) for row in matrix))


def _row(rng: np.random.Generator, i: int, classes: int) -> np.ndarray:
    row = rng.dirichlet(np.full(classes, 0.2)) * rng.uniform(0.03, 0.3)
    row[i] += 1 - row.sum()
    return row


def make_data(names: list[str], mistakes: tuple[Mistake, ...] = (), **changes: object) -> ReportData:
    """Return a run with the classes `names`; `changes` replace fields of its document."""
    metrics = metrics_of(names)
    tested = sum(map(sum, metrics.confusion))
    strengths = tuple(float(10 ** (k / 2)) for k in range(-10, 5))
    result = TrainResult(
        schema_version=1,
        tledge_version="0.1.0",
        created="2026-11-21T10:26:40+00:00",
        run="runs/solar cells",
        model="runs/solar cells/model.onnx",
        bytes=13_412_345,
        backbone="efficientnet-lite0",
        head="linear",
        precision="fp32",
        provider="cpu",
        data="/data/elpv/cells",
        test_data=None,
        options={"seed": 0, "backbone": "efficientnet-lite0", "folds": 5},
        classes=tuple(names),
        class_counts={name: 100 + 13 * i for i, name in enumerate(names)},
        samples=SampleCounts(3 * tested, tested // 2, tested),
        cache=CacheCounts(2_600, 24),
        l2=strengths[6],
        l2_path=tuple((l2, 0.29 + 0.012 * (k - 6) ** 2, 0.89 - 0.004 * (k - 6) ** 2) for k, l2 in enumerate(strengths)),
        seconds={"scan": 0.21, "extract": 0.482, "fit": 0.911, "report": 0.12, "total": 2.71},
        metrics=metrics,
        val_metrics=metrics_of(names, seed=1),
        fingerprint="9f2c" * 16,
        skipped=tuple(Problem(f"/data/elpv/cells/broken/{i}.png", "is cut short") for i in range(3)),
        conflicts=(Problem("/data/elpv/cells/a/7.png", "also stands under b"),),
        warnings=("Class 'defective' has fewer than 50 images for training.",),
    )
    bins = tuple(
        ReliabilityBin(k / 15, (k + 1) / 15, (k + 0.55) / 15, min(1, (k + 0.55) / 15 + 0.05 * (-1) ** k), (k - 6) ** 2)
        for k in range(7, 15)
    )
    environment = {
        "python": "3.11.9",
        "onnxruntime": "1.31.0",
        "CPU": "Example CPU @ 2.60GHz, 2 cores",
        "system": "Linux",
    }
    return ReportData(dataclasses.replace(result, **changes), mistakes, bins, environment)


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Mistake, ...]:
    """Thirty mistakes with pictures: grey and coloured, wide and tall."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(30):
        shape = (48, 300 - 9 * i) if i % 2 else (200, 120, 3)
        path = tmp_path / f"cell{i:04d}.png"
        Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(path)
        made.append(Mistake(str(path), "functional", "defective", 0.5 + i / 64))
    return tuple(made)


class Page(html.parser.HTMLParser):
    """A page taken apart: its elements and its visible text. Fails on a tag that is closed out of order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.quoted: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data
        if self.open[-1:] == ["blockquote"]:
            self.quoted.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.mark.parametrize("names", [["functional", "defective"], list("abcde"), LONG], ids=["two", "five", "forty"])
def test_page_is_well_formed_and_names_every_class(names: list[str], pictures: tuple[Mistake, ...]) -> None:
    page = Page(report.render(make_data(names, pictures)))
    assert all(name in page.text for name in names)
    assert len(page.all("svg")) == 2
    assert len([image for image in page.all("img") if image["src"].startswith("data:image/jpeg;base64,")]) == 24


def test_page_reaches_for_nothing_outside_and_runs_nothing(pictures: tuple[Mistake, ...]) -> None:
    page = report.render(make_data(["a", "b"], pictures))
    elements = Page(page).elements
    assert not {"script", "link", "iframe", "object", "embed", "base", "a"} & {tag for tag, _ in elements}
    references = [
        value for _, attrs in elements for key, value in attrs.items() if key in ("src", "href", "xlink:href")
    ]
    assert all(value.startswith("data:") for value in references)
    assert re.findall(r"https?://[^\"]+", page.replace("http://www.w3.org/2000/svg", "")) == []
    assert "url(" not in page and "@import" not in page


def test_what_comes_from_outside_stays_text(tmp_path: Path) -> None:
    nasty = "</style></title><script>alert(1)</script><img src=x onerror=alert(2)>\" onclick='alert(3)' {{ 7 * 7 }}"
    mistake = Mistake(f"{tmp_path}/{nasty}", nasty, nasty + "2", 0.9)
    data = make_data(
        [nasty, nasty + "2"],
        (mistake,),
        run=f"runs/x{nasty}".replace("</", "<"),
        backbone=nasty,
        head=nasty,
        data=nasty,
        test_data=nasty,
        created=nasty,
        options={nasty: nasty},
        warnings=(nasty,),
        skipped=(Problem(nasty, nasty),),
        conflicts=(Problem(nasty, nasty),),
        seconds={nasty: 1.0, "total": 2.0},
        tledge_version=nasty,
        fingerprint=nasty,
    )
    page = Page(report.render(dataclasses.replace(data, environment={nasty: nasty})))
    assert not page.all("script") and not page.all("img")
    assert not [key for _, attrs in page.elements for key in attrs if key.startswith("on")]
    assert page.text.count("alert(1)") > 10 and "{{ 7 * 7 }}" in page.text


def test_bytes_that_are_not_utf8_are_shown_as_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\x1b.png")
    mistake = Mistake(str(tmp_path / name), "a", "b", 0.9)
    path = tmp_path / "report.html"
    report.write(make_data(["a", "b", name], (mistake,), skipped=(Problem(name, "why"),), data=name), path)
    assert path.read_text(encoding="utf-8").count("caf\\xe9\\x1b.png") >= 5


def test_mistakes_come_with_the_most_confident_first(pictures: tuple[Mistake, ...]) -> None:
    shown = re.findall(r"cell\d{4}\.png(?=</small>)", report.render(make_data(["functional", "defective"], pictures)))
    assert shown == [f"cell{i:04d}.png" for i in range(29, 5, -1)]


def test_a_text_that_was_taken_for_another_is_shown_even_where_a_file_has_that_name(tmp_path: Path) -> None:
    picture = tmp_path / "who.png"
    Image.new("RGB", (8, 8)).save(picture)
    texts = ["What <is> a cat? " + "x" * 500, str(picture)]
    made = tuple(Mistake(f"q.csv line {n}", "a", "b", 0.9, text, "text") for n, text in enumerate(texts))
    page = Page(report.render(make_data(["a", "b"], made)))
    assert not page.all("img") and "What <is> a cat? xxx" in page.text and str(picture) in page.text
    assert "x" * 300 not in page.text


def test_picture_that_cannot_be_read_leaves_a_gap_in_the_gallery(tmp_path: Path) -> None:
    damaged, gone = tmp_path / "damaged.jpg", tmp_path / "gone.jpg"
    damaged.write_bytes(b"\xff\xd8\xff not a picture")
    page = Page(report.render(make_data(["a", "b"], tuple(Mistake(str(p), "a", "b", 0.8) for p in (damaged, gone)))))
    assert not page.all("img")
    assert page.text.count("no picture") == 2


def test_texts_are_shown_as_text_and_long_ones_are_cut() -> None:
    nasty = "<script>alert(1)</script> {{ 7 * 7 }} \ud800 "
    long = "word " * 200
    mistakes = [
        Mistake(f"t.csv line {n}", "a", "b", 0.8, text, "text") for n, text in enumerate((long, "short", nasty))
    ]
    page = Page(report.render(make_data(["a", "b"], tuple(mistakes), kind="text")))
    quoted = page.quoted
    assert not page.all("script") and not page.all("img") and len(quoted) == 2
    assert quoted[0] == long[:300] + "…" and quoted[1] == "short"
    assert "no text" in page.text and "Test texts" in page.text  # half a character is no text
    fair = dataclasses.replace(mistakes[2], value=nasty.replace("\ud800", ""))
    assert "alert(1)" in Page(report.render(make_data(["a", "b"], (fair,), kind="text"))).quoted[0]


def test_sounds_are_drawn_and_short_ones_can_be_heard(tmp_path: Path) -> None:
    for name, seconds in (("short", 1.0), ("long", 40.0)):
        (tmp_path / f"{name}.wav").write_bytes(encode(tone(seconds=seconds, rate=8000), 8000))
    (tmp_path / "cut.wav").write_bytes((tmp_path / "short.wav").read_bytes()[:900])
    paths = [tmp_path / f"{name}.wav" for name in ("short", "long", "cut", "gone")]
    mistakes = [Mistake(str(path), "a", "b", 0.9 - n / 10, kind="audio") for n, path in enumerate(paths)]
    part = dataclasses.replace(mistakes[1], probability=0.1, part=(30.0, 31.0))
    page = Page(report.render(make_data(["a", "b"], (*mistakes, part), kind="audio")))
    assert [attrs["class"] for attrs in page.all("svg")].count("outline") == 3
    heard = page.all("audio")
    assert len(heard) == 2 and heard[0]["src"].startswith("data:audio/wav;base64,")
    assert abs(len(heard[0]["src"]) - len(heard[1]["src"])) < 20
    assert page.text.count("no sound") == 2 and "Test sounds" in page.text


def test_an_outline_holds_the_extremes_of_each_column() -> None:
    samples = np.zeros(1600, np.float32)
    samples[5], samples[1599] = 1, -1
    found = re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)", gallery.outline(samples))
    assert len(found) == 160
    assert found[0][1:] == ("0.0", "50.0") and found[-1][1:] == ("50.0", "100.0") and found[80][1:] == ("50.0", "50.5")
    assert gallery.outline(samples[:3]).count("M") == 3


def test_vectors_are_shown_by_their_first_numbers() -> None:
    vectors = [np.array([0.5, -1.25, 3]), np.arange(100)]
    mistakes = [Mistake(f"x.npz[x][{n}]", "a", "b", 0.8, vector, "vector") for n, vector in enumerate(vectors)]
    first, second = Page(report.render(make_data(["a", "b"], tuple(mistakes), kind="vector"))).quoted
    assert first == "0.5, -1.25, 3" and second.endswith("22, 23, …")


def test_same_data_gives_the_same_page(pictures: tuple[Mistake, ...]) -> None:
    data = make_data(["a", "b"], pictures)
    assert report.render(data) == report.render(data)


def test_run_that_tested_nothing_still_has_a_report() -> None:
    page = Page(report.render(_empty()))
    assert "No pictures were held out" in page.text
    assert not page.all("svg") and not page.all("img")


def _empty() -> ReportData:
    none = float("nan")
    per_class = tuple(ClassMetrics(name, none, none, none, 0) for name in "ab")
    metrics = Metrics(*[none] * 7, per_class, ((0, 0), (0, 0)))
    data = make_data(
        ["a", "b"], metrics=metrics, val_metrics=None, l2_path=((1.0, none, none),), seconds={}, skipped=()
    )
    return dataclasses.replace(data, reliability=(), environment={})


def test_long_lists_of_files_are_cut() -> None:
    many = tuple(Problem(f"file-{i:04d}.png", "is cut short") for i in range(450))
    page = Page(report.render(make_data(["a", "b"], skipped=many)))
    assert page.text.count("is cut short") == 200
    assert "250 more" in page.text


def test_large_confusion_matrix_becomes_a_list_of_pairs() -> None:
    metrics = metrics_of(LONG)
    assert tables.confusion(metrics) == []
    counts = [pair.count for pair in tables.confused_pairs(metrics)]
    assert len(counts) == 20 and counts == sorted(counts, reverse=True)


def test_confusion_is_normalised_by_row() -> None:
    (name, cells), empty = tables.confusion(Metrics(*[0.0] * 7, (_class("a"), _class("b")), ((3, 1), (0, 0))))
    assert (name, [cell.share for cell in cells], [cell.right for cell in cells]) == ("a", [0.75, 0.25], [True, False])
    assert [cell.share for cell in empty[1]] == [0.0, 0.0]


def _class(name: str) -> ClassMetrics:
    return ClassMetrics(name, 0.0, 0.0, 0.0, 0)


def test_time_that_no_stage_claims_is_shown() -> None:
    named = {stage.name: stage.seconds for stage in tables.stages({"scan": 0.5, "brew": 1.0, "total": 2.0})}
    assert named == pytest.approx({"Find and fingerprint the samples": 0.5, "Brew": 1.0, "Everything else": 0.5})


def test_chosen_strength_is_marked_once() -> None:
    drawing = figures.cross_validation(((0.01, 0.5, 0.8), (0.1, 0.4, 0.9), (1.0, 0.6, 0.7)), 0.1)
    assert len(re.findall(r'<circle[^>]* r="7"', drawing)) == 1
    assert "accuracy 90.0" in drawing
    assert figures.cross_validation(((0.01, 0.5, 0.8), (0.1, 0.4, 0.9)), 0.5).count("<circle") == 2


def test_strengths_less_than_a_decade_apart_are_labelled() -> None:
    drawing = figures.cross_validation(((0.2, 0.4, 0.9), (0.5, 0.4, 0.8)), 0.2)
    assert ">0.2<" in drawing and ">0.5<" in drawing


def test_reliability_leaves_empty_bins_out() -> None:
    bins = (ReliabilityBin(0.8, 0.9, float("nan"), float("nan"), 0), ReliabilityBin(0.9, 1.0, 0.97, 0.95, 7))
    drawing = figures.reliability(bins, "pictures")
    assert drawing.count("<circle") == 1 and "nan" not in drawing
    assert figures.reliability(bins[:1], "pictures") == ""


@pytest.mark.parametrize(
    ("share", "digits", "shown"),
    [(0.0, 0, "0"), (0.001, 0, "<1"), (0.999, 0, ">99"), (1.0, 0, "100"), (0.8861, 1, "88.6"), (float("nan"), 1, "–")],
)
def test_percentages_say_none_and_all_only_when_it_is_so(share: float, digits: int, shown: str) -> None:
    assert words.percent(share, digits).removesuffix("\u202f%") == shown


def test_interval_agrees_with_a_published_table() -> None:
    assert words.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0123, "12 ms"), (0.9997, "1.0 s"), (2.71, "2.7 s"), (72, "1 min 12 s")]
)
def test_durations_suit_their_size(seconds: float, shown: str) -> None:
    assert words.duration(seconds).replace("\u202f", " ") == shown


def test_commands_survive_a_shell() -> None:
    assert words.repeat(make_data(["a", "b"]).result) == "tledge train --config 'runs/solar cells/run.json'"


def test_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"missing.report\.html"):
        report.write(make_data(["a", "b"]), tmp_path / "missing" / "report.html")
