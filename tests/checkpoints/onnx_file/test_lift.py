"""Files of three publishers by two exporters become canonical modules that answer as the publisher's own do."""

from __future__ import annotations

import pytest
import torch

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.onnx_file.module import ForeignModule
from edgevit.core.target import ExportForm
from edgevit.measure.reference import run_module
from edgevit.models import SwinConfig, ViTConfig
from edgevit.models.folds import apply_folds
from edgevit.models.model import Model
from edgevit.models.pixels import PixelModel, copy_structure
from tests.support.foreign_exports import MODELS, Export, Exporter, export, read
from tests.support.reference import relative_error

# transformers' Swin cannot be exported by dynamo with an open batch, and takes long with a fixed one.
DYNAMO = ("timm_vit", "timm_swin", "torchvision_vit", "torchvision_swin", "transformers_vit")
FILES: list[tuple[str, Exporter]] = [(name, "script") for name in MODELS] + [(name, "dynamo") for name in DYNAMO]


def assert_equal_answers(file: Export, model: Model) -> None:
    images = torch.randn(3, 3, file.size, file.size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = file.module(images)
        actual = model.module(images)
    expected = expected if isinstance(expected, torch.Tensor) else expected.logits
    assert relative_error(actual, expected) <= 1e-5


@pytest.mark.parametrize(("name", "exporter"), FILES)
def test_lifted_module_answers_as_the_publishers_own(name: str, exporter: Exporter) -> None:
    file, model = export(name, exporter), read(name, exporter)
    assert_equal_answers(file, model)
    assert model.passes[-1].name == "recover_module"
    assert model.passes[-1].skipped == ()


@pytest.mark.parametrize(
    "name", ["timm_vit", pytest.param("timm_swin", marks=pytest.mark.slow), "torchvision_swin", "transformers_vit"]
)
def test_file_that_dynamo_did_not_optimise_is_the_canonical_model(name: str) -> None:
    file = export(name, "dynamo", optimize=False)
    model = read_checkpoint(file.path)
    assert not isinstance(model.module, ForeignModule), model.source.notes[0]
    assert_equal_answers(file, model)


@pytest.mark.parametrize(("name", "exporter"), FILES)
def test_lifted_module_is_in_the_canonical_family_and_size(name: str, exporter: Exporter) -> None:
    config = read(name, exporter).config
    assert config.classes == 10
    if "swin" in name:
        assert isinstance(config, SwinConfig)
        assert (config.depths, config.heads, config.width) == ((2, 2), (2, 4), 32)
        assert config.window == ((3, 3) if "padded" in name else (4, 4))
    else:
        assert isinstance(config, ViTConfig)
        assert (config.depth, config.heads, config.width, config.patch_size) == (2, 3, 48, (8, 8))
        assert config.distillation_head == (name in ("timm_deit_distilled", "transformers_deit"))
        # transformers' DeiT with one head carries the distillation token along and reads it nowhere: a register.
        assert config.register_tokens == {"transformers_deit_alone": 1}.get(name, 4 if "registers" in name else 0)
        assert config.pool == ("mean" if "mean" in name else "token_mean" if "dinov2" in name else "token")


@pytest.mark.parametrize("name", ["timm_vit", "torchvision_swin", "transformers_deit"])
def test_every_fold_applies_to_a_lifted_module_as_to_a_checkpoints(name: str) -> None:
    model = read(name, "script")
    pixels = PixelModel(copy_structure(model.module), model.preprocess).eval()
    records = {record.name: record for record in apply_folds(pixels, ExportForm())}
    assert len(records["layer_norm_affine"].applied) >= 4
    assert records["input_normalization"].applied == ("patch_embed",)
    size = model.image_size
    image = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        folded = pixels(image)
    assert relative_error(folded, torch.from_numpy(run_module(model)(image.numpy()))) <= 1e-4
