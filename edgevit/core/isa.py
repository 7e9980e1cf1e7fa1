"""Instruction sets: what this process computes with, in tiers that the engine libraries have kernels of their own for.

A tier stands for every processor that has its instructions. oneDNN, and with it OpenVINO, can be limited to
older instructions by an environment variable that it reads once, when it is first used: one machine then stands for
several, and really executes what they execute.

Only the standard library, because the device runtime reads it.
"""

from __future__ import annotations

import functools
import os
import platform
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

TierName: TypeAlias = Literal[
    "sse4.1",
    "avx",
    "avx2",
    "avx2_vnni",
    "avx2_vnni_2",
    "avx512",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx",
    "amx_fp16",
    "neon",
    "dotprod",
    "i8mm",
]

LIMIT_VARIABLE = "ONEDNN_MAX_CPU_ISA"
_OLDER_VARIABLE = "DNNL_MAX_CPU_ISA"
"""oneDNN reads it where the newer one is not set."""


@dataclass(frozen=True)
class Tier:
    """Instructions that a class of processors has.

    Attributes:
        title: For people.
        flags: All that the kernel must list, as ``/proc/cpuinfo`` calls them.
        limit: What ``ONEDNN_MAX_CPU_ISA`` calls it; ``None`` where oneDNN knows no such limit.
        saturates: Whether products of u8 and i8 are added in pairs in 16 bits, which two large ones overflow.
        bf16: Whether products of bfloat16 have instructions.
        f16: Whether products of float16 have instructions.
    """

    title: str
    flags: tuple[str, ...]
    limit: str | None = None
    saturates: bool = False
    bf16: bool = False
    f16: bool = False

    @property
    def architecture(self) -> Literal["x86_64", "aarch64"]:
        """Of the processors that have it."""
        return "aarch64" if "asimd" in self.flags else "x86_64"


_AVX512 = ("avx512f", "avx512bw", "avx512vl", "avx512dq")
_AVX512_FP16 = (*_AVX512, "avx512_vnni", "avx512_bf16", "avx512_fp16")
_AMX = (*_AVX512_FP16, "amx_tile", "amx_int8", "amx_bf16")

TIERS: Mapping[TierName, Tier] = {
    # oneDNN documentation, "CPU Dispatcher Control": the names of the limits and the instructions that each adds.
    "sse4.1": Tier("SSE4.1", ("sse4_1",), "SSE41", saturates=True),
    "avx": Tier("AVX", ("avx",), "AVX", saturates=True),
    "avx2": Tier("AVX2", ("avx2", "fma"), "AVX2", saturates=True),
    "avx2_vnni": Tier("AVX2-VNNI", ("avx2", "fma", "avx_vnni"), "AVX2_VNNI"),
    "avx2_vnni_2": Tier(
        "AVX2-VNNI-2",
        ("avx2", "fma", "avx_vnni", "avx_vnni_int8", "avx_ne_convert"),
        "AVX2_VNNI_2",
        bf16=True,
        f16=True,
    ),
    "avx512": Tier("AVX-512", _AVX512, "AVX512_CORE", saturates=True),
    "avx512_vnni": Tier("AVX512-VNNI", (*_AVX512, "avx512_vnni"), "AVX512_CORE_VNNI"),
    "avx512_bf16": Tier("AVX512-BF16", (*_AVX512, "avx512_vnni", "avx512_bf16"), "AVX512_CORE_BF16", bf16=True),
    "avx512_fp16": Tier("AVX512-FP16", _AVX512_FP16, "AVX512_CORE_FP16", bf16=True, f16=True),
    "amx": Tier("AMX", _AMX, "AVX512_CORE_AMX", bf16=True, f16=True),
    "amx_fp16": Tier("AMX-FP16", (*_AMX, "amx_fp16"), "AVX512_CORE_AMX_FP16", bf16=True, f16=True),
    "neon": Tier("NEON", ("asimd",)),
    # Arm Architecture Reference Manual: both came with Armv8.2, which processors for computing have together
    "dotprod": Tier("NEON with dot products", ("asimd", "asimddp", "asimdhp"), f16=True),
    "i8mm": Tier("NEON with i8mm", ("asimd", "asimddp", "asimdhp", "i8mm"), f16=True),
}
"""From the oldest to the newest of each architecture; a tier is above all those whose flags it has."""


