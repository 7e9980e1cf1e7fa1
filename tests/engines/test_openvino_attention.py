"""Attentions as OpenVINO fuses them, in every form and type, against numpy in float64; faults that are known apart.

The matrix is computed under the widest instructions of this machine, and by ``make test-slow`` in full and under each.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import openvino
import pytest

from edgevit.core.isa import TIERS, TierName, list_tiers
from scripts import check_openvino_attention
from scripts.check_openvino_attention import CASES, Finding, check_attentions, list_types
from scripts.lone_attention import LoneAttention, make_attention
from tests.support.under_tier import run_under_tier

MEASURED = "2026.4.1"  # the version that the faults were found in

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="kernels of x86-64")


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    return list(check_attentions())


def show(findings: list[Finding]) -> str:
    return "\n".join(f"{f.executed} {f.case.codes} {f.case}: {f.sqnr_db:.1f} dB, {f.reason}" for f in findings)


def assert_as_known(findings: list[Finding], share: float = 1.0) -> None:
    """All that nothing is known against are right, and of the others a share is wrong, unless OpenVINO was mended."""
    strays = [f for f in findings if f.reason is None and not f.right]
    assert not strays, show(strays)
    if openvino.__version__.startswith(MEASURED):
        known = [f for f in findings if f.reason is not None]
        mended = [f for f in known if f.right]
        assert len(mended) <= (1 - share) * len(known), show(mended)


def test_attentions_are_right_unless_something_is_known_against_them(findings):
    assert len(findings) == len(CASES) * len(list_types())
    assert_as_known(findings)


def test_forms_that_edgevit_exports_are_right_in_every_type(findings):
    """Keys that are hidden by a constant in full; position biases of windows; the class token alone; INT8."""
    wanted = {
        LoneAttention(1, 66, 4, 16, bias=(1, 4, 1, 66)),
        LoneAttention(7, 66, 4, 16, bias=(1, 4, 7, 66)),
        LoneAttention(16, 16, 3, 16, 4, bias=(4, 3, 16, 16)),
        LoneAttention(198, 198),
        LoneAttention(198, 198, codes="u8"),
        LoneAttention(16, 16, 16, 16, projection="packed"),
        LoneAttention(16, 16, 16, 16, 4, codes="u8", bias=(4, 16, 16, 16)),
    }
    found = [f for f in findings if f.case in wanted]
    assert len(found) == len(wanted) * len(list_types())
    assert all(f.right and f.reason is None for f in found), show(found)


def test_the_check_ends_by_what_it_found(monkeypatch, capsys):
    def end(*findings: Finding) -> int:
        monkeypatch.setattr(check_openvino_attention, "check_attentions", lambda: iter(findings))
        return check_openvino_attention.main()

    case = LoneAttention(3, 66)
    right, known = Finding(case, "f32", 120.0, None), Finding(case, "bf16", 3.0, "it is wrong")
    mended, stray = Finding(case, "bf16", 45.0, "it was wrong"), Finding(case, "bf16", -np.inf, None)
    assert end(right, known, mended) == 1
    assert end(right, mended) == 0
    assert end(right, known, stray) == 2
    assert "1 right, 1 wrong, known, 1 WRONG, NOT KNOWN" in capsys.readouterr().out


def test_numpys_reference_is_torchs():
    """The generator's own arithmetic, held against another's."""
    import onnxruntime
    import torch
    from torch.nn import functional

    case = LoneAttention(5, 9, 3, 8, 2, bias=(1, 3, 5, 9), scale=True)
    model, feed, expected = make_attention(case)
    weights = {t.name: torch.from_numpy(np.array(v)) for t, v in read_constants(model)}
    q, k, v = (
        (torch.from_numpy(feed[source]) @ weights[f"{name}/weight"]).reshape(2, -1, 3, 8).transpose(1, 2)
        for source, name in (("x", "q"), ("y", "k"), ("y", "v"))
    )
    context = functional.scaled_dot_product_attention(q, k, v, attn_mask=weights["bias"], scale=0.75)
    result = context.transpose(1, 2).reshape(2, 5, 24) @ weights["result/weight"]
    np.testing.assert_allclose(expected, result.numpy(), atol=1e-5)
    for codes in (None, "u8", "i8"):
        for projection in ("separate", "normed") if codes else ("separate", "normed", "packed"):
            case = LoneAttention(9, 9, 3, 8, codes=codes, projection=projection)
            model, feed, expected = make_attention(case)
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            options.add_session_config_entry("session.disable_quant_qdq", "1")
            session = onnxruntime.InferenceSession(model.SerializeToString(), options)
            found = session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})[0]
            assert abs(found - expected).max() < (0.05 if codes else 1e-5) * abs(expected).max()


def read_constants(model):
    from onnx import numpy_helper

    return [(tensor, numpy_helper.to_array(tensor)) for tensor in model.graph.initializer]


SIZES = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 49, 64, 144, 196, 197, 198, 257, 577)
WIDTHS, HEADS = (16, 24, 32, 48, 64, 80, 96), (1, 2, 3, 6, 12)


def draw_cases(count: int, seed: int = 0) -> list[LoneAttention]:
    """Sizes, forms and biases at random; every fifth has as many queries as heads."""
    random = np.random.default_rng(seed)
    cases: list[LoneAttention] = []
    while len(cases) < count:
        keys, heads, width = (int(random.choice(values)) for values in (SIZES, HEADS, WIDTHS))
        queries = heads if len(cases) % 5 == 0 else int(random.choice(SIZES))
        batch = int(random.choice((1, 1, 1, 2, 4)))
        codes: Any = [None, None, "u8", "i8"][int(random.integers(4))]
        projections = ["separate", "separate", "normed"] + (["packed"] if queries == keys and codes is None else [])
        full = (batch, heads, queries, keys)
        bias = tuple(1 if random.random() < 0.4 else size for size in full) if random.random() < 0.7 else None
        projection: Any = projections[int(random.integers(len(projections)))]
        scale, moved = bool(random.integers(2)), bool(random.random() < 0.8)
        # Of two or three keys and as many queries a wrong result may be near the right one by chance.
        if keys > 4:
            cases.append(LoneAttention(queries, keys, heads, width, batch, bias, scale, codes, projection, moved))
    return cases


def check_drawn(count: int, seed: int) -> list[Finding]:
    return list(check_attentions(draw_cases(count, seed)))


@pytest.mark.slow
@pytest.mark.parametrize("tier", list_tiers())
def test_attentions_at_random_are_right_unless_something_is_known_against_them(tier: TierName):
    # The widest instructions have one more type, and the faults
    count = 300 if TIERS[tier].bf16 else 100
    # Without VNNI some INT8 attentions of the i8 kind, which edgevit has none of, come out right all the same
    assert_as_known(run_under_tier(tier, check_drawn, count, 1), share=0.6)
