"""ONNX Runtime's kernels of aarch64, emulated, and those that x86 processors without VNNI get."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.arm.emulator import Answers, answer, answer_here, answer_on_arm, answer_on_x86, compare, start_on_arm
from tests.arm.instructions import count_instructions

pytestmark = pytest.mark.arm

ARM = ["cortex-a53", "cortex-a76", "max"]
"""Without dot products, with them (a Raspberry Pi 5), and with i8mm and bf16."""

X86 = ["Nehalem-v1", "Haswell-v1"]
"""SSE4.1 and AVX2; qemu 7.2 emulates neither VNNI nor AVX-512."""

# Other kernels add in another order, and a value that lies between two steps of a grid goes to the other one.
LEAST_DB = {"fp32": 90.0, "int8": 30.0}
# DeiT-Tiny's INT8 is 28 dB from the float model, and two kernels are as far from each other as from it.
LEAST_DB_DEIT = 20.0


def assert_alike(expected: Answers, found: Answers, least_db: float, what: str) -> None:
    same, sqnr_db = compare(expected, found)
    print(f"{what}: same top-1 on {same} of {len(expected.logits)}, {sqnr_db:.1f} dB")
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    assert same == len(expected.logits)
    assert sqnr_db >= least_db


@pytest.mark.parametrize("cpu", ARM)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("model", ["vit", "swin"])
def test_demo_on_arm_is_answered_as_here(
    root: Path,
    digits: tuple[Path, list[Path]],
    demo_bundles: Callable[..., Path],
    model: str,
    precision: str,
    cpu: str,
) -> None:
    bundle = demo_bundles(model, precision)
    found = answer_on_arm(root, cpu, bundle, digits[1])
    assert found.machine == "aarch64"
    what = f"demo {model} {precision}, ONNX Runtime, emulated {cpu}"
    assert_alike(answer_here(bundle, digits[1]), found, LEAST_DB[precision], what)


@pytest.mark.parametrize("cpu", ARM)
def test_deit_int8_on_arm_is_answered_as_here(root: Path, deit: tuple[Path, list[Path]], cpu: str) -> None:
    found = answer_on_arm(root, cpu, *deit)
    assert_alike(answer_here(*deit), found, LEAST_DB_DEIT, f"DeiT-Tiny int8, ONNX Runtime, emulated {cpu}")


@pytest.mark.parametrize(
    ("cpu", "products"), [("cortex-a53", set()), ("cortex-a76", {"udot"}), ("max", {"ummla"})], ids=ARM
)
def test_kernels_are_those_of_the_processor(
    root: Path,
    digits: tuple[Path, list[Path]],
    demo_bundles: Callable[..., Path],
    tmp_path: Path,
    cpu: str,
    products: set[str],
) -> None:
    """Otherwise equal answers would only show that one kernel equals itself. Nothing is computed in half floats."""
    listing = tmp_path / "listing"
    python = start_on_arm(root, cpu, "-d", "in_asm", "-D", str(listing))
    answer(demo_bundles("vit", "int8"), digits[1][:1], python, root / "wheels")
    found = count_instructions(listing)
    print(f"demo vit int8, ONNX Runtime, emulated {cpu}: {found}")
    assert set(found) == {"fmla 4s", *products}


@pytest.mark.parametrize("cpu", X86)
@pytest.mark.parametrize("model", ["vit", "swin"])
def test_int8_on_x86_without_vnni_does_not_saturate(
    root: Path, digits: tuple[Path, list[Path]], demo_bundles: Callable[..., Path], model: str, cpu: str
) -> None:
    """ONNX Runtime's own kernel for u8 × i8 adds pairs in 16 bits there: 15.5 dB for the ViT with AVX2."""
    bundle = demo_bundles(model, "int8")
    float_model = answer_here(demo_bundles(model, "fp32"), digits[1])
    found = answer_on_x86(root, cpu, bundle, digits[1])
    assert_alike(answer_here(bundle, digits[1]), found, LEAST_DB["int8"], f"demo {model} int8, emulated {cpu}")
    # as far from the float model as with VNNI
    assert compare(float_model, found)[1] >= compare(float_model, answer_here(bundle, digits[1]))[1] - 2
