"""A plain LoRA is merged into its base model; what is no plain LoRA is called what it is."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from tests.support.reference import import_transformers, randomise, relative_error

RANK, ALPHA = 4, 16
LEAD = "base_model.model."
QUERY = "attention.attention.query"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    transformers = import_transformers()
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, num_labels=5
    )
    randomise(transformers.ViTForImageClassification(config)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def draw_pairs(base: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B by the module's name."""
    generator = torch.Generator().manual_seed(7)
    names = [n.removesuffix(".weight") for n in load_file(base / "model.safetensors") if n.endswith(f"{QUERY}.weight")]
    return {n: (torch.randn(RANK, 32, generator=generator), torch.randn(32, RANK, generator=generator)) for n in names}


def write_adapter(folder: Path, base: Path | None, pairs: dict[str, tuple[Tensor, Tensor]], **config: Any) -> None:
    folder.mkdir(exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, (first, second) in pairs.items():
        tensors |= {f"{LEAD}{name}.lora_A.weight": first, f"{LEAD}{name}.lora_B.weight": second}
    tensors[f"{LEAD}classifier.weight"] = torch.full((5, 32), 0.25)  # modules_to_save
    save_file(tensors, folder / "adapter_model.safetensors")
    data = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, **config}
    if base is not None:
        data["base_model_name_or_path"] = str(base)
    (folder / "adapter_config.json").write_text(json.dumps(data))


def is_same(module: nn.Linear, weight: Tensor) -> bool:
    return module.weight.shape == weight.shape and torch.equal(module.weight, weight)


def run_with_lora(base: Path, pairs: dict[str, tuple[Tensor, Tensor]], scale: float, pixels: Tensor) -> Tensor:
    """transformers' own module, with the low-rank path beside each layer as PEFT runs it before merging."""
    theirs = import_transformers().ViTForImageClassification.from_pretrained(base).eval()
    theirs.classifier.weight = nn.Parameter(torch.full((5, 32), 0.25))

    def add(first: Tensor, second: Tensor) -> Any:
        return lambda module, inputs, output: output + scale * (inputs[0] @ first.T @ second.T)

    stored = load_file(base / "model.safetensors")
    for name, pair in pairs.items():  # by their weights: version 5's modules have other names than its files
        (module,) = (m for m in theirs.modules() if isinstance(m, nn.Linear) and is_same(m, stored[f"{name}.weight"]))
        module.register_forward_hook(add(*pair))
    with torch.inference_mode():
        return theirs(pixels).logits


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, ALPHA / RANK),
        ({"use_rslora": True}, ALPHA / math.sqrt(RANK)),
        ({"alpha_pattern": {"query": 2, "attention.query": 5, "key": 7}}, 2 / RANK),
    ],
    ids=["plain", "rank-stabilised", "alpha-by-name"],
)
def test_merged_adapter_computes_what_runs_beside_its_base(
    base: Path, config: dict[str, Any], scale: float, tmp_path: Path
) -> None:
    pairs = draw_pairs(base)
    write_adapter(tmp_path / "adapter", base, pairs, **config)
    model = read_checkpoint(tmp_path / "adapter")
    assert any("a LoRA adapter is merged into 2 layers, and 1 tensor of" in note for note in model.source.notes)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = model.module(pixels)
    assert relative_error(found, run_with_lora(base, pairs, scale, pixels)) <= 1e-5
    assert model.source.sha256 != read_checkpoint(base).source.sha256


@pytest.mark.parametrize("kind", ["ViT", "DeiT", "Dinov2", "Swin", "Swinv2"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True, "modules_to_save": ["classifier"]},
        {"rank_pattern": {"q_proj": 2, "query": 2}, "alpha_pattern": {"q_proj": 7, "query": 7}},
    ],
    ids=["plain", "rank-stabilised-with-its-head", "by-name"],
)
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # which PEFT still reads
@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys")  # one of the two names of each version
def test_adapter_that_peft_saved_computes_what_peft_merges(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    transformers, peft = import_transformers(), pytest.importorskip("peft")
    swin = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "patch_size": 2}
    vit = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    sizes = swin if kind.startswith("Swin") else {**vit, "patch_size": 8}
    config = getattr(transformers, f"{kind}Config")(**sizes, image_size=32, num_labels=5)
    theirs = randomise(getattr(transformers, f"{kind}ForImageClassification")(config))
    theirs.save_pretrained(tmp_path / "base")
    layers = peft.LoraConfig(r=4, lora_alpha=9, target_modules=r".*(q|v)_proj|.*(query|value)|.*fc1", **options)
    adapted = peft.get_peft_model(theirs, layers)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # B is zero where training begins
        for name, value in adapted.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                value.copy_(0.2 * torch.randn(value.shape, generator=generator))
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    adapted.save_pretrained(tmp_path / "adapter")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before, wanted = (
            theirs_logits(tmp_path / "base", kind, pixels),
            adapted.merge_and_unload().eval()(pixels).logits,
        )
        found = read_checkpoint(tmp_path / "adapter").module(pixels)
    assert relative_error(found, wanted) <= 1e-5
    assert relative_error(before, wanted) > 1e-2  # the adapter matters


