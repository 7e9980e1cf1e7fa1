"""Where engines are judged, by target and machine, and what a failure under one of the tiers does to a variant."""

from __future__ import annotations

import dataclasses

import pytest

from edgevit.build.tiers import TierPlan, add_judgements, describe_plan, plan_tiers
from edgevit.core.isa import TierName
from edgevit.core.report.report import Accuracy, Parity, Variant
from edgevit.core.target import Budget, Target, load_target

CPU = load_target("intel-cpu")
MACHINES: dict[str, tuple[TierName, ...]] = {
    "EPYC": ("sse4.1", "avx2", "avx512", "avx512_vnni", "avx512_bf16"),
    "Xeon": ("sse4.1", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx"),
    "i5": ("sse4.1", "avx2"),
    "unknown": (),
}


def name(*tiers: TierName, backend: str = "openvino") -> Target:
    return dataclasses.replace(CPU, isa=tiers, backend=backend, title="a board")  # type: ignore[arg-type]


def plan(monkeypatch: pytest.MonkeyPatch, machine: str, target: Target) -> TierPlan:
    tiers = MACHINES[machine]
    monkeypatch.setattr("edgevit.build.tiers.list_tiers", lambda: tiers)
    monkeypatch.setattr("edgevit.build.tiers.read_tier", lambda: tiers[-1] if tiers else None)
    return plan_tiers(target)


@pytest.mark.parametrize(
    ("machine", "target", "expected"),
    [
        ("EPYC", CPU, TierPlan("avx512_bf16", floats="avx512_bf16")),
        ("unknown", CPU, TierPlan(None)),
        ("EPYC", name("avx2"), TierPlan("avx2", floats="avx2")),
        ("EPYC", name("avx2", "avx512_bf16"), TierPlan("avx2", ("avx512_bf16",), floats="avx2")),
        ("Xeon", name("avx512_bf16", "amx"), TierPlan("avx512_bf16", ("amx",), floats="avx512_bf16")),
        # AVX2-VNNI has no bfloat16, so what stands in for it tries none
        ("EPYC", name("avx2_vnni"), TierPlan("avx512_bf16", (), ("avx2_vnni",), "avx2_vnni")),
        ("EPYC", name("amx"), TierPlan("avx512_bf16", (), ("amx",), "avx512_bf16")),
        ("i5", name("amx"), TierPlan("avx2", (), ("amx",), "avx2")),
        ("i5", name("amx", "avx2"), TierPlan("avx2", (), ("amx",), "avx2")),
        ("EPYC", name("avx2", backend="onnxruntime"), TierPlan("avx512_bf16", (), ("avx2",), "avx2")),
    ],
)
def test_plan_tiers(monkeypatch: pytest.MonkeyPatch, machine: str, target: Target, expected: TierPlan) -> None:
    assert plan(monkeypatch, machine, target) == expected


def test_a_target_that_names_no_instructions_is_judged_here_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_plan(plan(monkeypatch, "EPYC", CPU), CPU) == ()


def test_the_warnings_name_what_is_absent_and_whose_latency_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    target = name("avx2", "amx")
    absent, limited = describe_plan(plan(monkeypatch, "EPYC", target), target)
    assert "AMX cannot be run here" in absent
    assert "AVX2" in limited
    assert "milliseconds" in limited
    (only,) = describe_plan(plan(monkeypatch, "EPYC", name("avx2_vnni")), target)
    assert "AVX2-VNNI cannot be run here" in only
    assert "judged under AVX512-BF16" in only
    assert "latencies" in only


PASSED, FAILED = Parity(4, 0.01, 4, 0.1, True, "fine"), Parity(4, 0.9, 1, 0.1, False, "relative error 0.9")


def judge(drop_points: float) -> Accuracy:
    return Accuracy(100, True, 100, 0.9, 1.0, top1=90, reference_top1=90, drop_points=drop_points)


def make(**changes: object) -> Variant:
    fine = Variant("int8", "int8", 1, parity=PASSED, choice_accuracy=judge(0.0), accuracy=judge(0.1))
    return dataclasses.replace(fine, **changes)  # type: ignore[arg-type]


def test_a_variant_that_is_fine_under_every_tier_keeps_its_own_figures() -> None:
    other = make(choice_accuracy=judge(0.2), accuracy=judge(0.3))
    assert add_judgements([make()], {"avx2": [other]}, Budget()) == (make(),)


def test_a_variant_that_fails_under_one_tier_fails() -> None:
    (variant,) = add_judgements([make()], {"avx2": [make(parity=FAILED)]}, Budget())
    assert variant.parity is not None
    assert not variant.parity.passed
    assert variant.parity.reason == "under AVX2: relative error 0.9"
    (variant,) = add_judgements(
        [make()], {"amx": [make()], "avx2": [make(status="NOT SUPPORTED", reason="no kernel")]}, Budget()
    )
    assert (variant.status, variant.reason) == ("NOT SUPPORTED", "under AVX2: no kernel")
    (variant,) = add_judgements([make()], {"avx2": [make(choice_accuracy=judge(3.0))]}, Budget())
    assert variant.choice_accuracy == judge(3.0)
    assert variant.accuracy == judge(0.1)
    (variant,) = add_judgements([make()], {"avx2": [make(accuracy=judge(3.0))]}, Budget())
    assert (variant.choice_accuracy, variant.accuracy) == (judge(0.0), judge(3.0))
