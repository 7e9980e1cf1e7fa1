from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgevit.build.inspect import count_macs, inspect_source
from edgevit.cli.demo_models import MODELS
from edgevit.core.errors import CheckpointError
from edgevit.graph.carried import CARRIED
from edgevit.models.swin import Swin, SwinConfig
from edgevit.models.vit import ViT, ViTConfig
from tests.support.reference import count_flops
from tests.support.whole_transformers import build_whole, export_whole, make_pixels

MODULES = {
    "vit": (ViT(ViTConfig((48, 64), (16, 8), width=24, depth=2, heads=3, mlp_width=50, classes=7)), (48, 64)),
    "deit": (
        ViT(ViTConfig((32, 32), width=16, depth=1, heads=2, distillation_token=True, distillation_head=True)),
        (32, 32),
    ),
    # Windows that do not divide the grid, so that padding is counted too.
    "swin": (Swin(SwinConfig((40, 56), width=16, depths=(2, 2), heads=(2, 4), window=(4, 4), classes=5)), (40, 56)),
}


def count_independently(module, size):
    with count_flops() as counter, torch.inference_mode():
        module.eval()(torch.zeros(1, 3, *size))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", list(MODULES))
def test_macs_equal_those_that_torch_counts(name):
    module, size = MODULES[name]
    sites, attention = count_macs(module, size)
    assert sum(site.macs for site in sites) + attention == count_independently(module, size)


@pytest.mark.parametrize("name", list(MODULES))
def test_sites_are_all_linears_and_convolutions_under_their_names(name):
    module, size = MODULES[name]
    layers = {n: m for n, m in module.named_modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))}
    sites, _ = count_macs(module, size)
    assert sorted(site.name for site in sites) == sorted(layers)
    for site in sites:
        assert site.parameters == sum(p.numel() for p in layers[site.name].parameters())
        assert site.kind == ("Conv" if isinstance(layers[site.name], torch.nn.Conv2d) else "Linear")


def test_counting_leaves_the_module_as_it_was():
    module, size = MODULES["vit"]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    count_macs(module, size)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(m._forward_hooks for m in module.modules())


def test_size_that_the_module_does_not_take_is_an_error():
    with pytest.raises(CheckpointError, match="64 × 64"):
        count_macs(MODULES["vit"][0], (64, 64))


def test_inspect_of_a_checkpoint_tells_what_it_is():
    found = inspect_source(MODELS["vit"])
    assert found.kind == "checkpoint"
    assert (found.family, found.classes, found.input_size) == ("vit", 10, (32, 32))
    assert found.source.layout == "timm hub folder"
    assert found.parameters == 208_074
    assert found.labels == tuple("0123456789")
    assert "bicubic" in found.preprocess


def test_inspect_of_deit_tiny_counts_the_parameters_of_its_readme(assets):
    found = inspect_source(assets / "deit_tiny_imagenet")
    assert found.parameters == 5_717_416
    assert found.input_size == (224, 224)


@pytest.mark.parametrize(("file", "task"), [("vit", "classify"), ("backbone.weights.h5", "embed")])
def test_inspect_tells_the_task_that_a_build_takes_by_itself(file, task):
    assert inspect_source(Path(__file__).parents[1] / "checkpoints" / "keras" / file).task == task


def test_inspect_of_nothing_is_an_error(tmp_path):
    with pytest.raises(CheckpointError):
        inspect_source(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["vitpose", "yolos"])
def test_inspect_of_a_whole_model_counts_its_encoder_and_what_is_carried(name):
    found = inspect_source(export_whole(name, "script"))
    with count_flops() as counter, torch.inference_mode():
        build_whole(name)(pixel_values=make_pixels(name))
    assert found.macs == pytest.approx(counter.get_total_flops() // 2, rel=0.01)
    carried = [site.name for site in found.sites if site.name.startswith(CARRIED)]
    assert carried
    assert len(carried) < len(found.sites)