@pytest.mark.parametrize("kind", ["ViT", "DeiT", "Dinov2", "Swin", "Swinv2"])
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_adapter_with_its_own_head_on_a_base_that_has_none_computes_what_peft_merges(kind: str, tmp_path: Path) -> None:
    """As most are trained: a backbone that was pretrained without these classes, and ``modules_to_save``."""
    transformers, peft = import_transformers(), pytest.importorskip("peft")
    swin = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "patch_size": 2}
    vit = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    sizes = swin if kind.startswith("Swin") else {**vit, "patch_size": 8}
    config = getattr(transformers, f"{kind}Config")(**sizes, image_size=32)
    randomise(getattr(transformers, f"{kind}Model")(config)).save_pretrained(tmp_path / "base")
    trained = getattr(transformers, f"{kind}ForImageClassification")
    theirs = trained.from_pretrained(tmp_path / "base", num_labels=7)
    layers = peft.LoraConfig(target_modules=r".*(q|v)_proj|.*(query|value)", modules_to_save=["classifier"])
    adapted = peft.get_peft_model(theirs, layers)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                value.copy_(0.2 * torch.randn(value.shape, generator=generator))
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    adapted.save_pretrained(tmp_path / "adapter")
    pixels = torch.randn(2, 3, 32, 32, generator=generator)
    model = read_checkpoint(tmp_path / "adapter")
    with torch.inference_mode():
        wanted = adapted.merge_and_unload().eval()(pixels).logits
        found = model.module(pixels)
    assert model.classes == 7
    assert relative_error(found, wanted) <= 1e-5


def test_module_that_was_trained_whole_and_is_no_head_must_be_in_the_base(base: Path, tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", base, draw_pairs(base))
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({**load_file(file), f"{LEAD}vit.extra.weight": torch.ones(3)}, file)
    with pytest.raises(CheckpointError, match=r"vit\.extra\.weight: not in the base model"):
        read_checkpoint(tmp_path / "adapter")


def theirs_logits(folder: Path, kind: str, pixels: Tensor) -> Tensor:
    theirs = getattr(import_transformers(), f"{kind}ForImageClassification").from_pretrained(folder).eval()
    return theirs(pixels).logits


def test_adapter_beside_its_base_in_one_folder_is_merged(base: Path, tmp_path: Path) -> None:
    pairs = draw_pairs(base)
    write_adapter(tmp_path / "apart", base, pairs)
    shutil.copytree(base, tmp_path / "together")
    write_adapter(tmp_path / "together", None, pairs)
    wanted, found = (read_checkpoint(tmp_path / name).module.state_dict() for name in ("apart", "together"))
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_model_saved_with_layers_beside_their_base_is_merged_where_its_scale_is_known(
    base: Path, tmp_path: Path
) -> None:
    """Case 16."""
    pairs = draw_pairs(base)
    write_adapter(tmp_path / "apart", base, pairs)
    tensors: dict[str, Tensor] = {}
    for name, value in load_file(base / "model.safetensors").items():
        module, _, end = name.rpartition(".")
        tensors[f"{LEAD}{module}.base_layer.{end}" if module in pairs else f"{LEAD}{name}"] = value
    tensors |= {
        f"{LEAD}{n}.lora_{part}.default.weight": v
        for n, pair in pairs.items()
        for part, v in zip("AB", pair, strict=True)
    }
    tensors[f"{LEAD}classifier.modules_to_save.default.weight"] = torch.full((5, 32), 0.25)
    folder = tmp_path / "inside"
    folder.mkdir()
    shutil.copy(base / "config.json", folder)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"LoRA layers that are not merged, and no adapter_config\.json with it"):
        read_checkpoint(folder)
    shutil.copy(tmp_path / "apart/adapter_config.json", folder)
    wanted, found = (read_checkpoint(path).module.state_dict() for path in (tmp_path / "apart", folder))
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_adapter_that_is_named_by_its_file_is_merged_as_its_folder(base: Path, tmp_path: Path) -> None:
    """Case 16: it was called a bare weight file, to be given an architecture."""
    write_adapter(tmp_path / "adapter", base, draw_pairs(base))
    file = tmp_path / "adapter/adapter_model.safetensors"
    wanted, found = (read_checkpoint(path).module.state_dict() for path in (file.parent, file))
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    (file.parent / "renamed.safetensors").write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match="LoRA layers that are not merged") as caught:
        read_checkpoint(file.parent / "renamed.safetensors", arch="vit_tiny_patch16_224")
    assert f"name its folder {file.parent}" in caught.value.hint
    (file.parent / "adapter_config.json").unlink()
    for path in (file.parent / "renamed.safetensors", file):
        with pytest.raises(CheckpointError, match="LoRA layers that are not merged") as caught:
            read_checkpoint(path)
        assert "merge_and_unload" in caught.value.hint


def test_whole_model_beside_an_adapters_configuration_is_read_without_a_word_of_merging(
    base: Path, tmp_path: Path
) -> None:
    shutil.copytree(base, tmp_path / "m")
    (tmp_path / "m/adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    assert not any("LoRA" in note for note in read_checkpoint(tmp_path / "m").source.notes)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"peft_type": "IA3"}, "an adapter of kind IA3"),
        ({"use_dora": True}, "an adapter with DoRA"),
        ({"base_model_name_or_path": ""}, "its base model is not there"),
        ({"base_model_name_or_path": "../nowhere/at/all"}, "its base model is not at '../nowhere/at/all'"),
    ],
)
def test_what_cannot_be_merged_here_is_named(base: Path, config: dict[str, Any], what: str, tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", None, draw_pairs(base), **config)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "adapter")
    assert what in caught.value.message
    assert "merge_and_unload" in caught.value.hint


def test_adapter_of_another_base_lists_what_does_not_fit(base: Path, tmp_path: Path) -> None:
    pairs = {"vit.encoder.layer.9.query": (torch.ones(4, 32), torch.ones(32, 4)), **draw_pairs(base)}
    name = next(reversed(pairs))
    pairs[name] = (torch.ones(4, 48), torch.ones(48, 4))
    write_adapter(tmp_path / "adapter", base, pairs)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "adapter")
    assert "vit.encoder.layer.9.query: not in the base model" in caught.value.message
    assert f"{name}: for a weight of (48, 48), not (32, 32)" in caught.value.message
