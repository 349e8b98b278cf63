"""Features: what is computed, what is kept, and that neither a kill, a neighbour nor damage changes a bit of it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import make_backbone, make_photos, make_samples

from tledge.errors import ModelError, OutputError
from tledge.features import FeatureStore, extract, space_of
from tledge.modalities import preprocess
from tledge.schema import Backbone, Features, Sample

# What a process of its own does with the cache in argv: extract everything, a line per batch on stdout.
EXTRACT = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import make_backbone, make_samples
from tledge.features import FeatureStore, extract
photos, graphs, cache, pause = Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), float(sys.argv[5])
def tell(done, total):
    print(done, total, flush=True)
    time.sleep(pause)
backbone = make_backbone(graphs / str(os.getpid()))
with FeatureStore(cache) as store:
    extract(make_samples(photos), backbone, store, on_progress=tell)
"""


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    return make_backbone(tmp_path / "graphs")


@pytest.fixture
def samples(tmp_path: Path) -> tuple[Sample, ...]:
    return make_samples(make_photos(tmp_path / "photos", ["left", "right"], 20))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    with open_store(tmp_path / "cache") as opened:
        yield opened


def open_store(folder: Path) -> FeatureStore:
    folder.mkdir(exist_ok=True)
    return FeatureStore(folder)


def fresh(tmp_path: Path, name: str, samples: Sequence[Sample], backbone: Backbone) -> Features:
    with open_store(tmp_path / name) as store:
        return extract(samples, backbone, store)


def edit(store: FeatureStore, statement: str, *values: object) -> None:
    with sqlite3.connect(store.path) as connection:
        connection.execute(statement, values)
    connection.close()


