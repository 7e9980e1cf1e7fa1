"""The benchmark's forms of attention: one function in each, and the table's verdict on made-up counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.attention_forms import FORMS, Form, restate_attention
from benchmarks.bench_forms import USED, list_beaten, render_table
from edgevit.core.target import load_target
from edgevit.measure.reference import generate_images
from edgevit.models.export import float_module, fold_model
from edgevit.models.swin import SwinConfig
from edgevit.models.vit import ViTConfig
from tests.support.small_models import SWIN, VIT, make_model

pytestmark = pytest.mark.bench


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("config", [VIT, SWIN], ids=["vit", "swin"])
def test_form_computes_what_the_unfolded_model_computes(config: ViTConfig | SwinConfig, form: Form) -> None:
    model = make_model(config)
    pixels = torch.from_numpy(generate_images(2, *model.config.image_size, 0))
    with torch.inference_mode():
        wanted = float_module(model)(pixels).numpy()
        stated = restate_attention(model, form)
        found = fold_model(stated, form.change(load_target("rtx-30").export))[0](pixels).numpy()
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_form_of_the_target_profiles_is_the_first() -> None:
    for name in ("rtx-30", "rtx-40", "rtx-50", "jetson", "nvidia-gpu"):
        export = load_target(name).export
        assert USED.change(export) == export


def make_row(form: Form, layers: int, **changes: object) -> dict[str, object]:
    row = {"model": "deit_tiny_patch16_224", "precision": "fp16", "form": form.name, "layers": layers}
    return {**row, "fused": 12, "blocks": 12, "moves": 0, **changes}


def test_form_is_better_by_fused_blocks_first_and_layers_second_and_moves_do_not_count() -> None:
    own = make_row(USED, 100, moves=12)
    assert list_beaten([own, make_row(FORMS[1], 100), make_row(FORMS[2], 90, fused=11)]) == []
    (text,) = list_beaten([own, make_row(FORMS[1], 99)])
    assert text.startswith(f"deit_tiny_patch16_224 fp16: {FORMS[1].name} has 99")
    refused = {**own, "form": FORMS[1].name, "refused": "it cannot"}
    assert list_beaten([own, refused]) == []
    table = render_table([own, refused], "a compiler")
    assert "| 100, 12 move |" in table
    assert "| refused: it cannot |" in table
    assert "No form is better anywhere than the first." in table
