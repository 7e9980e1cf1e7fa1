"""Sets with labels for depth, segment, detect and pose: folders of maps, and COCO files."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from edgevit.core.errors import DataError, MissingPackageError
from edgevit.pixels.answered_set import read_answered
from edgevit.pixels.images import ImageSet
from edgevit.pixels.truths import NO_CLASS
from tests.support.photos import make_photo

SIZES = {"a.jpg": (20, 24), "sub/b.png": (16, 30), "c.png": (24, 20)}  # height, width


def make_images(folder: Path) -> None:
    for seed, (name, (height, width)) in enumerate(SIZES.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make_photo(height, width, seed).save(path)


def save_map(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Three images and their maps, whose values are 0, 1, 2 and 255 in 8 bits."""
    make_images(tmp_path / "images")
    for name, size in SIZES.items():
        values = np.tile(np.array([0, 1, 2, 255], np.uint8), (size[0], size[1] // 4 + 1))[:, : size[1]]
        save_map((tmp_path / "maps" / name).with_suffix(".png"), values)
    return tmp_path


def read(images: Any, index: int) -> Any:
    """What an image shows."""
    return images.truths.read(index)


def refuse(source: Path, task: Any, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        read_answered(source, task, **options).check()
    assert caught.value.hint
    return caught.value


# Folders of maps


def test_maps_of_classes_are_read_beside_their_images(maps: Path) -> None:
    images = read_answered(maps, "segment", classes=3).check()
    assert images.files == ("a.jpg", "c.png", "sub/b.png")
    assert images.root == maps / "images"
    assert (images.labelled, images.labels) == (True, None)
    assert read(images, 2).shape == (16, 30)
    assert read(images, 0)[0, :4].tolist() == [0, 1, 2, NO_CLASS]


def test_classes_can_begin_above_0_and_another_value_can_mean_nothing(maps: Path) -> None:
    (maps / "maps.toml").write_text("first_class = 1\nignored = 2\n")
    images = read_answered(maps, "segment", classes=255)
    assert read(images, 0)[0, :4].tolist() == [NO_CLASS, 0, NO_CLASS, 254]
    assert "no class of the model's 2: 255" in refuse(maps, "segment", classes=2).message


def test_a_palettes_indices_are_the_classes(maps: Path) -> None:
    picture = Image.fromarray(np.full(SIZES["a.jpg"], 2, np.uint8)).convert("P")
    picture.putpalette([9, 9, 9] * 256)
    picture.save(maps / "maps" / "a.png")
    assert (read(read_answered(maps, "segment"), 0) == np.asarray(picture)).all()


def test_distances_are_scaled_to_metres(maps: Path) -> None:
    save_map(maps / "maps" / "a.png", np.tile(np.array([0, 1000, 2500, 65535], np.uint16), (20, 6)))
    (maps / "maps" / "c.png").unlink()
    save_map(maps / "maps" / "c.npy", np.full((24, 20), 1.5, np.float64))
    (maps / "maps.toml").write_text("scale = 0.001\n")
    images = read_answered(maps, "depth").check()
    assert read(images, 0)[0, :4] == pytest.approx([0, 1, 2.5, 65.535])
    assert read(images, 0).dtype == np.float32
    (maps / "maps.toml").unlink()
    assert "how many metres a step" in refuse(maps, "depth").message
    for name in ("a.png", "sub/b.png"):
        (maps / "maps" / name).unlink()
        save_map((maps / "maps" / name).with_suffix(".npy"), np.full(SIZES[name.replace("a.png", "a.jpg")], np.inf))
    assert (read(read_answered(maps, "depth"), 1) == 1.5).all()  # metres already
    assert "a.jpg: its map a.npy has no distance" in refuse(maps, "depth").message


def test_everything_that_is_wrong_is_listed_at_once(maps: Path) -> None:
    make_photo(8, 8, 9).save(maps / "images" / "lonely.png")
    save_map(maps / "maps" / "orphan.png", np.zeros((4, 4), np.uint8))
    save_map(maps / "maps" / "c.npy", np.zeros((24, 20), np.uint8))  # the second of c.png
    save_map(maps / "maps" / "a.png", np.full((20, 23), 7, np.uint8))
    save_map(maps / "maps" / "sub" / "b.png", np.full((16, 30), 7, np.uint8))
    message = refuse(maps, "segment", classes=3).message
    assert "has 5 faults:" in message
    assert f"lonely.png: has no map in {maps / 'maps'}" in message
    assert "c.png: has the maps c.npy, c.png" in message
    assert "maps/orphan.png: is a map without an image" in message
    assert "a.jpg: its map a.png is 23 × 20, and the image 24 × 20" in message
    assert "sub/b.png: its map sub/b.png has values that are no class of the model's 3: 7" in message


def test_bad_maps_can_be_skipped(maps: Path) -> None:
    (maps / "maps" / "a.png").unlink()
    save_map(maps / "maps" / "c.png", np.zeros((3, 3), np.uint8))
    images = read_answered(maps, "segment", classes=3, skip_bad=True).check(skip_bad=True)
    assert images.files == ("sub/b.png",)
    assert read(images, 0).shape == (16, 30)
    assert [file for file, _ in images.skipped] == ["a.jpg", "c.png"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((20, 24, 3), np.uint8), r"a PNG of colours \(RGB\)"),
        (b"no PNG", "cannot identify"),
    ],
)
def test_what_is_no_map_is_said(maps: Path, values: Any, reason: str) -> None:
    path = maps / "maps" / "a.png"
    if isinstance(values, bytes):
        path.write_bytes(values)
    else:
        save_map(path, values)
    with pytest.raises(DataError, match=f"a.jpg: its map a.png: {reason}"):
        read_answered(maps, "segment").check()


def test_numbers_that_are_no_classes_are_refused(maps: Path) -> None:
    (maps / "maps" / "a.png").unlink()
    save_map(maps / "maps" / "a.npy", np.zeros((20, 24), np.float32))
    assert "classes are whole numbers" in refuse(maps, "segment").message
    save_map(maps / "maps" / "a.npy", np.zeros((20, 24, 3), np.int32))
    assert "shape (20, 24, 3)" in refuse(maps, "segment").message


def test_a_form_file_with_other_keys_or_folders_is_refused(maps: Path) -> None:
    (maps / "maps.toml").write_text('scale = -1\nmasks = "x"\n')
    message = refuse(maps, "segment").message
    assert "scale = -1 is not a finite number above 0" in message
    assert "unknown key masks" in message
    (maps / "maps.toml").write_text('maps = "elsewhere"\n')
    assert "elsewhere: no such folder" in refuse(maps, "segment").message


def test_the_hash_knows_the_maps_and_what_they_mean(maps: Path) -> None:
    before = read_answered(maps, "segment").sha256()
    assert before == read_answered(maps, "segment").sha256()
    assert before != ImageSet.read(maps / "images" / "sub", labelled=False).sha256()
    (maps / "maps.toml").write_text("first_class = 1\n")
    meant = read_answered(maps, "segment").sha256()
    save_map(maps / "maps" / "a.png", np.ones((20, 24), np.uint8))
    assert len({before, meant, read_answered(maps, "segment").sha256()}) == 3


def test_a_sample_keeps_each_images_map(maps: Path) -> None:
    images = read_answered(maps, "segment")
    for image in (images.subset(1, seed) for seed in range(8)):
        assert read(image, 0).shape == SIZES[image.files[0]]


def test_other_tasks_and_folders_without_maps_have_no_labels(maps: Path) -> None:
    assert "say nothing of detect" in refuse(maps, "detect").message
    plain = read_answered(maps / "images" / "sub", "segment")
    assert (len(plain), plain.labelled) == (1, False)


# COCO files


@pytest.fixture
def coco(tmp_path: Path) -> dict[str, Any]:
    """Two images with four annotations of two of three categories; images lie where COCO has them."""
    make_images(tmp_path / "val2017")
    square = [[2, 2, 10, 2, 10, 12, 2, 12]]
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 20, "width": 24},
            {"id": 3, "file_name": "sub/b.png", "height": 16, "width": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 44, "bbox": [2, 2, 8, 10], "area": 80, "segmentation": square},
            {
                **{"id": 2, "image_id": 7, "category_id": 1, "bbox": [6, 4, 8, 10], "area": 80},
                "segmentation": [[6, 4, 14, 4, 14, 14, 6, 14]],
            },
            {
                **{"id": 3, "image_id": 3, "category_id": 1, "bbox": [0, 0, 30, 4], "iscrowd": 1},
                "segmentation": {"size": [16, 30], "counts": [0, 4] + [12, 4] * 29 + [12]},
            },
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 44, "name": "Fire hydrant"}, {"id": 2, "name": "unused"}],
    }


