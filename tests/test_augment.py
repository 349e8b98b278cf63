"""Augmented views: named, seeded, of the picture's size, and the same wherever they are made."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import draw_photo

from tledge import augment
from tledge.errors import TledgeError

DIGEST = hashlib.sha256(b"a picture").hexdigest()
CHANCE = ("light", "rand")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return draw_photo(1, np.random.default_rng(5), 64)[:48]  # not square


def test_flips_are_the_other_symmetries_of_a_rectangle(picture):
    made = [augment.apply(view, DIGEST, picture) for view in augment.views("flips", 3, seed=7)]
    for found, expected in zip(made, (picture[:, ::-1], picture[::-1], picture[::-1, ::-1]), strict=True):
        np.testing.assert_array_equal(found, expected)
    (flip,) = augment.views("flip", 1, seed=7)
    np.testing.assert_array_equal(augment.apply(flip, DIGEST, picture), picture[:, ::-1])


def test_where_chance_plays_no_part_all_seeds_share_their_views():
    assert augment.views("flips", 2, seed=7) == augment.views("flips", 2, seed=8) == ("flips/0/1", "flips/0/2")
    assert augment.views("light", 2, seed=7) == ("light/7/1", "light/7/2")


@pytest.mark.parametrize("name", augment.names("image"))
def test_index_0_is_the_picture_itself(name, picture):
    np.testing.assert_array_equal(augment.apply(f"{name}/0/0", DIGEST, picture), picture)


@pytest.mark.parametrize("name", CHANCE)
def test_view_follows_from_its_word_and_the_digest(name, picture):
    first, second = augment.views(name, 2, seed=3)
    once = augment.apply(first, DIGEST, picture)
    assert once.dtype == np.uint8
    assert once.shape == picture.shape
    np.testing.assert_array_equal(once, augment.apply(first, DIGEST, picture.copy()))
    others = [(second, DIGEST), (augment.views(name, 1, seed=4)[0], DIGEST), (first, DIGEST[::-1])]
    assert all((augment.apply(view, digest, picture) != once).any() for view, digest in others)


@pytest.mark.parametrize("name", CHANCE)
def test_threads_do_not_disturb_each_other(name, picture):
    views = augment.views(name, 40, seed=0)
    alone = [augment.apply(view, DIGEST, picture) for view in views]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda view: augment.apply(view, DIGEST, picture), views))
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("name", CHANCE)
def test_views_still_show_the_picture(name, picture):
    """Of many views none is blank, and the mean one is nearer to the picture or its mirror image than grey is."""
    made = np.stack([augment.apply(view, DIGEST, picture) for view in augment.views(name, 60, seed=1)])
    assert made.std(axis=(1, 2, 3)).min() > 5
    symmetric = (picture.astype(float) + picture[:, ::-1]) / 2
    assert np.abs(made.mean(axis=0) - symmetric).mean() < np.abs(symmetric - symmetric.mean()).mean()


def test_light_views_shift_zoom_and_change_the_light(picture):
    flat = np.full((40, 60, 3), 100, np.uint8)
    means = [augment.apply(view, DIGEST, flat)[10:30, 10:50].mean() for view in augment.views("light", 30, seed=0)]
    assert min(means) < 90
    assert max(means) > 110


def test_every_random_operation_keeps_the_size(picture):
    """Sixty pairs of fourteen operations: none is left out."""
    for view in augment.views("rand", 60, seed=9):
        assert augment.apply(view, DIGEST, picture).shape == picture.shape


def test_a_picture_of_one_pixel_is_a_picture():
    dot = np.full((1, 1, 3), 9, np.uint8)
    for view in (*augment.views("rand", 30, seed=0), *augment.views("light", 5, seed=0)):
        assert augment.apply(view, DIGEST, dot).shape == (1, 1, 3)


def test_source_is_left_alone(picture):
    before = picture.copy()
    picture.flags.writeable = False
    for name in augment.names("image"):
        augment.apply(f"{name}/0/1", DIGEST, picture)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [("flipz", 1, "flip"), ("flips", 4, "3"), ("flip", 2, "1 view"), ("rand", 0, "1 or more")],
)
def test_what_cannot_be_is_said(name, count, words):
    with pytest.raises(TledgeError) as caught:
        augment.views(name, count, seed=0)
    assert words in str(caught.value)


@pytest.mark.parametrize("view", ["flips", "flips/0", "flips/0/x", "nonsense/0/1"])
def test_only_words_that_views_gives_are_understood(view, picture):
    with pytest.raises(TledgeError):
        augment.apply(view, DIGEST, picture)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)])
def test_other_arrays_are_a_type_error(image):
    with pytest.raises(TypeError, match="uint8"):
        augment.apply("flip/0/1", DIGEST, image)
