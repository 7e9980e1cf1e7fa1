"""Importance of tokens: against finite differences, and what a quantiser makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgevit.core.quantization import Quantization
from edgevit.core.target import ExportForm
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model, fold_model
from edgevit.quantize.token_importance import measure_importance
from tests.support.quantized import fit_sites
from tests.support.small_graphs import CONFIGS, make_pixels
from tests.support.small_models import make_model

FORM = ExportForm()


@pytest.mark.parametrize("family", ["vit", "swin"])
def test_measure_importance_names_the_sites_of_the_graph_and_their_tokens(family: str) -> None:
    model = make_model(CONFIGS[family])
    pixels = make_pixels(family, 3)
    found = measure_importance(model, FORM, pixels)
    graph = optimize_graph(export_model(model, FORM)[0])[0]
    linears = {site.name for site in graph.sites() if "/" not in site.name}
    assert set(found) == linears
    assert all(rows.shape[0] == 3 and (rows >= 0).all() and rows.any() for rows in found.values())
    assert not any(p.requires_grad or p.grad is not None for p in model.module.parameters())


def test_measure_importance_is_the_square_of_what_an_error_does_to_the_logits() -> None:
    model = make_model(CONFIGS["vit"])
    pixels = make_pixels("vit", 1)
    site, token = "blocks.0.mlp.fc2", 5
    found = measure_importance(model, FORM, pixels, seed=3)[site][0, token]
    folded, _ = fold_model(model, FORM)
    part = dict(folded.named_modules())[f"model.{site}"]
    signs = torch.randint(0, 2, (1, model.classes), generator=torch.Generator().manual_seed(3)) * 2 - 1
    step, squares = 1e-2, []
    for channel in range(CONFIGS["vit"].width):
        shift = torch.zeros(1, 1, CONFIGS["vit"].width)
        shift[..., channel] = step
        answers = []
        for sign in (1, -1):

            def push(_module, _inputs, output, sign=sign, shift=shift):
                moved = output.clone()
                moved[:, token] += sign * shift[0, 0]
                return moved

            handle = part.register_forward_hook(push)
            with torch.inference_mode():
                answers.append(float((folded(torch.from_numpy(pixels[0])) * signs).sum()))
            handle.remove()
        squares.append(((answers[0] - answers[1]) / (2 * step)) ** 2)
    assert found == pytest.approx(np.mean(squares), rel=0.02)


def test_plan_quantization_with_importance_moves_the_ranges_of_linears_alone() -> None:
    """Without it the observer is ``output``; with it, ranges of Linears' inputs move and nothing else's."""
    model = make_model(CONFIGS["vit"])
    graph = optimize_graph(export_model(model, FORM)[0])[0]
    pixels = make_pixels("vit", 16)
    importance = measure_importance(model, FORM, pixels)
    recipe = Quantization(observer="loss")
    plain = fit_sites(graph, pixels, recipe, "openvino")[1]
    same = fit_sites(graph, pixels, Quantization(), "openvino")[1]
    weighted = fit_sites(graph, pixels, recipe, "openvino", importance=importance)[1]
    assert {n: s.grids for n, s in plain.sites.items()} == {n: s.grids for n, s in same.sites.items()}
    changed = [n for n in plain.sites if plain.sites[n].grids != weighted.sites[n].grids]
    assert changed
    assert all("/" not in name for name in changed)  # products keep their whole range
