from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photos

from tledge import data
from tledge.data import folds
from tledge.data.sources.contents import is_picture
from tledge.data.split import draw_test_digests
from tledge.errors import DataError
from tledge.schema import Problem, Sample, SampleCounts

PNG = b"\x89PNG\r\n\x1a\n"


def put(root: Path, *names: str) -> Path:
    """Write a file that passes for a picture, its content its own name, at each name below `root`."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG + os.fsencode(name))
    return root


def put_classes(root: Path, *classes: str, count: int = 5) -> Path:
    return put(root, *(f"{name}/{number:03}.png" for name in classes for number in range(count)))


def names(samples: tuple[Sample, ...], root: Path) -> list[str]:
    return [str(Path(sample.path).relative_to(root)) for sample in samples]


def everything(dataset) -> set[Sample]:
    return {*dataset.train, *dataset.val, *dataset.test}


# ── Layouts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_real_pictures_become_a_dataset(tmp_path):
    found = data.load(make_photos(tmp_path / "photos", ["dog", "cat"], 5))
    assert found.classes == ("cat", "dog")
    assert (len(found.train), len(found.val), len(found.test)) == (8, 0, 2)
    assert not found.skipped and not found.conflicts
    assert all(Path(sample.path).parent.name == found.classes[sample.label] for sample in everything(found))


def test_classes_are_recursive_sorted_and_in_a_fixed_order(tmp_path):
    put(
        tmp_path, "b/deep/er/1.png", "b/2.png", "B/1.png", "B/2.png", "a10/1.png", "a10/x/2.png", "a2/1.png", "a2/2.png"
    )
    found = data.load(tmp_path)
    assert found.classes == ("B", "a10", "a2", "b")
    assert names(found.train, tmp_path) == sorted(names(found.train, tmp_path))
    assert len(everything(found)) == 8


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "val", "test"), (4, 4, 4)),
        (("Training", "Testing"), (4, 0, 4)),
        (("train", "validation", "test"), (4, 4, 4)),
        (("train", "valid"), (4, 0, 4)),
        (("TRAIN",), (2, 0, 2)),
    ],
)
def test_splits_are_taken_as_they_are_found(tmp_path, folders, expected):
    for folder in folders:
        put_classes(tmp_path, f"{folder}/cat", f"{folder}/dog", count=2)
    found = data.load(tmp_path)
    assert found.classes == ("cat", "dog")
    assert (len(found.train), len(found.val), len(found.test)) == expected


def test_a_class_may_be_missing_in_a_held_out_split(tmp_path):
    put(tmp_path, "train/cat/1.png", "train/dog/2.png", "test/cat/3.png")
    assert names(data.load(tmp_path).test, tmp_path) == ["test/cat/3.png"]


def test_a_class_that_is_not_trained_on_is_an_error_that_names_it(tmp_path):
    put(tmp_path, "train/cat/1.png", "train/dog/2.png", "test/cow/3.png", "test/cat/4.png")
    with pytest.raises(DataError, match=r"unknown classes: 'cow'. Known are 'cat', 'dog'"):
        data.load(tmp_path)


def test_other_folders_beside_splits_are_listed(tmp_path):
    put(tmp_path, "train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "drafts/cat/4.png")
    assert data.load(tmp_path).skipped == (Problem(str(tmp_path / "drafts"), "neither train, val nor test"),)


def test_a_class_may_be_called_train(tmp_path):
    assert data.load(put_classes(tmp_path, "car", "plane", "train")).classes == ("car", "plane", "train")


@pytest.mark.parametrize("extra", ["test/cat/1.png", "test/1.png", "val/dog/1.png"])
def test_classes_beside_splits_are_refused(tmp_path, extra):
    put(put_classes(tmp_path, "cat", "dog"), extra)
    with pytest.raises(DataError, match="side by side"):
        data.load(tmp_path)


def test_unlabelled_test_pictures_do_not_become_a_test_set(tmp_path):
    put(put_classes(tmp_path, "train/cat", "train/dog"), "test/1.png")
    found = data.load(tmp_path)
    assert len(found.test) == 2
    assert found.skipped == (Problem(str(tmp_path / "test/1.png"), "in no class folder"),)


# ── Files that are left out ──────────────────────────────────────────────────────────────────────────────────────────


def test_every_file_that_is_no_picture_is_listed_with_its_reason(tmp_path):
    put_classes(tmp_path, "cat", "dog")
    put(tmp_path, "loose.png")
    (tmp_path / "cat/notes.jpg").write_bytes(b"just text")
    (tmp_path / "dog/empty.png").touch()
    (tmp_path / "dog/gone.png").symlink_to("nowhere")
    (tmp_path / "dog/self.png").symlink_to("self.png")
    (tmp_path / "none/below").mkdir(parents=True)
    os.mkfifo(tmp_path / "dog/pipe")
    found = data.load(tmp_path)
    assert {str(Path(p.path).relative_to(tmp_path)): p.reason for p in found.skipped} == {
        "cat/notes.jpg": "not a picture, a sound or a text",
        "dog/empty.png": "empty file (0 bytes)",
        "dog/gone.png": "broken link",
        "dog/pipe": "not a regular file",
        "dog/self.png": "cannot be read (Too many levels of symbolic links)",
        "loose.png": "in no class folder",
        "none": "class folder without a usable sample",
    }
    assert found.classes == ("cat", "dog") and len(everything(found)) == 10


def test_hidden_files_are_passed_over_in_silence(tmp_path):
    put_classes(tmp_path, "cat", "dog")
    plain = data.load(tmp_path)
    put(
        tmp_path, ".git/x.png", "__MACOSX/cat/x.png", "cat/.hidden.png", "dog/Thumbs.db", "dog/desktop.ini", ".DS_Store"
    )
    put(tmp_path, "cat/__MACOSX/x.png", "cat/.cache/x.png")
    assert data.load(tmp_path) == plain


def test_contents_decide_and_not_names(tmp_path):
    put_classes(tmp_path, "cat", "dog")
    put(tmp_path, "cat/no extension", "cat/wrong.txt")
    assert len(everything(data.load(tmp_path))) == 12


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF"])
def test_every_format_that_is_decoded_is_known(tmp_path, kind):
    from PIL import Image

    from tledge.decode import FORMATS

    assert kind in FORMATS and len(FORMATS) == 6
    for mode in ("RGB", "L", "1"):
        Image.new(mode, (9, 7)).save(tmp_path / "x", kind)
        assert is_picture((tmp_path / "x").read_bytes()[:18])


@pytest.mark.parametrize(
    "head", [b"", b"B", b"BM", b"BMW is a car, no picture", b"RIFF\0\0\0\0WAVE", b"II", b"\xff\xd8", b"8BPS"]
)
def test_other_contents_are_no_pictures(head):
    assert not is_picture(head)


def test_odd_names_work(tmp_path):
    odd = ["a b/ leading.png", "a b/new\nline.png", "-r/--force.png", "-r/2.png", "été/雪.png", "été/'\"$(x)*.png"]
    put(tmp_path, *odd, os.fsdecode(b"\xff\xfe/1\xe9.png"), os.fsdecode(b"\xff\xfe/2.png"))
    found = data.load(tmp_path)
    assert found.classes == ("-r", "a b", "été", os.fsdecode(b"\xff\xfe"))
    assert len(everything(found)) == 8 and not found.skipped
    assert all(Path(sample.path).is_file() for sample in everything(found))


def test_links_in_a_circle_come_to_an_end(tmp_path):
    put_classes(tmp_path, "cat", "dog")
    (tmp_path / "cat/up").symlink_to("..")
    (tmp_path / "cat/again").symlink_to(".")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = data.load(tmp_path)
    assert found.classes == ("cat", "dog") and len(everything(found)) == 10
    links = [Path(p.path).name for p in found.skipped if p.reason == "link to a folder that was read already"]
    assert sorted(links) == ["again", "loop", "up"]


def test_linked_files_and_folders_are_read(tmp_path):
    put_classes(tmp_path / "store", "one", "two")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/cat").symlink_to(tmp_path / "store/one")
    (tmp_path / "set/dog").mkdir()
    for number in range(5):
        (tmp_path / f"set/dog/{number}.png").symlink_to(tmp_path / f"store/two/00{number}.png")
    assert len(everything(data.load(tmp_path / "set"))) == 10


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no pictures"),
        ([".hidden/x.png"], "holds no pictures"),
        (["1.png", "2.png"], "holds samples but no class folders"),
        (["train/1.png", "test/2.png"], "holds samples but no class folders"),
        (["cat/1.png", "cat/2.png"], "At least 2 classes are needed; .* holds 1: 'cat'"),
        (["test/cat/1.png", "test/dog/1.png"], "holds nothing to train on"),
        (
            ["cat/1.png", "dog/1.png", "dog/2.png"],
            "Class 'cat' has 1 sample; at least 2 are needed: one to train on and",
        ),
    ],
)
def test_what_is_missing_is_said(tmp_path, files, message):
    put(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        data.load(tmp_path)


def test_a_path_that_is_no_folder_is_an_error(tmp_path):
    put(tmp_path, "x.png")
    for path, message in [
        (tmp_path / "none", "Data not found at .*No such file"),
        (tmp_path / "x.png", "must be a folder"),
        ("nul\0byte", "Data not found"),
        (tmp_path / ("x" * 300), "Data not found at .*too long"),
    ]:
        with pytest.raises(DataError, match=message):
            data.load(path)


def test_only_unusable_files_are_an_error_that_names_one(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"no usable sample \(.*a\.png: not a picture, a sound or a text\)"):
        data.load(tmp_path)


def test_equal_files_count_once_when_a_split_is_drawn(tmp_path):
    put_classes(tmp_path, "cat", "dog")
    shutil.rmtree(tmp_path / "cat")
    for name in ("1", "2"):
        (tmp_path / "cat").mkdir(exist_ok=True)
        (tmp_path / "cat" / name).write_bytes(PNG)
    with pytest.raises(DataError, match="Class 'cat' has 1 sample"):
        data.load(tmp_path)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, float("nan")])
def test_a_fraction_outside_of_0_to_1_is_refused(tmp_path, fraction):
    with pytest.raises(DataError, match="between 0 and 1"):
        data.load(put_classes(tmp_path, "cat", "dog"), test_fraction=fraction)


def test_strict_names_the_first_problem_and_counts_the_rest(tmp_path):
    put_classes(tmp_path, "cat", "dog")
    data.load(tmp_path, strict=True)
    for number in range(3):
        (tmp_path / f"cat/{number}.txt").write_bytes(b"text")
    with pytest.raises(DataError, match=r"cat/0\.txt: a text among pictures \(and 2 more\)"):
        data.load(tmp_path, strict=True)


# ── Conflicts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_picture_under_two_labels_is_reported_and_never_tested_on(tmp_path):
    put_classes(tmp_path, "cat", "dog", count=10)
    for number in range(8):
        shutil.copy(tmp_path / f"cat/00{number}.png", tmp_path / f"dog/copy{number}.png")
    found = data.load(tmp_path)
    assert len(found.conflicts) == 16
    assert not {problem.path for problem in found.conflicts} & {sample.path for sample in found.test}
    assert (len(found.train), len(found.test)) == (25, 3)  # of 2 clean cats 1, of 10 clean dogs 2
    first = next(problem for problem in found.conflicts if problem.path == str(tmp_path / "cat/000.png"))
    assert first.reason == f"labelled 'cat', but the same picture is labelled 'dog' at {tmp_path / 'dog/copy0.png'}"
    with pytest.raises(DataError, match="labelled 'cat', but"):
        data.load(tmp_path, strict=True)


def test_a_test_picture_that_is_trained_on_is_reported_and_kept(tmp_path):
    put_classes(tmp_path, "train/cat", "train/dog", "test/cat", count=2)
    shutil.copy(tmp_path / "train/cat/000.png", tmp_path / "test/cat/copy.png")
    found = data.load(tmp_path)
    reason = f"held out, but the same picture is in the training data at {tmp_path / 'train/cat/000.png'}"
    assert found.conflicts == (Problem(str(tmp_path / "test/cat/copy.png"), reason),)
    assert len(found.test) == 3


# ── Test data of its own ─────────────────────────────────────────────────────────────────────────────────────────────


def test_test_data_is_the_test_set_in_full(tmp_path):
    train, test = put_classes(tmp_path / "a", "cat", "dog"), put(tmp_path / "b", "dog/1.png", "dog/bad.png")
    (test / "dog/bad.png").write_bytes(b"text")
    found = data.load(train, test_data=test)
    assert names(found.test, test) == ["dog/1.png"] and found.test[0].label == 1
    assert len(found.train) == 10
    assert found.skipped == (Problem(str(test / "dog/bad.png"), "not a picture, a sound or a text"),)
    with pytest.raises(DataError, match="unknown classes: 'dog'"):
        data.load(put_classes(tmp_path / "c", "cow", "cat"), test_data=test)


def test_test_data_takes_the_place_of_the_test_split(tmp_path):
    put_classes(tmp_path / "a", *(f"{split}/{name}" for split in ("train", "val", "test") for name in ("cat", "dog")))
    other = put_classes(tmp_path / "b", "cat", "dog", count=1)
    found = data.load(tmp_path / "a", test_data=other)
    assert (len(found.train), len(found.val), len(found.test)) == (10, 10, 2)
    assert found.skipped == (Problem(str(tmp_path / "a"), "its 10 test samples are unused: other test data was given"),)


def test_one_picture_per_class_will_do_when_nothing_need_be_drawn(tmp_path):
    train, test = put_classes(tmp_path / "a", "cat", "dog", count=1), put_classes(tmp_path / "b", "cat", count=1)
    assert len(data.load(train, test_data=test).train) == 2


def test_labelled_pictures_take_the_numbers_of_given_classes(tmp_path):
    samples, skipped = data.load_labelled(put(tmp_path, "dog/1.png", "cat/2.png", "note.txt"), ["dog", "cow", "cat"])
    assert [(Path(sample.path).name, sample.label) for sample in samples] == [("2.png", 2), ("1.png", 0)]
    assert [problem.reason for problem in skipped] == ["in no class folder"]
    with pytest.raises(DataError, match="unknown classes: 'cat'"):
        data.load_labelled(tmp_path, ["dog"])


@pytest.mark.parametrize(
    ("folders", "taken"), [(("train", "val", "test"), "test"), (("train", "val"), "val"), (("test",), "test")]
)
def test_labelled_pictures_of_a_folder_with_splits_are_its_held_out_ones(tmp_path, folders, taken):
    put(tmp_path, *(f"{folder}/cat/{folder}.png" for folder in folders))
    samples, _ = data.load_labelled(tmp_path, ["cat"])
    assert [Path(sample.path).stem for sample in samples] == [taken]


def test_a_lone_train_folder_is_not_evaluated_by_accident(tmp_path):
    with pytest.raises(DataError, match="nothing to test on"):
        data.load_labelled(put(tmp_path, "train/cat/1.png"), ["cat"])


# ── Drawing the split ────────────────────────────────────────────────────────────────────────────────────────────────


def sample_set(count: int, label: int = 0, start: int = 0) -> list[Sample]:
    rng = random.Random(label)
    digests = [rng.randbytes(32).hex() for _ in range(start + count)]
    return [Sample(f"{label}/{number}", label, digest) for number, digest in enumerate(digests[start:])]


def draw(samples: list[Sample], fraction: float = 0.2, seed: int = 0) -> set[str]:
    return draw_test_digests(samples, ("a", "b", "c")[: 1 + max(s.label for s in samples)], fraction, seed)


@pytest.mark.parametrize("fraction", [0.01, 0.2, 1 / 3, 0.5, 0.99])
def test_the_split_is_exactly_stratified(fraction):
    counts = (2, 37, 500)
    samples = [sample for label, count in enumerate(counts) for sample in sample_set(count, label)]
    drawn = draw(samples, fraction)
    for label, count in enumerate(counts):
        found = sum(sample.digest in drawn for sample in samples if sample.label == label)
        assert found == min(max(1, round(fraction * count)), count - 1)


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.7])
def test_one_more_picture_moves_at_most_one_other(fraction):
    samples = sample_set(120)
    for count in range(2, 120):
        before, after = draw(samples[:count], fraction), draw(samples[: count + 1], fraction)
        assert len((before ^ after) - {samples[count].digest}) <= 1


def test_the_seed_decides_and_the_order_does_not():
    samples = sample_set(200)
    shuffled = random.Random(1).sample(samples, len(samples))
    assert draw(samples) == draw(shuffled)
    assert draw(samples) != draw(samples, seed=1)


def test_the_split_is_that_of_earlier_versions():
    # Runs of other versions stay comparable: a change of these digests is a change of every held-out set.
    samples = [Sample("", 0, f"{number:064x}") for number in range(10)]
    assert sorted(int(digest, 16) for digest in draw(samples, 0.3, seed=7)) == [3, 6, 9]


# ── Groups and several labels ────────────────────────────────────────────────────────────────────────────────────────


def grouped_set(sizes: list[int], classes: int = 2, mixed: bool = False) -> list[Sample]:
    """Return groups of the given sizes, each of one label in turn, or `mixed` of all."""
    rng = random.Random(5)
    return [
        Sample(f"{group}/{number}", (group + number * mixed) % classes, rng.randbytes(32).hex(), (), f"g{group}")
        for group, size in enumerate(sizes)
        for number in range(size)
    ]


def multilabel_set(count: int, shares: tuple[float, ...]) -> list[Sample]:
    rng = random.Random(3)
    found = []
    for number in range(count):
        labels = tuple(label for label, share in enumerate(shares) if rng.random() < share)
        found.append(Sample(str(number), labels[0] if labels else -1, rng.randbytes(32).hex(), labels))
    return found


def sides(samples: list[Sample], drawn: set[str]) -> tuple[list[Sample], list[Sample]]:
    return [s for s in samples if s.digest not in drawn], [s for s in samples if s.digest in drawn]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("sizes", [[10] * 20, [3, 5, 8, 13, 21, 34, 55, 9, 9, 9, 9, 30], [40, 2, 2, 2], [1] * 50])
def test_groups_are_drawn_whole_and_every_class_is_on_both_sides(sizes, mixed):
    samples = grouped_set(sizes, mixed=mixed)
    for seed in range(20):
        train, test = sides(samples, draw(samples, 0.25, seed))
        assert not {s.group for s in train} & {s.group for s in test}
        assert {s.label for s in train} == {s.label for s in test} == {0, 1}
        assert abs(len(test) - 0.25 * len(samples)) <= max(sizes) + 1


def test_the_draw_of_groups_follows_seed_and_contents_but_not_order():
    samples = grouped_set([4, 6, 5, 3, 7, 5, 6, 4, 5, 5] * 2)
    shuffled = random.Random(1).sample(samples, len(samples))
    assert draw(samples) == draw(shuffled)
    assert len({frozenset(draw(samples, seed=seed)) for seed in range(10)}) > 5


def test_equal_contents_tie_groups_together():
    samples = grouped_set([5] * 8)
    samples += [replace(samples[0], path="copy", group="g2")]
    for seed in range(10):
        train, _ = sides(samples, draw(samples, 0.4, seed))
        assert ({"g0", "g2"} <= {s.group for s in train}) or not {"g0", "g2"} & {s.group for s in train}


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (grouped_set([5, 5, 5]), "Class 'b' has 1 group; at least 2 are needed"),
        (
            # a stands in g0 and g1, b in g1 and g2, c in g0 and g2: whichever is drawn alone lacks a class
            [
                Sample("", label, f"{n}", (), f"g{g}")
                for n, (label, g) in enumerate(zip([0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 0, 2], strict=True))
            ],
            "Found no way to have each class on both sides with whole groups: none of '[abc]' is left",
        ),
    ],
)
def test_groups_that_cannot_be_parted_are_an_error(samples, message):
    with pytest.raises(DataError, match=message):
        draw(samples)


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.2), (0.9, 0.05, 0.02), (0.3, 0.01, 0.3)])
def test_the_split_of_a_multilabel_set_keeps_the_share_of_each_label(shares):
    samples = multilabel_set(600, shares)
    names = ("a", "b", "c")
    for seed in range(5):
        drawn = draw_test_digests(samples, names, 0.2, seed)
        for label in (-1, 0, 1, 2):
            have = [s for s in samples if label in (s.labels or (-1,))]
            wanted = max(1, round(0.2 * len(have)))
            assert abs(sum(s.digest in drawn for s in have) - wanted) <= 2, (label, len(have))
    assert draw_test_digests(samples[::-1], names, 0.2, 0) == draw_test_digests(samples, names, 0.2, 0)


def test_a_label_that_one_sample_has_cannot_be_parted():
    samples = [*multilabel_set(20, (0.5, 0.5)), Sample("x", 2, "0", (2,))]
    with pytest.raises(DataError, match="Class 'c' has 1 sample"):
        draw_test_digests(samples, ("a", "b", "c"), 0.2, 0)


def test_a_pattern_groups_by_the_path_below_the_folder(tmp_path):
    root = put(tmp_path / "p77_set", *(f"{'cat' if p % 2 else 'dog'}/p{p}_{n}.png" for p in range(8) for n in range(3)))
    for group_by in (r"p(\d+)_\d", r"p\d+(?=_\d)"):
        found = data.load(root, group_by=group_by, test_fraction=0.25)
        assert {sample.group.strip("p") for sample in everything(found)} == set("01234567")
        assert not {s.group for s in found.train} & {s.group for s in found.test}
        assert len(found.test) == 6
    root.rename(tmp_path / "moved")
    assert data.load(tmp_path / "moved", group_by=r"p(\d+)_\d", test_fraction=0.25).fingerprint == found.fingerprint


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "no regular expression"),
        ("q", r"'q' finds nothing in 'cat/"),
        ("(q)?", "finds nothing"),
        ("", "finds not"),
    ],
)
def test_a_pattern_that_names_no_group_is_an_error(tmp_path, pattern, message):
    with pytest.raises(DataError, match=message):
        data.load(put_classes(tmp_path, "cat", "dog"), group_by=pattern)


# ── Folds ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [2, 5, 10])
def test_folds_are_stratified(count):
    samples = [sample for label, size in enumerate((13, 50, 101)) for sample in sample_set(size, label)]
    found = folds.assign(samples, count, 0)
    assert found.dtype == np.int64 and set(found) == set(range(count))
    for label in range(3):
        each = np.bincount([fold for fold, s in zip(found, samples, strict=True) if s.label == label], minlength=count)
        assert np.ptp(each) <= 1
    assert np.ptp(np.bincount(found)) <= 1


def test_folds_follow_contents_and_seed_and_keep_what_belongs_together():
    samples = [*grouped_set([4, 6, 5, 3, 7, 5, 6, 4]), *sample_set(30), *sample_set(30)]
    found = folds.assign(samples, 4, 0)
    order = random.Random(1).sample(range(len(samples)), len(samples))
    assert np.array_equal(folds.assign([samples[i] for i in order], 4, 0), found[order])
    assert not np.array_equal(folds.assign(samples, 4, 1), found)
    for key in ("group", "digest"):
        homes = {(getattr(s, key), fold) for s, fold in zip(samples, found, strict=True) if getattr(s, key)}
        assert len(homes) == len({name for name, _ in homes})


def test_folds_of_a_multilabel_set_share_each_label():
    samples = multilabel_set(500, (0.5, 0.1, 0.04))
    found = folds.assign(samples, 5, 0)
    for label in range(3):
        each = np.bincount([f for f, s in zip(found, samples, strict=True) if label in s.labels], minlength=5)
        assert np.ptp(each) <= 2


@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_number_of_folds_that_cannot_be_is_an_error(count):
    samples = grouped_set([4] * 8)
    assert folds.most(samples) == 8 and set(folds.assign(samples, 8, 0)) == set(range(8))
    with pytest.raises(DataError, match=f"between 2 and the 8 different groups; found {count}"):
        folds.assign(samples, count, 0)


# ── Class counts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_set_holds_is_said(tmp_path):
    put_classes(tmp_path, "train/cat", "test/cat", count=9)
    found = data.load(put_classes(tmp_path, "train/dog", "val/dog", "test/dog", count=2))
    assert data.class_counts(found) == {"cat": SampleCounts(9, 0, 9), "dog": SampleCounts(2, 2, 2)}
    assert data.imbalance(found) == 4.5
    assert data.describe(found) == [
        "2 classes (11 train, 2 val, 11 test)",
        "cat: 9 train, 9 held out",
        "dog: 2 train, 4 held out",
        "uneven: 4.5 times as many samples of 'cat' as of 'dog' to train on",
    ]


# ── Fingerprint ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_split_and_fingerprint_follow_contents_through_renames_and_moves(tmp_path):
    root = put_classes(tmp_path / "one", "cat", "dog", count=20)
    before = data.load(root)
    paths = sorted(root.rglob("*.png"))
    random.Random(0).shuffle(paths)
    for number, path in enumerate(paths):
        target = tmp_path / "two" / path.parent.name / f"sub{number % 3}" / f"{number}.jpeg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
    after = data.load(tmp_path / "two")
    assert {s.digest for s in after.test} == {s.digest for s in before.test}
    assert after.fingerprint == before.fingerprint


def test_the_fingerprint_tells_contents_labels_splits_and_class_names_apart(tmp_path):
    dataset = data.load(put_classes(tmp_path, "cat", "dog"))
    first = dataset.train[0]
    variants = [
        replace(dataset, classes=("cat", "cow")),
        replace(dataset, train=dataset.train[1:]),
        replace(dataset, train=(replace(first, digest="0"), *dataset.train[1:])),
        replace(dataset, train=(replace(first, label=1), *dataset.train[1:])),
        replace(dataset, train=dataset.train[1:], val=(first,)),
        replace(dataset, train=(*dataset.train, first)),
    ]
    assert len({data.stamp(variant).fingerprint for variant in [dataset, *variants]}) == 7
    moved = replace(dataset, train=tuple(replace(sample, path="x") for sample in reversed(dataset.train)))
    assert data.stamp(moved).fingerprint == dataset.fingerprint


# ── Drop ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dropped_samples_are_gone_and_listed(tmp_path):
    dataset = data.load(put_classes(tmp_path, "cat", "dog"))
    bad = Problem(dataset.train[0].path, "damaged")
    found = data.drop(dataset, [bad])
    assert found.train == dataset.train[1:] and found.test == dataset.test
    assert found.skipped == (bad,) and found.fingerprint != dataset.fingerprint
    assert data.drop(dataset, []) == dataset
    with pytest.raises(DataError, match="damaged"):
        data.drop(dataset, [bad], strict=True)


def test_dropping_too_many_is_an_error(tmp_path):
    dataset = data.load(put_classes(tmp_path, "cat", "dog"))
    dogs = [Problem(sample.path, "damaged") for sample in dataset.train if sample.label == 1]
    with pytest.raises(DataError, match=r"no sample of 'dog' is left to train on\. .*damaged \(and 3 more\)"):
        data.drop(dataset, dogs)
    with pytest.raises(DataError, match="no test sample is left"):
        data.drop(dataset, [Problem(sample.path, "damaged") for sample in dataset.test])
