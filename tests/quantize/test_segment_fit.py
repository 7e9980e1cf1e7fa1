"""What a segment's sites are fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgevit.core.quantization import Quantization
from edgevit.quantize import segment_fit
from edgevit.quantize.methods import linear_fit
from edgevit.quantize.plan import SitePlan
from tests.support.quantized import fit_sites
from tests.support.small_graphs import find_node, make_graph, make_pixels, run_graph


@pytest.mark.parametrize("family", ["vit", pytest.param("swin", marks=pytest.mark.slow)])
def test_linears_when_fitted_see_rows_of_their_own_input(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row has the channels of one token: behind attention's heads too, whose product has them in another order."""
    graph, images = make_graph(family), make_pixels(family, 4)
    fitted: dict[str, np.ndarray] = {}
    fit = linear_fit.fit_linears

    def spy(group: Sequence[ir.Node], tokens: np.ndarray, *args: Any, **options: Any) -> tuple[SitePlan, ...]:
        fitted.update({node.name or "": tokens.copy() for node in group})
        return fit(group, tokens, *args, **options)

    monkeypatch.setattr(segment_fit, "fit_linears", spy)
    fit_sites(graph, images, Quantization(products="float", float_share=0.0, equalize=False), "openvino")
    assert any(name.endswith("attn.proj") for name in fitted)
    for name, tokens in fitted.items():
        node = find_node(graph, name)
        value = node.inputs[0]
        assert value is not None
        if name == "patch_embed.proj":
            continue  # reads the image, which is the graph's input and no value inside it
        while (mover := value.producer()) is not None and mover.op_type in ("Slice", "Gather"):
            value = mover.inputs[0]  # which takes tokens as a whole; Linears of one tensor are fitted together
            assert value is not None
        rows = run_graph(graph, images, (value.name or "",))[0].reshape(-1, tokens.shape[1])
        distance = np.abs(tokens[::7, None] - rows[None]).max(axis=2).min(axis=1)
        assert distance.max() <= 1e-4 * np.abs(rows).max(), name
