"""Pictures of answers: what has to be seen is there, and nothing odd breaks them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgevit.runtime.tasks.answers import Depth, Detections, Poses, Segmentation
from edgevit.runtime.tasks.draw import choose_colour, draw_answer, name_class

GREY = (90, 90, 90)


def make_image(height: int = 200, width: int = 300) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def has_colour(picture: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(picture) == colour).all(axis=2).any())


def test_depth_rises_in_one_ramp_beside_its_scale() -> None:
    depth = np.tile(np.linspace(1, 9, 300, dtype=np.float32), (200, 1))
    depth[:10] = np.nan
    picture = np.asarray(draw_answer(make_image(), Depth(depth, metric=True)))
    assert picture.shape[0] == 200
    assert picture.shape[1] > 300
    assert (picture[:10, :300] == 128).all()
    row = picture[100, :300]
    assert len(np.unique(row, axis=0)) > 100
    assert row[0].tolist() == [48, 18, 59]
    assert row[-1].tolist() == [122, 4, 3]
    assert (picture[:, 310:] < 100).all(axis=2).any()  # the scale's text


def test_classes_are_coloured_and_none_is_left() -> None:
    classes = np.full((200, 300), -1, np.int32)
    classes[50:150, 100:200] = 7
    picture = draw_answer(make_image(), Segmentation(classes))
    assert picture.getpixel((5, 5)) == GREY
    mixed = [round(0.45 * 90 + 0.55 * side) for side in choose_colour(7)]
    assert np.abs(np.array(picture.getpixel((150, 100))) - mixed).max() <= 1
    assert has_colour(picture, choose_colour(7))  # in the legend


def test_boxes_are_drawn_where_they_are_even_outside_the_image() -> None:
    boxes = np.array([[20, 30, 120, 130], [-50, -50, 1000, 1000], [280, 190, 250, 10]], np.float32)
    answer = Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 2], np.int32), ("a", "b", "c"))
    picture = draw_answer(make_image(), answer)
    assert picture.size == (300, 200)
    assert picture.getpixel((20, 100)) == choose_colour(0)
    assert picture.getpixel((60, 60)) == GREY
    assert picture.getpixel((250, 150)) == choose_colour(2)


def test_skeletons_leave_out_what_is_unsure() -> None:
    keypoints = np.array([[[50, 50, 0.9], [150, 50, 0.9], [150, 150, 0.1]]], np.float32)
    answer = Poses(
        keypoints, np.array([[10, 10, 290, 190]], np.float32), np.ones(1, np.float32), None, ((0, 1), (1, 2))
    )
    picture = draw_answer(make_image(), answer)
    assert picture.getpixel((100, 50)) == choose_colour(0)
    assert picture.getpixel((150, 100)) == GREY
    assert picture.getpixel((150, 150)) == GREY


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (900, 2)])
def test_extreme_images_are_drawn_too(size: tuple[int, int]) -> None:
    image, ones = make_image(*size), np.ones(1, np.float32)
    box = np.array([[0, 0, size[1], size[0]]], np.float32)
    draw_answer(image, Depth(np.zeros(size, np.float32)))
    draw_answer(image, Depth(np.full(size, np.nan, np.float32)))
    draw_answer(image, Segmentation(np.zeros(size, np.int32)))
    draw_answer(image, Segmentation(np.arange(size[0] * size[1], dtype=np.int32).reshape(size)))
    draw_answer(image, Detections(box, ones, np.zeros(1, np.int32)))
    draw_answer(image, Detections(box * 1e30, ones, np.zeros(1, np.int32), ("x" * 500,)))
    draw_answer(image, Poses(np.zeros((1, 2, 3), np.float32), box, ones))


def test_names_are_on_one_line_and_never_empty() -> None:
    assert name_class(("a\nb", ""), 0) == "a b"
    assert name_class(("a", ""), 1) == '""'
    assert name_class(("a",), 4) == "4"
    assert name_class(None, -1) == "none"
    assert len(name_class(("x" * 10**6,), 0)) < 100