def write(folder: Path, data: Any) -> Path:
    path = folder / "annotations" / "instances_val2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data))
    return path


LABELS = ["dog", "fire_hydrant", "cat"]


def test_boxes_are_of_the_models_classes_by_name(coco, tmp_path: Path) -> None:
    images = read_answered(write(tmp_path, coco), "detect", labels=LABELS).check()
    assert images.files == ("a.jpg", "sub/b.png")
    assert images.root == tmp_path / "val2017"
    assert images.describe_labels() == "2 classes, matched by name"
    truth = read(images, 0)
    assert truth.boxes.tolist() == [[2, 2, 10, 12], [6, 4, 14, 14]]
    assert truth.classes.tolist() == [1, 2]
    assert truth.areas.tolist() == [80, 80]
    crowd = read(images, 1)
    assert crowd.crowd.tolist() == [True]
    assert crowd.areas.tolist() == [120]
    assert images.truths.pick([1]).read(0).boxes.tolist() == [[0, 0, 30, 4]]


def test_categories_of_a_model_without_names_are_taken_by_their_numbers(coco, tmp_path: Path) -> None:
    path = write(tmp_path, coco)
    assert read(read_answered(path, "detect", classes=91), 0).classes.tolist() == [44, 1]
    assert "44: Fire hydrant" in refuse(path, "detect", classes=3).message