# Linux, Documentation/arch/arm64/elf_hwcaps.rst: which word of the auxiliary vector, and which bit of it
_CAPABILITIES = {"asimd": (16, 1), "asimdhp": (16, 10), "asimddp": (16, 20), "i8mm": (26, 13), "bf16": (26, 14)}


# oneDNN documentation, "CPU Dispatcher Control": names that stand for instructions which others stand for as well.
_OTHER_LIMITS = {
    "AVX10_1_512": "AVX512_CORE_FP16",
    "AVX10_1_512_AMX": "AVX512_CORE_AMX",
    "AVX10_1_512_AMX_FP16": "AVX512_CORE_AMX_FP16",
}


@functools.cache
def read_flags(root: Path = Path("/"), machine: str = platform.machine()) -> frozenset[str]:
    """What the kernel lists of every core; empty where it does not tell."""
    if machine == "aarch64" and (found := _read_capabilities(root / "proc/self/auxv")):
        return found  # /proc/cpuinfo would be that of the machine below an emulator
    try:
        lines = (root / "proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    pairs = [line.partition(":") for line in lines]
    listed = [frozenset(value.split()) for key, _, value in pairs if key.strip() in ("flags", "Features")]
    return frozenset.intersection(*listed) if listed else frozenset()


def _read_capabilities(path: Path) -> frozenset[str]:
    """What the kernel tells this process; nothing where it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return frozenset()
    words = dict(struct.iter_unpack("=QQ", data[: len(data) // 16 * 16]))
    return frozenset(name for name, (word, bit) in _CAPABILITIES.items() if words.get(word, 0) >> bit & 1)


def list_tiers(flags: Collection[str] | None = None, limit: str | None = None) -> tuple[TierName, ...]:
    """The tiers that a process can compute in, from the oldest.

    Args:
        flags: What the kernel lists; by default this machine's.
        limit: A value of ``ONEDNN_MAX_CPU_ISA``; by default this process's. One that oneDNN does not know limits
            nothing.
    """
    here = read_flags() if flags is None else frozenset(flags)
    limit = read_limit() if limit is None else limit
    limit = _OTHER_LIMITS.get(limit.upper(), limit)
    able: list[TierName] = [name for name, tier in TIERS.items() if here.issuperset(tier.flags)]
    ceiling = next((tier for tier in TIERS.values() if tier.limit == limit.upper()), None)
    if ceiling is None:
        return tuple(able)
    return tuple(name for name in able if is_within(TIERS[name], ceiling))


def is_within(tier: Tier, ceiling: Tier) -> bool:
    """Whether a limit to ``ceiling`` leaves ``tier`` in use."""
    if tier.architecture != ceiling.architecture:
        return True
    # what every processor with the ceiling's instructions has besides; AVX2-VNNI is not among it for AVX-512
    older = {"SSE41": (), "AVX": ("sse4_1",)}.get(str(ceiling.limit), ("sse4_1", "avx", "avx2", "fma"))
    return {*ceiling.flags, *older}.issuperset(tier.flags)


def read_limit() -> str:
    """This process's limit, as oneDNN reads it; empty where there is none."""
    return os.environ.get(LIMIT_VARIABLE) or os.environ.get(_OLDER_VARIABLE) or ""


def read_tier() -> TierName | None:
    """The newest tier that this process computes in; ``None`` where the system does not tell."""
    able = list_tiers()
    return able[-1] if able else None
