"""OWL-ViT and OWLv2 with labels that are given as texts: the whole model of transformers is the reference."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.onnx_file.whole import WholeModule, run_parts
from edgevit.checkpoints.texts.label_texts import LabelTexts
from edgevit.core.errors import CheckpointError, DataError
from edgevit.core.target import ExportForm
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model
from edgevit.models.model import Model
from edgevit.models.vit import ViTConfig
from edgevit.runtime.tasks.answer_image import answer_image
from edgevit.runtime.tasks.answers import Detections
from tests.support.export_forms import EVERYTHING
from tests.support.owl_models import NAMES, OWLS, SIDE, OwlKind, ask_owl, find_by_transformers, save_owl
from tests.support.photos import make_photo
from tests.support.reference import relative_error
from tests.support.small_graphs import run_graph

OUTPUTS = ("logits", "pred_boxes")
TEXTS = [f"a photo of a {name}" for name in NAMES]
TOLERANCE = 1e-4


@functools.cache
def read_owl(kind: OwlKind, size: tuple[int, int] | None = None) -> Model:
    return read_checkpoint(save_owl(kind)[0], texts=LabelTexts(NAMES), image_size=size)


def draw(height: int = SIDE, width: int = SIDE) -> torch.Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(2))


def check_outputs(model: Model, pixels: torch.Tensor, theirs: object) -> None:
    assert isinstance(model.module, WholeModule)
    for name, ours in zip(OUTPUTS, run_parts(model.module, pixels.numpy()), strict=True):
        wanted = getattr(theirs, name)
        assert wanted.std() > 0.1
        assert relative_error(torch.from_numpy(ours), wanted) <= TOLERANCE


@pytest.mark.parametrize("kind", OWLS)
def test_outputs_with_labels_at_the_build_are_those_of_the_whole_model(kind: OwlKind) -> None:
    model = read_owl(kind)
    assert isinstance(model.module, WholeModule)
    assert isinstance(model.module.encoder.config, ViTConfig)
    assert model.module.encoder.config.norm_before_blocks
    assert model.module.encoder.config.activation == "quick_gelu"
    assert [spec.shape for spec in model.outputs] == [("batch", 16, 4), ("batch", 16, 4)]
    assert (model.task.name, model.labels) == ("detect", NAMES)
    assert "an encoder was found whole: ViT, 3 blocks" in model.source.notes[0]
    assert "the head is 4 labels as texts, put into 'a photo of a {}'" in model.source.notes
    _, theirs, processor = save_owl(kind)
    check_outputs(model, draw(), ask_owl(theirs, processor, draw(), TEXTS))


def test_outputs_at_another_size_have_interpolated_positions() -> None:
    _, theirs, processor = save_owl("OwlViT")
    pixels = draw(96, 112)
    wanted = ask_owl(theirs, processor, pixels, TEXTS, other_size=True)
    check_outputs(read_owl("OwlViT", (96, 112)), pixels, wanted)


def test_outputs_with_several_templates_compare_with_their_mean() -> None:
    folder, theirs, processor = save_owl("OwlViT")
    texts = LabelTexts(("tench",), ("a photo of the {}", "{}"))
    model = read_checkpoint(folder, texts=texts)
    assert model.source.templates == texts.templates
    (mean,) = theirs.owlvit.get_text_features(
        **processor(text=[["a photo of the tench", "tench"]], return_tensors="pt")
    ).pooler_output.split(2)
    mean = (mean / mean.norm(dim=1, keepdim=True)).mean(dim=0)
    patches = theirs.image_embedder(draw())[0].flatten(1, 2)
    (wanted, _) = theirs.class_predictor(patches, mean[None, None])
    assert isinstance(model.module, WholeModule)
    assert relative_error(torch.from_numpy(run_parts(model.module, draw().numpy())[0]), wanted) <= TOLERANCE


@pytest.mark.parametrize("kind", OWLS)
@pytest.mark.parametrize("form", [ExportForm(), EVERYTHING], ids=["default", "everything"])
@pytest.mark.parametrize("size", [(90, 150), (131, 77)])
def test_answer_to_a_photo_is_transformers(kind: OwlKind, form: ExportForm, size: tuple[int, int]) -> None:
    model, photo = read_owl(kind), make_photo(*size)
    assert model.answer is not None
    graph, _ = optimize_graph(export_model(model, form)[0])
    image = model.preprocess.apply(photo)
    found = dict(zip(OUTPUTS, run_graph(graph, [image[None]], list(OUTPUTS)), strict=True))
    ours = answer_image(model.answer, model.preprocess, found, size, labels=model.labels)

    _, theirs, processor = save_owl(kind)
    if kind == "OwlViT":
        pixels = processor(images=photo, return_tensors="pt")["pixel_values"]
    else:  # whose processor resizes in another way; tests/checkpoints/transformers/test_dense_tasks.py compares pixels
        pixels = model.preprocess.normalize(image).transpose(2, 0, 1)[None]
    result = ask_owl(theirs, processor, np.ascontiguousarray(pixels, np.float32), TEXTS)
    wanted = find_by_transformers(processor, result, photo, list(NAMES), threshold=0.1)
    assert isinstance(ours, Detections)
    assert len(ours.boxes) > 3
    np.testing.assert_array_equal(ours.classes, wanted["labels"])
    assert [NAMES[index] for index in ours.classes] == wanted["names"]
    np.testing.assert_allclose(ours.scores, wanted["scores"], atol=1e-5)
    np.testing.assert_allclose(ours.boxes, wanted["boxes"], atol=1e-4 * max(size))


@pytest.mark.parametrize("kind", OWLS)
def test_folder_without_labels_is_refused(kind: OwlKind) -> None:
    with pytest.raises(CheckpointError, match="finds what texts say, and no labels are given") as caught:
        read_checkpoint(save_owl(kind)[0])
    assert (
        caught.value.hint
        == "give --labels FILE, a label a line: they become the classes of its head, and nothing else is built of it"
    )


def test_size_that_patches_do_not_fill_is_refused_with_the_folder() -> None:
    source = save_owl("OwlViT")[0]
    with pytest.raises(
        CheckpointError, match=r"OwlViTForObjectDetection of .* at 70 × 70 pixels gives no logits"
    ) as caught:
        read_checkpoint(source, image_size=(70, 70), texts=LabelTexts(NAMES))
    assert "model.onnx" not in caught.value.message
    assert "multiples of its patch" in caught.value.hint


def test_label_that_is_longer_than_the_text_tower_takes_is_refused() -> None:
    with pytest.raises(DataError, match="takes 32 tokens, which are too few for 1 text of labels"):
        read_checkpoint(save_owl("OwlViT")[0], texts=LabelTexts(("church", "tench " * 30)))


def test_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = copy_owl(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="has no tokenizer for the texts of labels"):
        read_checkpoint(folder, texts=LabelTexts(NAMES))


@pytest.mark.parametrize(
    ("file", "change", "match"),
    [
        ("config.json", {"text_config": {"vocab_size": "many"}}, "vocab_size"),
        ("preprocessor_config.json", {"do_center_crop": True}, "do_center_crop"),
        ("preprocessor_config.json", {"image_processor_type": "YolosImageProcessor"}, "not supported with this model"),
        ("config.json", {"architectures": ["OwlViTModel"]}, "'owlvit' model"),
    ],
)
def test_folder_that_says_what_is_not_known_is_refused(
    tmp_path: Path, file: str, change: dict[str, object], match: str
) -> None:
    path = copy_owl(tmp_path) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=match):
        read_checkpoint(path.parent, texts=LabelTexts(NAMES))


def test_folder_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = copy_owl(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    del tensors["class_head.logit_scale.weight"]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"class_head\.logit_scale\.weight"):
        read_checkpoint(path.parent, texts=LabelTexts(NAMES))


def copy_owl(folder: Path) -> Path:
    return Path(shutil.copytree(save_owl("OwlViT")[0], folder / "owl"))