def test_an_unknown_category_is_refused_with_those_that_the_model_has(coco, tmp_path: Path) -> None:
    message = refuse(write(tmp_path, coco), "detect", labels=["cat", "dog"]).message
    assert "1 of 2 categories cannot be matched with the model's 2 classes:\n  Fire hydrant" in message


def test_masks_become_a_class_for_every_pixel_and_none_where_two_claim_one(coco, tmp_path: Path) -> None:
    images = read_answered(write(tmp_path, coco), "segment", labels=[*LABELS, "background"]).check()
    found = read(images, 0)
    # Pillow's own way of drawing the two rectangles.
    expected = Image.new("L", (24, 20), 3)
    ImageDraw.Draw(expected).rectangle([2, 2, 9, 11], fill=1)
    ImageDraw.Draw(expected).rectangle([6, 4, 13, 13], fill=2)
    wanted = np.asarray(expected).astype(int)
    wanted[4:12, 6:10] = NO_CLASS
    assert (found == wanted).all()
    assert (read(images, 1)[:4] == 2).all()
    assert (read(images, 1)[4:] == 3).all()
    without = read_answered(write(tmp_path, coco), "segment", labels=LABELS)
    assert read(without, 0)[0, 0] == NO_CLASS


def test_every_person_with_keypoints_is_an_image_of_its_own(coco, tmp_path: Path) -> None:
    first, second, crowd = coco["annotations"]
    first["keypoints"] = [3, 4, 2, 5, 6, 1]
    second["keypoints"] = [0, 0, 0, 0, 0, 0]
    crowd["keypoints"] = [1, 1, 2, 2, 2, 2]
    coco["annotations"].append({**first, "id": 9, "image_id": 3, "bbox": [1, 1, 4, 6], "keypoints": [2, 2, 2, 0, 0, 0]})
    images = read_answered(write(tmp_path, coco), "pose", classes=2).check()
    assert images.files == ("a.jpg", "sub/b.png")
    assert images.boxes == ((2, 2, 10, 12), (1, 1, 5, 7))
    truth = read(images, 0)
    assert truth.keypoints.tolist() == [[[3, 4, 2], [5, 6, 1]]]
    assert truth.boxes.tolist() == [[2, 2, 10, 12]]
    assert images.subset(1, 1).boxes[0] in images.boxes
    moved = dataclasses.replace(images, boxes=((2, 2, 10, 12), (1, 1, 5, 8)))
    assert moved.sha256() != images.sha256()
    assert "annotation 1 has 2" in refuse(write(tmp_path, coco), "pose", classes=17).message
    del first["keypoints"], coco["annotations"][-1]
    assert "no keypoints" in refuse(write(tmp_path, coco), "pose").message


