"""What a bench writes for a CI and for people: the schema of its JSON, JUnit XML, Markdown, and a page."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import html5lib
import jsonschema
import pytest
from bench_documents import Document, changed, full, judged, slowed
from conftest import make_backbone, make_model
from typer.testing import CliRunner, Result

import tledge
from tledge import documents
from tledge.cli.app import app
from tledge.errors import MissingExtra, OutputError, TledgeError
from tledge.report import benches

ROOT = Path(__file__).parent.parent
OPTIONS = ("save", "junit", "markdown", "html")
HOSTILE = "a|b`c*<script>alert(1)</script> [x](http://y) @all\n# z\x07\udcff.onnx"
AS_TEXT = HOSTILE.replace("\x07", r"\x07").replace("\udcff", r"\xff")  # what XML and UTF-8 cannot hold


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("bench") / "model.onnx")


@pytest.fixture(scope="module")
def measured(model: Path) -> Document:
    """The document of a real bench, without a verdict."""
    return documents.plain(tledge.bench(model, seconds=0.1, label="4f1c9d0"))


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


# ── The schema ───────────────────────────────────────────────────────────────────────────────────────────────────────


def valid(document: Document) -> bool:
    return jsonschema.Draft202012Validator(tledge.bench_schema()).is_valid(document)


def test_the_schema_is_that_of_the_dataclasses():
    spec = importlib.util.spec_from_file_location("bench_schema", ROOT / ".ci" / "bench_schema.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert maker.PLACE.read_text() == maker.made(), "run 'make schema'"
    jsonschema.Draft202012Validator.check_schema(tledge.bench_schema())


def test_the_schema_is_printed():
    printed = invoke("bench", "--schema")
    assert printed.exit_code == 0 and json.loads(printed.stdout) == tledge.bench_schema()
    assert tledge.bench_schema()["properties"]["schema_version"]["const"] == 1


def test_every_kind_of_document_is_valid(model: Path, measured: Document, tmp_path: Path):
    foreign = make_backbone(tmp_path).path
    found = tledge.bench(foreign, seconds=0.1, scenarios=["single_stream"], against=foreign, save=tmp_path / "f.json")
    assert found.verdict and valid(json.loads((tmp_path / "f.json").read_text()))
    again = documents.plain(tledge.bench(model, seconds=0.1, against=tmp_path / "f.json"))
    assert again["verdict"] and valid(again)
    assert valid(measured) and measured["verdict"] is None
    assert valid(changed(measured, something_newer={"figure": 1}))


def test_other_documents_are_not(measured: Document):
    assert not valid(changed(measured, schema_version=2))
    assert not valid(changed(measured, scenarios={"single_stream": {"p50_ms": 1.0}}))
    assert not valid({name: value for name, value in measured.items() if name != "digest"})
    assert not valid(judged(measured, "slower"))


# ── The label ────────────────────────────────────────────────────────────────────────────────────────────────────────


COMMITS = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")
QUICK = {"seconds": 0.02, "scenarios": ["single_stream"]}


@pytest.mark.parametrize("variable", COMMITS)
def test_the_commit_is_taken_from_the_environment(model: Path, monkeypatch: pytest.MonkeyPatch, variable: str):
    for name in COMMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "0123abc")
    assert tledge.bench(model, **QUICK).label == "0123abc"


def test_a_label_comes_before_the_commit_and_there_may_be_neither(model: Path, monkeypatch: pytest.MonkeyPatch):
    for name in COMMITS:
        monkeypatch.setenv(name, "0123abc")
    assert tledge.bench(model, **QUICK, label="mine").label == "mine"
    for name in COMMITS:
        monkeypatch.delenv(name)
    assert tledge.bench(model, **QUICK).label is None


# ── JUnit XML ────────────────────────────────────────────────────────────────────────────────────────────────────────


def parsed(xml: bytes) -> Any:
    """Return the one suite in JUnit XML."""
    import junitparser

    (suite,) = junitparser.JUnitXml.fromstring(xml)
    return suite


def cases(document: Document) -> dict[str, Any]:
    return {case.name: case for case in parsed(benches.junit(document))}


def test_each_check_is_a_test_case(measured: Document):
    found = cases(judged(full(measured), "regression"))
    assert list(found) == [
        "verdict", "budget max_p99_ms", "budget max_memory_mb", "scenario single_stream", "scenario offline",
    ]  # fmt: skip
    assert [case.is_failure for case in found.values()] == [True, True, False, False, False]
    assert found["verdict"].classname == "tledge.bench.model.onnx" and found["verdict"].time == 21.4
    (failure,) = found["verdict"].result
    assert failure.message == failure.text == "1.08 × the old latency, and 99 % of it."
    assert "p50" in found["scenario single_stream"].system_out


def test_what_cannot_be_told_is_skipped_and_no_failure(measured: Document):
    suite = parsed(benches.junit(judged(measured, "inconclusive", None)))
    assert (suite.failures, suite.errors, suite.skipped, suite.tests) == (0, 0, 1, 3)
    invalid = changed(measured, scenarios={"offline": {"validity": {"valid": False, "reason": "too short"}}})
    (skipped,) = cases(invalid)["scenario offline"].result
    assert skipped.message == "INVALID: too short"


def test_a_passing_verdict_passes_and_none_is_no_test_case(measured: Document):
    assert cases(judged(measured, "pass"))["verdict"].is_passed
    assert "verdict" not in cases(measured)


def test_the_machine_is_among_the_properties(measured: Document):
    facts = {each.name: each.value for each in parsed(benches.junit(measured)).properties()}
    assert facts["label"] == "4f1c9d0" and facts["cores"] == str(measured["machine"]["cores"])


def test_any_name_gives_xml(measured: Document):
    tree = ElementTree.fromstring(benches.junit(changed(judged(measured, "pass"), model=HOSTILE, label=HOSTILE)))
    facts = {each.get("name"): each.get("value") for each in tree.iter("property")}
    assert facts["model"] == facts["label"] == AS_TEXT
    places = {each.get("classname") for each in tree.iter("testcase")}
    assert places == {f"tledge.bench.{AS_TEXT.rpartition('/')[2]}"}
    assert {each.tag for each in tree.iter()} <= {
        "testsuites", "testsuite", "properties", "property", "testcase", "system-out", "skipped",
    }  # fmt: skip


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("outcome", "sign"), [("pass", "✅"), ("regression", "❌"), ("inconclusive", "⚠️")])
def test_the_verdict_comes_first(measured: Document, outcome: str, sign: str):
    first = benches.markdown(judged(measured, outcome)).splitlines()[0]
    assert first == f"### {sign} {outcome.capitalize()}: model.onnx: 1.08 × the old latency, and 99 % of it."


def test_without_a_verdict_it_says_what_else_it_did(measured: Document):
    assert benches.markdown(measured).startswith("### ⏱️ Measured: model.onnx")
    assert benches.markdown(full(measured)).startswith("### ❌ Over budget: model.onnx: max&#95;p99&#95;ms")
    assert benches.markdown(judged(full(measured), "pass")).startswith("### ❌ Over budget")
    kept = changed(measured, budgets=full(measured)["budgets"][1:])
    assert benches.markdown(kept).startswith("### ✅ Within budget")


def test_new_figures_stand_beside_the_old_ones(measured: Document):
    old = slowed(measured, 2.0)
    (row,) = re.findall(r"^\| single stream p50 \|.*$", benches.markdown(measured, old).partition("<details>")[0], re.M)
    then, now = (float(cell.removesuffix(" ms ")) for cell in row.split("|")[2:4])
    assert then == pytest.approx(2 * now, rel=0.01)
    assert "| old | new |" not in benches.markdown(measured)


def test_only_what_was_measured_is_shown(measured: Document):
    bare = changed(measured, scenarios={}, conditions=None)
    assert "single stream" not in benches.markdown(bare) and "offline" not in benches.markdown(bare)
    assert "peak memory" not in benches.markdown(measured)
    everything = benches.markdown(full(measured))
    assert "| peak memory | 171.0 MB |" in everything.replace("\u202f", " ")
    assert "> ⚠️ Other processes took 23 % of the cores." in everything
    assert everything.count("<details>") == everything.count("</details>") == 1


def test_nothing_from_outside_is_markup(measured: Document):
    said = benches.markdown(changed(judged(measured, "pass"), model=HOSTILE, label=HOSTILE, provider=HOSTILE))
    assert "<script" not in said and "@all" not in said and "](http" not in said and "\x07" not in said
    assert len(re.findall(r"^#", said, re.M)) == 1
    assert all(line.count("|") in (0, 3) for line in said.splitlines())
    said.encode()


# ── The page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def headings(page: str) -> list[str]:
    """Return the headings of a page, which must be sound HTML that needs nothing from elsewhere."""
    html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    assert "<script" not in page and not re.search(r"(src|href)\s*=", page)
    return [re.sub(r"<.*?>", "", heading).split("  ")[0] for heading in re.findall(r"<h2.*?>(.*?)</h2>", page)]


def test_a_bare_page_has_figures_and_machine(measured: Document):
    bare = changed(measured, scenarios={}, conditions=None)
    assert headings(benches.page(bare)) == ["Figures", "Machine and setting"]


def test_a_full_page_has_every_part(measured: Document):
    found = headings(benches.page(judged(full(measured), "regression"), slowed(measured, 0.9)))
    for words in ("What speaks against", "Slower than before?", "Latency of single stream", "Over time", "Throughput"):
        assert any(heading.startswith(words) for heading in found), words
    assert "From the bytes of a picture to its label" in found and "Checks" in found


@pytest.mark.parametrize("outcome", ["pass", "regression", "inconclusive"])
@pytest.mark.parametrize("ratio", [None, 0.3, 1.0, 40.0])
def test_any_verdict_has_its_place_on_the_scale(measured: Document, outcome: str, ratio: float | None):
    page = benches.page(judged(measured, outcome, ratio))
    places = [float(place) for place in re.findall(r'class="(?:line \w+|mark|range)" style="left:([-\d.]+)%', page)]
    assert len(places) == (0 if ratio is None else 4) and all(0 <= place <= 100 for place in places)


def test_both_ratios_that_were_judged_are_shown(measured: Document):
    document = judged(measured, "inconclusive")
    document["verdict"]["p99"] = {"ratio": 1.08, "low": 1.005, "high": 1.803}
    assert benches.page(document).count('class="scale inconclusive"') == 2
    assert "1.080 (1.005 to 1.803)" in benches.markdown(document)


def test_a_page_shows_names_as_text(measured: Document):
    page = benches.page(changed(judged(measured, "pass"), model=HOSTILE, label=HOSTILE))
    assert headings(page) == headings(benches.page(judged(measured, "pass")))
    tree = html5lib.HTMLParser(namespaceHTMLElements=False).parse(page)
    places = ("head/title", "body//h1", "body//p[@class='when']", "body//p[@class='summary']")
    title, heading, when, summary = ("".join(tree.find(place).itertext()) for place in places)
    name = AS_TEXT.rpartition("/")[2]
    assert (title, heading) == (f"{name} – latency report", name)
    assert summary.startswith(f"Pass: {name}: ") and when.endswith(f" · {AS_TEXT}")
    page.encode()


@pytest.mark.parametrize(
    ("edges", "counts", "columns"),
    [
        ([1.0, 2.0, 4.0, 8.0], [10, 80, 10], 3),
        ([1.0, 1.0], [5], 1),
        ([0.0, 1.0], [5], 1),
        ([1e-4, 1e4], [1], 1),
        ([1.0, 2.0], [0], 0),
    ],
)
def test_odd_histograms_are_drawn_or_left_out(measured: Document, edges: list[float], counts: list[int], columns: int):
    made = full(measured)
    made["scenarios"]["single_stream"]["histogram"] = {"edges_ms": edges, "counts": counts}
    page = benches.page(made)
    assert ("Latency of single stream" in headings(page)) == (columns > 0)
    filled = re.findall(r'<path d="([^"]*)" class="line reactive"', page)
    assert [len(re.findall(r"[\d.]+ [\d.]+", path)) for path in filled] == [4 * columns + 2] * (columns > 0)


def test_the_command_says_where_they_are(model: Path, tmp_path: Path):
    paths = [f"--{option}={tmp_path / option}" for option in OPTIONS]
    shown = invoke("bench", model, "--seconds", "0.02", "--scenario", "single_stream", "--json", *paths)
    assert json.loads(shown.stdout) == json.loads((tmp_path / "save").read_text())
    assert [line for line in shown.stderr.splitlines() if line.startswith("Written: ")] == [
        f"Written: {tmp_path / option}" for option in OPTIONS
    ]


# ── Where they are written ───────────────────────────────────────────────────────────────────────────────────────────


def test_all_are_written_beside_the_verdict(model: Path, tmp_path: Path):
    names = {"save": "b.json", "junit": "b.xml", "markdown": "b.md", "html": "b.html"}
    paths = {name: tmp_path / "deep" / path for name, path in names.items()}
    result = tledge.bench(model, seconds=0.1, scenarios=["single_stream"], against=model, **paths)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == sorted(names.values())
    assert cases(documents.plain(result)).keys() == {case.name for case in parsed(paths["junit"].read_bytes())}
    assert result.verdict.outcome.capitalize() in paths["markdown"].read_text().splitlines()[0]
    headings(paths["html"].read_text())


def test_the_page_shows_the_trend_of_a_folder(model: Path, measured: Document, tmp_path: Path):
    for number in range(5):
        past = changed(slowed(measured, 1 + number / 10), created=f"2026-01-0{number + 1}T00:00:00+00:00")
        (tmp_path / f"{number}.json").write_text(json.dumps(past))
    (tmp_path / "other.json").write_text(json.dumps(changed(measured, threads=63)))
    tledge.bench(model, seconds=0.1, html=tmp_path / "b.html", history=tmp_path)
    assert any(heading.startswith("History: 6 measurements") for heading in headings((tmp_path / "b.html").read_text()))


@pytest.mark.parametrize("option", OPTIONS)
def test_what_is_there_stays_without_force(model: Path, tmp_path: Path, option: str):
    stages: list[str] = []
    taken = tmp_path / "taken"
    taken.write_text("mine")
    quick = {"seconds": 0.02, "scenarios": ["single_stream"], option: taken}
    with pytest.raises(OutputError, match="exists already"):
        tledge.bench(model, **quick, on_progress=lambda words, *_: stages.append(words))
    assert taken.read_text() == "mine" and not stages
    tledge.bench(model, **quick, force=True)
    assert taken.read_bytes() != b"mine" and [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("option", OPTIONS)
def test_the_models_are_never_written_over(tmp_path: Path, option: str):
    new, old = make_model(tmp_path / "new.onnx"), make_model(tmp_path / "old.onnx")
    (tmp_path / "link.onnx").symlink_to(old)
    for place in (new, tmp_path / "graphs" / ".." / "new.onnx", old, tmp_path / "link.onnx"):
        with pytest.raises(OutputError, match="which is the model"):
            tledge.bench(new, seconds=0.02, against=old, force=True, **{option: place})


def test_two_outputs_do_not_share_a_file(model: Path, tmp_path: Path):
    with pytest.raises(OutputError, match=r"--html would write over .* which is --markdown"):
        tledge.bench(model, seconds=0.02, markdown=tmp_path / "b", html=tmp_path / "." / "b", force=True)
    with pytest.raises(OutputError, match="folder"):
        tledge.bench(model, seconds=0.02, junit=tmp_path, force=True)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "package"), [("junit", "junitparser"), ("html", "jinja2"), ("html", "pygal"), ("history", "ruptures")]
)
def test_a_missing_package_is_one_line_before_the_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, package: str
):
    monkeypatch.setitem(sys.modules, package, None)
    stages: list[str] = []
    with pytest.raises(MissingExtra, match=rf"{package}.*pip install 'tledge\[bench\]'"):
        tledge.bench(model, **{option: tmp_path / "b"}, on_progress=lambda words, *_: stages.append(words))
    assert not stages


def test_json_and_markdown_need_no_extra(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for package in ("junitparser", "jinja2", "pygal", "ruptures"):
        monkeypatch.setitem(sys.modules, package, None)
    tledge.bench(model, seconds=0.05, save=tmp_path / "b.json", markdown=tmp_path / "b.md", against=model)
    assert (tmp_path / "b.md").read_text().startswith("### ")


def test_history_is_for_a_page_and_needs_a_folder(model: Path, tmp_path: Path):
    with pytest.raises(OutputError, match="--html"):
        tledge.bench(model, seconds=0.02, history=tmp_path)
    with pytest.raises(TledgeError, match="A folder is needed"):
        tledge.bench(model, seconds=0.02, history=tmp_path / "gone", html=tmp_path / "b.html")
    assert not any(tmp_path.iterdir())
