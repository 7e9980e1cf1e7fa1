"""Answers are those of transformers' own processors, at random outputs."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgevit.checkpoints.transformers.dense_tasks import DenseTask, read_dense
from edgevit.core.answer import Answer
from edgevit.core.errors import DataError
from edgevit.pixels.decode import decode_image
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.tasks.answer_image import answer_image, make_inputs
from edgevit.runtime.tasks.answers import Depth, Detections, Poses, Segmentation
from tests.support.photos import make_photo
from tests.support.reference import import_transformers

SIZES = [(61, 93), (130, 70), (40, 40)]
Arrays = Mapping[str, np.ndarray]


def make_outputs(**arrays: np.ndarray) -> tuple[Arrays, SimpleNamespace]:
    """The same for us and for transformers."""
    return arrays, SimpleNamespace(**{name: torch.from_numpy(values) for name, values in arrays.items()})


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def read(architecture: str, processor: Any, **config: Any) -> DenseTask:
    return read_dense({"architectures": [architecture], **config}, processor.to_dict(), None)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(24, 24), (35, 28)])
def test_depth_when_random_is_transformers(size: tuple[int, int], shape: tuple[int, int]) -> None:
    processor = import_transformers().DPTImageProcessor(size={"height": 56, "width": 56})
    task = read("DepthAnythingForDepthEstimation", processor)
    arrays, outputs = make_outputs(predicted_depth=draw(1, *shape))
    found = answer_image(task.answer, task.preprocess, arrays, size)
    assert isinstance(found, Depth)
    assert not found.metric
    (wanted,) = processor.post_process_depth_estimation(outputs, target_sizes=[size])
    np.testing.assert_allclose(found.depth, wanted["predicted_depth"].numpy(), atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_classes_of_maps_when_random_are_transformers(size: tuple[int, int]) -> None:
    processor = import_transformers().SegformerImageProcessor(size={"height": 64, "width": 48})
    task = read("UperNetForSemanticSegmentation", processor, id2label={str(i): f"class {i}" for i in range(7)})
    arrays, outputs = make_outputs(logits=draw(1, 7, 16, 12))
    found = answer_image(task.answer, task.preprocess, arrays, size, labels=task.labels)
    assert isinstance(found, Segmentation)
    (wanted,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[size])
    np.testing.assert_array_equal(found.classes, wanted.numpy())
    assert found.labels == tuple(f"class {i}" for i in range(7))


@pytest.mark.parametrize("size", SIZES)
def test_classes_of_masks_when_random_are_mask2formers(size: tuple[int, int]) -> None:
    processor = import_transformers().Mask2FormerImageProcessor(size={"height": 64, "width": 64})
    task = read("Mask2FormerForUniversalSegmentation", processor)
    arrays, outputs = make_outputs(class_queries_logits=draw(1, 9, 6), masks_queries_logits=draw(1, 9, 16, 16, seed=1))
    found = answer_image(task.answer, task.preprocess, arrays, size)
    assert isinstance(found, Segmentation)
    (wanted,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[size])
    np.testing.assert_array_equal(found.classes, wanted.numpy())


@pytest.mark.parametrize("size", SIZES)
def test_classes_of_masks_when_whole_are_eomts(size: tuple[int, int]) -> None:
    processor = import_transformers().EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True)
    task = read("EomtForUniversalSegmentation", processor, image_size=64)
    arrays, outputs = make_outputs(class_queries_logits=draw(1, 9, 6), masks_queries_logits=draw(1, 9, 16, 16, seed=1))
    outputs.patch_offsets = None
    found = answer_image(task.answer, task.preprocess, arrays, size)
    assert isinstance(found, Segmentation)
    (wanted,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[size])
    np.testing.assert_array_equal(found.classes, wanted.numpy())
    assert any("squashed to 64 × 64" in note for note in task.notes)


def make_splitting_eomt() -> Any:
    return import_transformers().EomtImageProcessor(
        size={"shortest_edge": 48, "longest_edge": None}, do_split_image=True
    )


@pytest.mark.parametrize("size", [*SIZES, (40, 300), (301, 90)])
def test_tiles_when_the_image_is_split_are_eomts(size: tuple[int, int]) -> None:
    processor = import_transformers().EomtImageProcessor(
        size={"shortest_edge": 48, "longest_edge": None}, do_split_image=True
    )
    task = read("EomtForUniversalSegmentation", processor)
    assert task.answer.tiles
    photo = make_photo(*size)
    theirs = processor(photo, return_tensors="pt")
    picture = decode_image(photo)
    inputs = make_inputs(task.answer, task.preprocess, picture)
    assert len(inputs) == len(theirs["patch_offsets"])
    for ours, values in zip(inputs, theirs["pixel_values"], strict=True):
        assert np.abs(task.preprocess.normalize(ours).transpose(2, 0, 1) - values.numpy()).max() < 1e-4
    tiles = len(inputs)
    arrays, outputs = make_outputs(
        class_queries_logits=draw(tiles, 9, 6), masks_queries_logits=draw(tiles, 9, 12, 12, seed=1)
    )
    outputs.patch_offsets = [offsets.tolist() for offsets in theirs["patch_offsets"]]
    found = answer_image(task.answer, task.preprocess, arrays, size)
    assert isinstance(found, Segmentation)
    (wanted,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[size])
    np.testing.assert_array_equal(found.classes, wanted.numpy())


def test_tiles_when_the_image_is_a_strip_are_refused() -> None:
    processor = import_transformers().EomtImageProcessor(
        size={"shortest_edge": 48, "longest_edge": None}, do_split_image=True
    )
    task = read("EomtForUniversalSegmentation", processor)
    with pytest.raises(DataError, match="20 squares"):
        make_inputs(task.answer, task.preprocess, decode_image(make_photo(10, 200)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.97])
def test_boxes_when_random_are_rf_detrs(size: tuple[int, int], threshold: float) -> None:
    processor = import_transformers().RfDetrImageProcessor(size={"height": 56, "width": 84})
    task = read("RfDetrForObjectDetection", processor)
    shares = np.random.default_rng(2).random((1, 30, 4), np.float32)
    arrays, outputs = make_outputs(logits=draw(1, 30, 5), pred_boxes=shares)
    found = answer_image(task.answer, task.preprocess, arrays, size, threshold=threshold)
    (wanted,) = processor.post_process_object_detection(outputs, threshold=threshold, target_sizes=[size])
    check_boxes(found, wanted)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threshold", [None, 0.0, 0.9])
def test_boxes_when_random_are_yolos(size: tuple[int, int], threshold: float | None) -> None:
    processor = import_transformers().YolosImageProcessor(size={"height": 56, "width": 84})
    task = read("YolosForObjectDetection", processor)
    shares = np.random.default_rng(2).random((1, 30, 4), np.float32)
    arrays, outputs = make_outputs(logits=draw(1, 30, 5), pred_boxes=shares)
    found = answer_image(task.answer, task.preprocess, arrays, size, threshold=threshold)
    given = 0.5 if threshold is None else threshold
    (wanted,) = processor.post_process_object_detection(outputs, threshold=given, target_sizes=[size])
    order = torch.argsort(-wanted["scores"])  # transformers leaves them in the order of the queries
    check_boxes(found, {key: values[order] for key, values in wanted.items()})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threshold", [None, 0.0, 0.9])
@pytest.mark.parametrize("kind", ["OwlViT", "Owlv2"])
def test_boxes_when_random_are_owls(kind: str, size: tuple[int, int], threshold: float | None) -> None:
    processor = getattr(import_transformers(), f"{kind}ImageProcessor")(size={"height": 64, "width": 64})
    task = read(f"{kind}ForObjectDetection", processor)
    shares = np.random.default_rng(2).random((1, 30, 4), np.float32)
    arrays, outputs = make_outputs(logits=draw(1, 30, 5), pred_boxes=shares)
    found = answer_image(task.answer, task.preprocess, arrays, size, threshold=threshold)
    given = 0.1 if threshold is None else threshold
    (wanted,) = processor.post_process_object_detection(outputs, threshold=given, target_sizes=[size])
    order = torch.argsort(-wanted["scores"], stable=True)  # transformers leaves them in the order of the patches
    check_boxes(found, {key: values[order] for key, values in wanted.items()})


def check_boxes(found: Any, wanted: Mapping[str, torch.Tensor]) -> None:
    assert isinstance(found, Detections)
    np.testing.assert_array_equal(found.classes, wanted["labels"].numpy())
    np.testing.assert_allclose(found.scores, wanted["scores"].numpy(), atol=1e-6)
    np.testing.assert_allclose(found.boxes, wanted["boxes"].numpy(), atol=1e-4)


BOXES = np.array([[3.0, 5.5, 40.0, 60.0], [0.0, 0.0, 93.0, 61.0], [20.0, 8.0, 70.25, 30.0]], np.float32)


@pytest.mark.parametrize("kernel", [11, 3])
def test_keypoints_when_random_are_vitposes(kernel: int) -> None:
    processor = import_transformers().VitPoseImageProcessor()
    task = read("VitPoseForPoseEstimation", processor, edges=[[0, 1], [1, 2]])
    heatmaps = make_heatmaps(3, 5)
    arrays, outputs = make_outputs(heatmaps=heatmaps)
    answer = task.answer if kernel == 11 else type(task.answer)("heatmaps", ("heatmaps",), kernel=kernel)
    found = answer_image(answer, task.preprocess, arrays, (61, 93), boxes=BOXES)
    assert isinstance(found, Poses)
    coco = [[[left, top, right - left, bottom - top] for left, top, right, bottom in BOXES.tolist()]]
    (wanted,) = processor.post_process_pose_estimation(outputs, boxes=coco, kernel_size=kernel)
    for person, pose in enumerate(wanted):
        np.testing.assert_allclose(found.keypoints[person, :, :2], pose["keypoints"].numpy(), atol=1e-3)
        np.testing.assert_allclose(found.keypoints[person, :, 2], pose["scores"].numpy(), atol=1e-6)
    assert found.edges == (task.answer.edges if kernel == 11 else ())


def make_heatmaps(people: int, points: int) -> np.ndarray:
    """Peaks as a trained model has them: one a map, some at its border, with noise."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:64, :48]
    maps = rng.random((people, points, 64, 48)).astype(np.float32) * 0.05
    for person in range(people):
        for point in range(points):
            cx, cy = rng.uniform(-1, 48), rng.uniform(-1, 64)
            maps[person, point] += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8).astype(np.float32)
    return maps