def test_everything_that_contradicts_itself_is_listed(coco, tmp_path: Path) -> None:
    coco["images"] += [
        {"id": 3, "file_name": "c.png"},
        {"id": 4},
        {"id": 5, "file_name": "none.png"},
        {"id": 6, "file_name": "c.png", "height": 20, "width": 24},
    ]
    coco["annotations"] += [
        {"id": 4, "image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1]},
        {"id": 5, "image_id": 7, "category_id": 99, "bbox": [0, 0, 1, 1]},
        {"id": 6, "image_id": 7, "category_id": 1, "bbox": [0, 0, -1, 1]},
        {"id": 7, "image_id": 7, "category_id": 1},
        "no table",
    ]
    path = write(tmp_path, coco)
    message = refuse(path, "detect", labels=LABELS).message
    for line in (
        "image 3: is there twice",
        "image at place 3: has no id or no name",
        "annotation 4: is of image 99, which is not listed",
        "annotation 5: is of category 99, which is not listed",
        "annotation 6: has the box [0, 0, -1, 1]",
        "annotation 7: has no box",
        "annotation 7: is no table",  # its place
        "none.png: No such file",
        "c.png: was annotated with 24 × 20 pixels, and upright it has 20 × 24",
    ):
        assert line in message
    kept = read_answered(path, "detect", labels=LABELS, skip_bad=True).check(skip_bad=True)
    assert kept.files == ("a.jpg", "sub/b.png")
    assert len(read(kept, 0).boxes) == 2


@pytest.mark.parametrize(
    "outline", [[[1, 2, 3, 4]], [["a"] * 6], "x", {"size": [20, 24], "counts": [1, 2]}, {"size": [1, 1], "counts": "a"}]
)
def test_masks_that_cannot_be_drawn_are_refused(coco, tmp_path: Path, outline: Any) -> None:
    coco["annotations"][0]["segmentation"] = outline
    message = refuse(write(tmp_path, coco), "segment", labels=LABELS).message
    assert "a.jpg: has masks that are neither polygons nor runs of its pixels: annotations [1]" in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", "has no list of images"),
        ('{"images": [], "annotations": 3}', "categories and none"),
    ],
)
def test_what_is_no_coco_file_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    assert reason in refuse(path, "detect").message
    assert "no distances" in refuse(path, "depth").message


def test_masks_without_pycocotools_say_what_to_install(coco, tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path, coco)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(MissingPackageError, match=r"reading the masks of .* needs pycocotools") as caught:
        read_answered(path, "segment", labels=LABELS)
    assert "[coco]" in caught.value.hint
    assert len(read_answered(path, "detect", labels=LABELS)) == 2  # boxes need nothing
