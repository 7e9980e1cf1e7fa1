"""Against timm's evaluation transforms and transformers' image processors themselves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevit.checkpoints.preprocess_configs import read_timm_preprocess, read_transformers_preprocess
from edgevit.core.errors import CheckpointError
from edgevit.pixels.preprocess import Preprocess, to_nchw
from tests.support.photos import make_photo
from tests.support.reference import import_timm, import_transformers

# Older Pillow resizes tall images in another order of passes, and so does timm with it.
needs_pillow_13 = pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow is older than 13")

SIZES = [(37, 300), (300, 37), (224, 224), (225, 223), (300, 301), (100, 80), (430, 288), (288, 430), (700, 500)]
TIMM = {
    "input_size": [3, 224, 224],
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "crop_mode": "center",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [make_photo(*size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def real_photos(assets: Path) -> list[Image.Image]:
    """Whole photos of many sizes and shapes, and square ones."""
    files = sorted((assets / "imagenet/calibration").iterdir())[::50]
    files += sorted((assets / "imagenet/validation").iterdir())[::100]
    return [Image.open(file).convert("RGB") for file in files]


def run_timm(cfg: dict[str, Any], image: Image.Image) -> np.ndarray:
    import_timm()
    from timm.data import create_transform

    values: np.ndarray = create_transform(**cfg, is_training=False)(image).numpy()
    return values


def run_transformers(config: dict[str, Any], image: Image.Image) -> np.ndarray:
    processor = getattr(import_transformers(), config["image_processor_type"])(
        **{k: v for k, v in config.items() if k != "image_processor_type"}
    )
    values: np.ndarray = processor(image, return_tensors="np")["pixel_values"][0]
    return values


def measure_difference(preprocess: Preprocess, image: Image.Image, reference: np.ndarray) -> float:
    """Largest difference in grey levels from normalised values ``(3, H, W)``."""
    scale = (np.asarray(preprocess.std) / preprocess.rescale)[:, None, None]
    ours = to_nchw(preprocess.normalize(preprocess.apply(image)))
    assert ours.shape == reference.shape
    return float(np.abs((ours - reference) * scale).max())


TIMM_CASES = [
    {},
    {"crop_pct": 0.875, "interpolation": "bilinear"},
    {"crop_pct": 1.0, "interpolation": "lanczos"},
    {"crop_pct": 0.95, "mean": [0.5] * 3, "std": [0.5] * 3},
    {"crop_pct": 1.1},  # the crop is larger than the image: padding
    {"interpolation": "nearest"},
    {"interpolation": "box"},
    {"interpolation": "hamming"},
    {"crop_mode": "squash"},
    {"crop_mode": "squash", "crop_pct": 1.0, "input_size": [3, 384, 384]},
    {"crop_mode": "border"},
    {"crop_mode": "border", "crop_pct": 1.0, "interpolation": "bilinear"},
    {"input_size": [3, 192, 256]},
    {"input_size": [3, 256, 160], "crop_mode": "squash"},
    {"input_size": [3, 256, 160], "crop_mode": "border"},
    {"input_size": [3, 225, 225], "crop_pct": 0.96},
]


def name_case(changes: dict[str, Any]) -> str:
    return " ".join(f"{k}={v}" for k, v in changes.items()) or "plain"


@needs_pillow_13
@pytest.mark.parametrize("changes", TIMM_CASES, ids=name_case)
def test_read_timm_preprocess_when_applied_equals_the_transform(
    changes: dict[str, Any], photos: list[Image.Image]
) -> None:
    cfg = TIMM | changes
    preprocess, notes = read_timm_preprocess(cfg)
    assert notes == ()
    for photo in photos:
        assert measure_difference(preprocess, photo, run_timm(cfg, photo)) < 1e-3


@needs_pillow_13
@pytest.mark.parametrize("changes", TIMM_CASES, ids=name_case)
def test_read_timm_preprocess_when_applied_to_real_photos_equals_the_transform(
    changes: dict[str, Any], real_photos: list[Image.Image]
) -> None:
    preprocess, _ = read_timm_preprocess(TIMM | changes)
    for photo in real_photos[::4]:
        assert measure_difference(preprocess, photo, run_timm(TIMM | changes, photo)) < 1e-3


@needs_pillow_13
@settings(max_examples=60, deadline=None)
@given(
    image=st.tuples(st.integers(2, 260), st.integers(2, 260)),
    size=st.tuples(st.integers(8, 130), st.integers(8, 130)) | st.integers(8, 130).map(lambda s: (s, s)),
    crop_pct=st.floats(0.5, 1.2),
    crop_mode=st.sampled_from(["center", "squash", "border"]),
    interpolation=st.sampled_from(["bicubic", "bilinear", "lanczos"]),
)
def test_read_timm_preprocess_when_sizes_and_ratios_vary_equals_the_transform(
    image: tuple[int, int], size: tuple[int, int], crop_pct: float, crop_mode: str, interpolation: str
) -> None:
    cfg = TIMM | {"crop_pct": crop_pct, "crop_mode": crop_mode, "interpolation": interpolation}
    cfg["input_size"] = [3, *size]
    ratio = min(math.floor(t / crop_pct) / i for t, i in zip(size, image, strict=True))
    if crop_mode == "border" and min(round(side * ratio) for side in image) < 1:
        return  # timm itself fails on such a strip
    photo = make_photo(*image)
    preprocess, _ = read_timm_preprocess(cfg)
    assert measure_difference(preprocess, photo, run_timm(cfg, photo)) < 1e-3
    resized, _ = read_timm_preprocess(
        TIMM | {"crop_pct": crop_pct, "crop_mode": crop_mode, "interpolation": interpolation}
    )
    assert resized.with_size(*size) == preprocess


TRANSFORMERS_CASES: list[dict[str, Any]] = [
    {"image_processor_type": "ViTImageProcessor"},
    {"image_processor_type": "ViTImageProcessor", "size": {"height": 384, "width": 384}, "resample": 3},
    {"image_processor_type": "ViTImageProcessor", "size": {"height": 160, "width": 256}, "resample": 1},
    {"image_processor_type": "ViTImageProcessor", "do_rescale": False},
    {"image_processor_type": "ViTImageProcessor", "do_normalize": False},
    {"image_processor_type": "ViTImageProcessor", "rescale_factor": 0.01, "image_mean": 0.4, "image_std": 0.2},
    {"image_processor_type": "DeiTImageProcessor"},
    {"image_processor_type": "DeiTImageProcessor", "size": 248, "crop_size": 223},
    {"image_processor_type": "BitImageProcessor"},
    {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}, "resample": 2},
    {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 200}},  # padding
    {"image_processor_type": "BitImageProcessor", "do_resize": False, "crop_size": {"height": 128, "width": 96}},
    {"image_processor_type": "CLIPImageProcessor", "size": 256, "crop_size": {"height": 224, "width": 160}},
    {"image_processor_type": "ChineseCLIPImageProcessor"},
    {"image_processor_type": "SiglipImageProcessor"},
    {"image_processor_type": "BeitImageProcessor", "do_center_crop": True, "size": {"height": 256, "width": 256}},
    {"image_processor_type": "DINOv3ViTImageProcessor"},
    {"image_processor_type": "ConvNextImageProcessor"},
    {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.9},
]


@pytest.mark.parametrize("config", TRANSFORMERS_CASES, ids=name_case)
def test_read_transformers_preprocess_when_applied_stays_within_a_grey_level(
    config: dict[str, Any], photos: list[Image.Image]
) -> None:
    preprocess, _ = read_transformers_preprocess(config)
    for photo in photos:
        assert measure_difference(preprocess, photo, run_transformers(config, photo)) < 1.001


@pytest.mark.parametrize("config", TRANSFORMERS_CASES, ids=name_case)
def test_read_transformers_preprocess_when_applied_to_real_photos_stays_within_a_grey_level(
    config: dict[str, Any], real_photos: list[Image.Image]
) -> None:
    preprocess, _ = read_transformers_preprocess(config)
    for photo in real_photos[::2]:
        assert measure_difference(preprocess, photo, run_transformers(config, photo)) < 1.001


@pytest.mark.parametrize("code", [4, 5])
@needs_pillow_13
def test_read_transformers_preprocess_when_only_pillow_has_the_filter_equals_the_pillow_processor(
    code: int, photos: list[Image.Image]
) -> None:
    import_transformers()
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    config = {"image_processor_type": "ViTImageProcessor", "resample": code}
    preprocess, _ = read_transformers_preprocess(config)
    processor = ViTImageProcessorPil(resample=code)
    for photo in photos:
        reference = np.asarray(processor(photo)["pixel_values"][0])
        assert measure_difference(preprocess, photo, reference) < 1e-3


@pytest.mark.parametrize("config", TRANSFORMERS_CASES, ids=name_case)
def test_read_transformers_preprocess_when_saved_by_transformers_reads_the_same(config: dict[str, Any]) -> None:
    processor = getattr(import_transformers(), config["image_processor_type"])(
        **{k: v for k, v in config.items() if k != "image_processor_type"}
    )
    saved, notes = read_transformers_preprocess(json.loads(processor.to_json_string()))
    assert saved == read_transformers_preprocess(config)[0]
    assert notes == ()


def test_read_timm_preprocess_when_values_are_missing_takes_timms_defaults_and_says_so() -> None:
    timm = import_timm()
    preprocess, notes = read_timm_preprocess({"mean": None, "interpolation": ""})
    resolved = timm.data.resolve_data_config(pretrained_cfg={"architecture": "x"})
    assert preprocess == read_timm_preprocess(resolved)[0]
    for key in ("input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std"):
        assert any(f"{key} is not stored" in note for note in notes), key
    assert len(notes) == 6
    assert any("crop_pct is not stored; timm's default 0.875 is assumed" in note for note in notes)


def test_read_timm_preprocess_when_test_size_is_asked_for_takes_its_crop() -> None:
    cfg = TIMM | {"test_input_size": [3, 288, 288], "test_crop_pct": 1.0}
    assert read_timm_preprocess(cfg)[0].resize_height == 248
    at_test_size, _ = read_timm_preprocess(cfg, (288, 288))
    assert (at_test_size.height, at_test_size.resize_height) == (288, 288)
    assert read_timm_preprocess(cfg, (256, 256))[0].resize_height == 284


def test_read_transformers_preprocess_when_old_configuration_reads_its_spellings() -> None:
    old = {
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "ViTFeatureExtractor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 2,
        "size": 224,
    }
    preprocess, notes = read_transformers_preprocess(old)
    assert preprocess == read_transformers_preprocess({"image_processor_type": "ViTImageProcessorFast"})[0]
    assert [note.split()[1] for note in notes] == ["do_rescale", "rescale_factor"]


@pytest.mark.parametrize(
    ("model_type", "processor"),
    [("vit", "ViT"), ("deit", "DeiT"), ("swin", "ViT"), ("swinv2", "ViT"), ("dinov2", "Bit"), ("beit", "Beit")],
)
def test_read_transformers_preprocess_when_empty_takes_the_models_processor_and_says_so(
    model_type: str, processor: str
) -> None:
    import_transformers()
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    registered = IMAGE_PROCESSOR_MAPPING_NAMES[model_type]
    assert registered["torchvision"] == f"{processor}ImageProcessor"
    preprocess, notes = read_transformers_preprocess({}, model_type)
    assert preprocess == read_transformers_preprocess({"image_processor_type": f"{processor}ImageProcessor"})[0]
    assert notes[0] == f"preprocessing: no image processor is named; {processor}ImageProcessor is assumed"
    assert any("image_mean is not stored" in note for note in notes)


def test_read_transformers_preprocess_when_it_wraps_timm_reads_timms_configuration() -> None:
    wrapped = {"image_processor_type": "TimmWrapperImageProcessor", "pretrained_cfg": TIMM}
    assert read_transformers_preprocess(wrapped) == read_timm_preprocess(TIMM)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"interpolation": "random"}, "interpolation = 'random'"),
        ({"interpolation": 3}, "interpolation = 3"),
        ({"crop_mode": "corner"}, "crop_mode = 'corner'"),
        ({"crop_mode": []}, "crop_mode = []"),
        ({"crop_pct": -1}, "crop_pct = -1"),
        ({"crop_pct": float("nan")}, "crop_pct = nan"),
        ({"crop_pct": "0.9"}, "crop_pct = '0.9'"),
        ({"crop_pct": 1e-9}, "resize_height"),
        ({"crop_pct": 1e9}, "resize_height"),
        ({"mean": [0.5]}, "mean = [0.5]"),
        ({"mean": [0.5, float("inf"), 0.5]}, "mean"),
        ({"mean": [0.5, float("nan"), 0.5], "crop_mode": "border"}, "mean"),
        ({"std": [0.2, 0, 0.2]}, "std"),
        ({"std": [0.2, float("nan"), 0.2]}, "std"),
        ({"std": ["a", "b", "c"]}, "std"),
        ({"input_size": [1, 28, 28]}, "1 channels"),
        ({"input_size": [3, 0, 28]}, "input_size"),
        ({"input_size": 224}, "input_size"),
        ({"input_size": [3, 2.5, 28]}, "input_size"),
    ],
)
def test_read_timm_preprocess_when_setting_is_impossible_names_it(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_timm_preprocess(TIMM | changes)
    assert named in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"do_pad": True}, "do_pad"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"do_random_zoom": True}, "do_random_zoom"),
        ({"rescale_offset": True}, "rescale_offset"),
        ({"resample": 0}, "resample = 0"),
        ({"resample": 9}, "resample = 9"),
        ({"resample": "bicubic"}, "resample = 'bicubic'"),
        ({"resample": True}, "resample = True"),
        ({"size": {"shortest_edge": 224}}, "without do_center_crop"),
        ({"size": {"longest_edge": 224}}, "size ="),
        ({"size": {"shortest_edge": 224, "longest_edge": 500}}, "size ="),
        ({"size": {"height": 224}}, "size ="),
        ({"size": {"height": 0, "width": 224}}, "size ="),
        ({"size": [1, 2, 3]}, "size ="),
        ({"do_resize": False}, "do_resize"),
        ({"do_center_crop": True}, "crop_size"),
        ({"do_center_crop": True, "crop_size": {"shortest_edge": 3}}, "crop_size"),
        ({"do_normalize": "yes"}, "do_normalize = 'yes'"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"image_std": [0, 0, 0]}, "std"),
        ({"image_std": [float("nan")] * 3}, "std"),
        ({"rescale_factor": 0}, "rescale_factor"),
    ],
)
def test_read_transformers_preprocess_when_setting_is_unsupported_names_it(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_transformers_preprocess({"image_processor_type": "ViTImageProcessor"} | changes)
    assert named in caught.value.message
    assert caught.value.hint


def test_read_transformers_preprocess_when_many_faults_lists_all() -> None:
    config = {"image_processor_type": "ViTImageProcessor", "do_pad": True, "resample": 7, "image_std": [1, 2]}
    with pytest.raises(CheckpointError) as caught:
        read_transformers_preprocess(config)
    assert all(key in caught.value.message for key in ("do_pad", "resample", "image_std"))
    assert "cannot be left out without changing the answers" in caught.value.hint  # which "correct it" would lead to


@pytest.mark.parametrize(
    ("config", "model_type"),
    [
        ({"image_processor_type": "DetrImageProcessor"}, None),
        ({}, None),
        ({}, "bert"),
        ({"image_processor_type": 3}, "vit"),
    ],
)
def test_read_transformers_preprocess_when_processor_is_unknown_lists_the_known(
    config: dict[str, Any], model_type: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_transformers_preprocess(config, model_type)
    assert "ViTImageProcessor" in caught.value.hint