@pytest.mark.parametrize("size", SIZES)
def test_input_of_a_box_when_sampled_is_vitposes_pixel_by_pixel(size: tuple[int, int]) -> None:
    processor = import_transformers().VitPoseImageProcessor()
    task = read("VitPoseForPoseEstimation", processor)
    photo = make_photo(*size)
    height, width = size
    boxes = np.array([[0, 0, width, height], [2, 3.5, width / 2, height / 3], [-9, 4, width, height + 5]], np.float32)
    coco = [[[left, top, right - left, bottom - top] for left, top, right, bottom in boxes.tolist()]]
    theirs = processor(photo, boxes=coco, do_normalize=False, do_rescale=False, return_tensors="np")["pixel_values"]
    ours = make_inputs(task.answer, task.preprocess, decode_image(photo), boxes=boxes)
    for mine, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine.transpose(2, 0, 1), wanted)
    np.testing.assert_array_equal(task.preprocess.apply(photo), ours[0])


@pytest.mark.parametrize("resize", ["squash", "longest", "shortest", "pad", "warp"])
def test_keypoints_when_the_image_is_shown_in_another_way_lie_where_its_spots_do(resize: Any) -> None:
    """A bright spot in the image is a peak in the input; the input itself, smoothed by nothing, is the heatmap."""
    height, width = 96, 128
    warps = resize == "warp"
    preprocess = Preprocess(
        64, 64, resize, 64, 64, "bilinear", (0.0,) * 3, (1.0,) * 3, antialias=not warps, resampling="pillow"
    )
    y, x = np.mgrid[:height, :width]
    spot = np.array([70.3, 40.6])
    values = 255 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * 5**2))
    image = Image.fromarray(np.repeat(values.round().astype(np.uint8)[..., None], 3, axis=2))
    seen: np.ndarray = preprocess.apply(image)[..., 0].astype(np.float32) / 255
    answer = Answer("heatmaps", ("heatmaps",))
    found = answer_image(answer, preprocess, {"heatmaps": seen[None, None]}, (height, width))
    assert isinstance(found, Poses)
    np.testing.assert_allclose(found.keypoints[0, 0, :2], spot, atol=0.15)


def test_keypoints_where_no_map_says_anything_are_there_with_their_score() -> None:
    task = read("VitPoseForPoseEstimation", import_transformers().VitPoseImageProcessor())
    for value in (0.0, -1.0, 1e-9, 40.0):
        flat = np.full((1, 3, 64, 48), value, np.float32)
        found = answer_image(task.answer, task.preprocess, {"heatmaps": flat}, (50, 60))
        assert isinstance(found, Poses)
        assert np.isfinite(found.keypoints).all()
        np.testing.assert_array_equal(found.keypoints[..., 2], np.float32(value))