def start(tmp_path: Path, pause: float) -> subprocess.Popen[str]:
    folders = [str(tmp_path / name) for name in ("photos", "graphs", "cache")]
    (tmp_path / "cache").mkdir(exist_ok=True)
    command = [sys.executable, "-c", EXTRACT, str(Path(__file__).parent), *folders, str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# ── What is computed ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_are_what_the_graph_gives_for_the_preprocessed_pictures(samples, backbone, store):
    features = extract(samples, backbone, store)
    session = onnxruntime.InferenceSession(str(backbone.path), providers=["CPUExecutionProvider"])
    pixels = preprocess([sample.path for sample in samples], backbone.preprocess)
    np.testing.assert_allclose(features.matrix, session.run(None, {"image": pixels})[0], rtol=1e-5, atol=1e-6)
    assert features.samples == samples
    assert features.matrix.dtype == np.float32
    assert features.matrix.std(axis=0).min() > 0


def test_a_row_is_the_same_bit_for_bit_however_the_samples_are_grouped(tmp_path, samples, backbone):
    whole = fresh(tmp_path, "whole", samples, backbone)
    mixed = tuple(np.random.default_rng(1).permutation(np.array(samples, object)))
    with open_store(tmp_path / "pieces") as store:
        for size, first in ((1, 0), (17, 1), (3, 18)):
            extract([Sample(*row) for row in _rows(mixed[first : first + size])], backbone, store)
        pieces = extract(samples, backbone, store)
    assert pieces.hits == 21
    assert pieces.matrix.tobytes() == whole.matrix.tobytes()


def test_a_row_of_the_default_backbone_does_not_depend_on_its_neighbours(tmp_path, lite0):
    samples = make_samples(make_photos(tmp_path / "photos", ["a", "b"], 10))
    whole = fresh(tmp_path, "whole", samples, lite0)
    with open_store(tmp_path / "pieces") as store:
        for part in (samples[:1], samples[1:4], samples[4:]):
            extract(part, lite0, store)
        pieces = extract(samples, lite0, store)
    assert (pieces.hits, pieces.misses) == (20, 0)
    assert pieces.matrix.tobytes() == whole.matrix.tobytes()


def _rows(samples: Sequence[Sample]) -> list[tuple[str, int, str]]:
    return [(sample.path, sample.label, sample.digest) for sample in samples]


def test_only_pictures_that_were_added_are_computed(tmp_path, samples, backbone, store):
    first = extract(samples, backbone, store)
    added = make_samples(make_photos(tmp_path / "more", ["left", "right"], 5, seed=9))
    second = extract((*added, *samples), backbone, store)
    assert (first.hits, first.misses) == (0, 40)
    assert (second.hits, second.misses) == (40, 10)
    assert second.matrix[10:].tobytes() == first.matrix.tobytes()
    again = extract((*added, *samples), backbone, store)
    assert (again.hits, again.misses) == (50, 0)
    assert again.matrix.tobytes() == second.matrix.tobytes()


def test_equal_files_are_computed_once_and_all_have_a_row(samples, backbone, store):
    doubled = (*samples, *(replace(sample, label=1 - sample.label) for sample in samples[:7]))
    features = extract(doubled, backbone, store)
    assert (features.hits, features.misses) == (7, 40)
    assert features.samples == doubled
    np.testing.assert_array_equal(features.matrix[40:], features.matrix[:7])


def test_progress_counts_distinct_pictures_up_to_their_number(samples, backbone, store):
    extract(samples[:4], backbone, store)
    told = []
    extract((*samples, *samples), backbone, store, on_progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (40, 40)
    assert {total for _, total in told} == {40}
    assert [done for done, _ in told] == sorted({done for done, _ in told})


@pytest.mark.parametrize("contents", [b"", b"no picture", None], ids=["empty", "text", "cut"])
def test_undecodable_files_are_listed_under_every_path_and_have_no_row(tmp_path, samples, backbone, store, contents):
    contents = Path(samples[0].path).read_bytes()[:300] if contents is None else contents
    for name in ("left/bad", "right/bad", "right/worse"):
        (tmp_path / "photos" / name).write_bytes(contents)
    everything = make_samples(tmp_path / "photos")
    told = []
    features = extract(everything, backbone, store, on_progress=lambda done, total: told.append((done, total)))
    bad = [str(tmp_path / "photos" / name) for name in ("left/bad", "right/bad", "right/worse")]
    assert [problem.path for problem in features.skipped] == bad
    assert len({problem.reason for problem in features.skipped}) == 1
    assert features.samples == samples
    assert (features.hits, features.misses) == (0, 40)
    assert told[-1] == (41, 41)
    assert extract(everything, backbone, store).skipped == features.skipped


def test_nothing_readable_gives_an_empty_matrix(tmp_path, backbone, store):
    gone = Sample(str(tmp_path / "gone.png"), 0, "ab" * 32)
    features = extract([gone], backbone, store)
    assert features.matrix.shape == (0, 8)
    assert features.skipped[0].path == gone.path
    assert extract([], backbone, store).matrix.shape == (0, 8)


def test_a_file_that_changed_since_it_was_listed_never_enters_the_cache_under_its_old_digest(samples, backbone, store):
    Path(samples[0].path).write_bytes(Path(samples[1].path).read_bytes())
    features = extract(samples, backbone, store)
    assert [problem.path for problem in features.skipped] == [samples[0].path]
    assert "changed" in features.skipped[0].reason
    assert store.find(space_of(backbone), [samples[0].digest]) == {}


@pytest.mark.parametrize("gain", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_and_not_kept(tmp_path, samples, store, gain):
    broken = make_backbone(tmp_path / "graphs", name="broken", gain=gain)
    with pytest.raises(ModelError, match="broken must give finite features"):
        extract(samples, broken, store)
    assert store.find(space_of(broken), [sample.digest for sample in samples]) == {}


def test_what_decides_a_vector_decides_its_space(tmp_path, backbone):
    spec = backbone.preprocess
    others = [
        backbone,
        make_backbone(tmp_path / "graphs", name="other", seed=1),
        replace(backbone, precision="int8"),
        *(
            replace(backbone, preprocess=replace(spec, **change))
            for change in (
                {"width": 17},
                {"height": 17},
                {"fit": "crop"},
                {"interpolation": "bicubic"},
                {"mean": (1.0, 1.0, 1.0)},
                {"std": (1.0, 1.0, 1.0)},
            )
        ),
    ]
    digests = [space_of(other).digest for other in others] + [space_of(backbone, "cuda").digest]
    assert len(set(digests)) == len(digests)
    assert space_of(replace(backbone, path=Path("moved.onnx"), name="renamed")).digest == digests[0]


def test_another_preprocessing_never_takes_the_first_ones_rows(samples, backbone, store):
    extract(samples, backbone, store)
    cropped = replace(backbone, preprocess=replace(backbone.preprocess, interpolation="bicubic"))
    features = extract(samples, cropped, store)
    assert (features.hits, features.misses) == (0, 40)
    assert not np.array_equal(features.matrix, extract(samples, backbone, store).matrix)


# ── Kills and neighbours ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_killed_extraction_loses_only_batches_in_flight_and_resumes_to_the_same_bytes(tmp_path, backbone):
    samples = make_samples(make_photos(tmp_path / "photos", ["left", "right"], 64, size=24))
    undisturbed = fresh(tmp_path, "undisturbed", samples, backbone)
    child = start(tmp_path, pause=0.2)
    told = [int(child.stdout.readline().split()[0]) for _ in range(2)]
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    with open_store(tmp_path / "cache") as store:
        kept = len(store.find(space_of(backbone), [sample.digest for sample in samples]))
        assert told[1] <= kept < len(samples)
        assert store.verify() == (kept, 0)
        resumed = extract(samples, backbone, store)
    assert (resumed.hits, resumed.misses) == (kept, len(samples) - kept)
    assert resumed.matrix.tobytes() == undisturbed.matrix.tobytes()


def test_processes_that_start_at_once_on_a_new_cache_share_it(tmp_path, samples, backbone):
    undisturbed = fresh(tmp_path, "undisturbed", samples, backbone)
    for child in [start(tmp_path, pause=0.01) for _ in range(2)]:
        _, words = child.communicate(timeout=60)
        assert child.returncode == 0, words
    with FeatureStore(tmp_path / "cache") as store:
        assert store.verify() == (40, 0)
        assert len(store.summary()) == 1
        shared = extract(samples, backbone, store)
    assert (shared.hits, shared.misses) == (40, 0)
    assert shared.matrix.tobytes() == undisturbed.matrix.tobytes()


def test_many_may_open_a_new_cache_at_the_same_moment(tmp_path, backbone):
    space, vector = space_of(backbone), np.ones(8, np.float32)

    def add(number: int) -> None:
        with FeatureStore(tmp_path) as store:
            store.add(space, {f"{number:064x}": vector})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(32)))
    with FeatureStore(tmp_path) as store:
        assert store.verify() == (32, 0)


def test_a_kill_in_the_middle_of_a_transaction_leaves_what_was_there_before(tmp_path, samples, backbone):
    whole = fresh(tmp_path, "cache", samples, backbone)
    code = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE features SET vector = zeroblob(32), checksum = 0")
db.execute("UPDATE spaces SET label = 'lost'")
print("written", flush=True)
time.sleep(60)
"""
    path = tmp_path / "cache" / "features.sqlite"
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "written\n"
    child.kill()
    child.communicate()
    with FeatureStore(tmp_path / "cache") as store:
        assert store.verify() == (40, 0)
        assert "lost" not in store.summary()[0][0]
        assert extract(samples, backbone, store).matrix.tobytes() == whole.matrix.tobytes()


# ── Damage ───────────────────────────────────────────────────────────────────────────────────────────────────────────

DAMAGE = {
    "other byte": "CAST(substr(vector, 1, 4) || x'7f' || substr(vector, 6) AS BLOB)",
    "text": "CAST(x'ff7f80' AS TEXT)",
    "too short": "substr(vector, 1, 28)",
    "number": "3.5",
}


@pytest.mark.parametrize("vector", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_row_is_computed_again(samples, backbone, store, vector):
    whole = extract(samples, backbone, store)
    edit(store, f"UPDATE features SET vector = {vector} WHERE sample = ?", bytes.fromhex(samples[3].digest))
    assert len(store.find(space_of(backbone), [sample.digest for sample in samples])) == 39
    mended = extract(samples, backbone, store)
    assert (mended.hits, mended.misses) == (39, 1)
    assert mended.matrix.tobytes() == whole.matrix.tobytes()
    assert store.verify() == (40, 0)


@pytest.mark.parametrize("vector", DAMAGE.values(), ids=DAMAGE)
def test_verify_drops_damaged_rows_and_no_others(samples, backbone, store, vector):
    extract(samples, backbone, store)
    edit(store, f"UPDATE features SET vector = {vector} WHERE sample = ?", bytes.fromhex(samples[3].digest))
    assert store.verify() == (40, 1)
    assert store.verify() == (39, 0)
    assert extract(samples, backbone, store).misses == 1


def test_a_bit_that_flips_on_the_disk_is_noticed(tmp_path, samples, backbone):
    whole = fresh(tmp_path, "cache", samples, backbone)
    path = tmp_path / "cache" / "features.sqlite"
    contents = bytearray(path.read_bytes())
    contents[contents.index(whole.matrix[5].tobytes()) + 9] ^= 16
    path.write_bytes(contents)
    mended = fresh(tmp_path, "cache", samples, backbone)
    assert (mended.hits, mended.misses) == (39, 1)
    assert mended.matrix.tobytes() == whole.matrix.tobytes()


@pytest.mark.parametrize("keep", [100, 5000, None], ids=["a stump", "half a file", "other contents"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, samples, backbone, keep):
    fresh(tmp_path, "cache", samples, backbone)
    path = tmp_path / "cache" / "features.sqlite"
    contents = path.read_bytes()
    path.write_bytes(b"no database" * 999 if keep is None else contents[:keep])
    with pytest.raises(OutputError, match=r"features\.sqlite is damaged") as error:
        fresh(tmp_path, "cache", samples, backbone)
    assert "Delete it" in error.value.hint


def test_a_cache_of_another_layout_is_left_alone(tmp_path, samples, backbone):
    fresh(tmp_path, "cache", samples, backbone)
    with FeatureStore(tmp_path / "cache") as store:
        edit(store, "PRAGMA user_version = 99")
    with pytest.raises(OutputError, match="another version of tledge"):
        FeatureStore(tmp_path / "cache")


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be used"):
        FeatureStore(tmp_path / "missing")


# ── Room ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fill(store: FeatureStore, backbone: Backbone, count: int, dimension: int = 1024) -> list[str]:
    digests = [f"{number:064x}" for number in range(count)]
    space = replace(space_of(backbone), dimension=dimension)
    store.add(space, {digest: np.full(dimension, i, np.float32) for i, digest in enumerate(digests)})
    return digests


def test_prune_drops_the_least_recently_used_rows_and_frees_the_disk(tmp_path, backbone, store):
    digests = fill(store, backbone, 500)
    space = replace(space_of(backbone), dimension=1024)
    edit(store, "UPDATE features SET used = used - 86400")
    assert len(store.find(space, digests[200:300])) == 100
    before = sum(file.stat().st_size for file in store.path.parent.iterdir())
    assert store.prune(150 * 4096) == (350, 350 * 4096)
    kept = store.find(space, digests)
    assert len(kept) == 150
    assert set(digests[200:300]) <= set(kept)
    assert sum(file.stat().st_size for file in store.path.parent.iterdir()) < before / 2
    assert store.prune(150 * 4096) == (0, 0)
    assert store.prune(0) == (150, 150 * 4096)
    assert store.summary() == []


def test_a_full_disk_is_an_error_and_the_cache_stays_usable(samples, backbone, store):
    whole = extract(samples[:20], backbone, store)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages + 4}")  # SQLite then speaks as it does of a full disk
    with pytest.raises(OutputError, match="full") as error:
        fill(store, backbone, 100)
    assert "Make room" in error.value.hint
    assert store.verify() == (20, 0)
    store._db.execute("PRAGMA max_page_count = 1000000")
    features = extract(samples, backbone, store)
    assert (features.hits, features.misses) == (20, 20)
    assert features.matrix[:20].tobytes() == whole.matrix.tobytes()


def test_an_error_of_the_cache_stops_the_extraction(samples, backbone, store):
    extract(samples[:1], backbone, store)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutputError, match="full"):
        for seed in range(40):
            wide = replace(backbone, precision="int8", digest=f"{seed:064x}")
            extract(samples, wide, store)
