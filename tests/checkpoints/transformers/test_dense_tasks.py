"""What read_dense says of a folder is what transformers' own processor does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgevit.checkpoints.transformers.dense_tasks import DENSE_CLASSES, read_dense
from edgevit.core.errors import CheckpointError
from edgevit.pixels.preprocess import to_nchw
from scripts.list_tasks import PATH, write_page
from tests.support.photos import make_photo
from tests.support.reference import import_transformers

SQUARE = {"height": 56, "width": 84}

CASES: list[tuple[str, str, dict[str, Any], float]] = [
    ("DepthAnythingForDepthEstimation", "DPT", {"size": SQUARE, "ensure_multiple_of": 14}, 1e-3),
    ("DPTForDepthEstimation", "DPT", {"size": {"height": 60, "width": 50}, "ensure_multiple_of": 16}, 1e-3),
    ("DPTForDepthEstimation", "DPT", {"size": SQUARE, "resample": 2, "image_mean": [0.4, 0.5, 0.6]}, 1e-3),
    ("UperNetForSemanticSegmentation", "Segformer", {"size": SQUARE}, 1e-3),
    ("UperNetForSemanticSegmentation", "Beit", {"size": SQUARE, "do_center_crop": False}, 1e-3),
    ("Mask2FormerForUniversalSegmentation", "Mask2Former", {"size": {"height": 60, "width": 70}}, 1e-3),
    # transformers resizes in float; an engine takes 8 bits
    ("RfDetrForObjectDetection", "RfDetr", {"size": SQUARE}, 0.501),
    ("YolosForObjectDetection", "Yolos", {"size": SQUARE}, 1e-3),
    ("OwlViTForObjectDetection", "OwlViT", {"size": SQUARE}, 1e-3),
    # likewise; and the torch that resizes 8 bits rounds twice
    ("Owlv2ForObjectDetection", "Owlv2", {"size": {"height": 160, "width": 190}}, 1.01),
]


@pytest.mark.parametrize(("architecture", "name", "options", "tolerance"), CASES)
@pytest.mark.parametrize("size", [(61, 93), (130, 70), (40, 40)])
def test_input_when_the_size_is_fixed_is_the_processors(
    architecture: str, name: str, options: dict[str, Any], tolerance: float, size: tuple[int, int]
) -> None:
    processor = getattr(import_transformers(), f"{name}ImageProcessor")(**options)
    task = read_dense({"architectures": [architecture]}, processor.to_dict(), None)
    photo = make_photo(*size)
    (wanted,) = processor(photo, return_tensors="np")["pixel_values"]
    preprocess = task.preprocess
    scale = (np.asarray(preprocess.std) / preprocess.rescale)[:, None, None]
    ours = to_nchw(preprocess.normalize(preprocess.apply(photo)))
    assert ours.shape == wanted.shape
    assert np.abs((ours - wanted) * scale).max() < tolerance
    assert not any("many sizes" in note for note in task.notes)
    assert task.task.name == task.answer.task


@pytest.mark.parametrize("architecture", DENSE_CLASSES)
def test_defaults_when_nothing_is_stored_are_the_processors(architecture: str) -> None:
    name = DENSE_CLASSES[architecture].processors[0]
    processor = getattr(import_transformers(), f"{name}ImageProcessor")()
    assumed = read_dense({"architectures": [architecture]}, None, None)
    stored = read_dense({"architectures": [architecture]}, processor.to_dict(), None)
    assert (assumed.preprocess, assumed.answer) == (stored.preprocess, stored.answer)
    assert any(f"{name}ImageProcessor is assumed" in note for note in assumed.notes)
    assert not any("assumed" in note for note in stored.notes)


def test_depth_when_the_aspect_ratio_is_kept_is_squashed_and_says_so() -> None:
    stored = {
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": 518, "width": 518},
        "keep_aspect_ratio": True,
        "ensure_multiple_of": 14,
    }
    config = {"architectures": ["DepthAnythingForDepthEstimation"], "depth_estimation_type": "metric", "max_depth": 20}
    task = read_dense(config, stored, None)
    assert (task.preprocess.resize, task.preprocess.height, task.preprocess.width) == ("squash", 518, 518)
    assert any("squashed to 518 × 518" in note for note in task.notes)
    assert task.answer.metric
    assert task.labels is None
    assert read_dense(config, stored, (280, 392)).preprocess.resize_width == 392


def test_size_when_the_processor_has_edges_is_the_models() -> None:
    config = {"architectures": ["YolosForObjectDetection"], "image_size": [512, 864]}
    assert read_dense(config, None, None).preprocess.width == 864
    config = {"architectures": ["RfDetrForObjectDetection"], "backbone_config": {"image_size": 560}}
    assert read_dense(config, None, None).preprocess.height == 560
    config = {"architectures": ["Mask2FormerForUniversalSegmentation"]}
    stored = {"size": {"shortest_edge": 500, "longest_edge": 1333}}
    assert read_dense(config, stored, None).preprocess.height == 512  # size_divisor 32
    assert read_dense(config, stored, None).answer.mask_size == (384, 384)


def test_names_and_edges_when_they_are_stored_are_read() -> None:
    config = {
        "architectures": ["VitPoseForPoseEstimation"],
        "id2label": {"1": "left eye", "0": "nose"},
        "edges": [[0, 1]],
    }
    task = read_dense(config, None, None)
    assert task.labels == ("nose", "left eye")
    assert task.answer.edges == ((0, 1),)
    assert (task.preprocess.height, task.preprocess.width) == (256, 192)


@pytest.mark.parametrize(
    ("architecture", "stored", "match"),
    [
        ("UperNetForSemanticSegmentation", {"image_processor_type": "VitPoseImageProcessor"}, "not supported with"),
        ("UperNetForSemanticSegmentation", {"do_center_crop": True}, "do_center_crop"),
        ("YolosForObjectDetection", {"do_resize": False}, "their own size"),
        ("VitPoseForPoseEstimation", {"normalize_factor": 100}, "normalize_factor"),
        ("VitPoseForPoseEstimation", {"do_affine_transform": False}, "do_affine_transform"),
        ("DPTForDepthEstimation", {"size": "large"}, "size = 'large'"),
        ("DPTForDepthEstimation", {"do_pad": True}, "do_pad"),
        ("ViTForImageClassification", {}, "no model whose outputs"),
    ],
)
def test_what_cannot_be_reproduced_when_stored_is_refused(
    architecture: str, stored: dict[str, Any], match: str
) -> None:
    with pytest.raises(CheckpointError, match=match):
        read_dense({"architectures": [architecture]}, stored, None)


@pytest.mark.parametrize("size", [(300, 400), (700, 450)])
def test_input_of_owlv2_when_an_image_shrinks_is_near_the_processors(size: tuple[int, int]) -> None:
    """Theirs is a Gaussian and four pixels of what it gives."""
    processor = import_transformers().Owlv2ImageProcessor(size={"height": 160, "width": 160})
    task = read_dense({"architectures": ["Owlv2ForObjectDetection"]}, processor.to_dict(), None)
    photo, preprocess = make_photo(*size), task.preprocess
    (wanted,) = processor(photo, return_tensors="np")["pixel_values"]
    ours = to_nchw(preprocess.normalize(preprocess.apply(photo)))
    scale = (np.asarray(preprocess.std) / preprocess.rescale)[:, None, None]
    assert np.sqrt(np.square((ours - wanted) * scale).mean()) < 3
    assert any("blurs an image that it shrinks" in note for note in task.notes)


def test_size_when_it_is_stored_as_a_list_is_height_and_width() -> None:
    """As in the first folders of OWL-ViT."""
    task = read_dense({"architectures": ["OwlViTForObjectDetection"]}, {"size": [96, 112]}, None)
    assert (task.preprocess.height, task.preprocess.width) == (96, 112)


def test_edges_when_they_are_no_pairs_are_refused() -> None:
    with pytest.raises(CheckpointError, match="no pair of keypoints"):
        read_dense({"architectures": ["VitPoseForPoseEstimation"], "edges": [[0, 1, 2]]}, None, None)


def test_page_has_the_table_that_the_script_writes() -> None:
    text = PATH.read_text(encoding="utf-8")
    assert text == write_page(text), "run python -m scripts.list_tasks"
