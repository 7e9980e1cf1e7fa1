"""Which instruction sets a process computes in: planted processors, and oneDNN's own word for this one."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from edgevit.core.isa import LIMIT_VARIABLE, TIERS, list_tiers, read_flags, read_tier

_AVX512 = {"sse4_1", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq"}
PROCESSORS = {
    # As Linux lists them, what matters of each; Intel's and AMD's manuals for the generation.
    "Core i5-2500": ({"sse4_1", "avx"}, "avx"),
    "Core i5-8250U": ({"sse4_1", "avx", "avx2", "fma"}, "avx2"),
    "N100": ({"sse4_1", "avx2", "fma", "avx_vnni"}, "avx2_vnni"),
    "Xeon Skylake-SP": (_AVX512, "avx512"),
    "Xeon Cascade Lake": (_AVX512 | {"avx512_vnni"}, "avx512_vnni"),
    "EPYC Genoa": (_AVX512 | {"avx512_vnni", "avx512_bf16"}, "avx512_bf16"),
    "Xeon Sapphire Rapids": (
        _AVX512 | {"avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"},
        "amx",
    ),
    "Cortex-A53": ({"fp", "asimd"}, "neon"),
    "Cortex-A76": ({"fp", "asimd", "asimdhp", "asimddp"}, "dotprod"),
    "nothing known": (set(), None),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_newest_tier_of_a_processor_is_the_last(name: str) -> None:
    flags, newest = PROCESSORS[name]
    found = list_tiers(flags, limit="")
    assert (found[-1] if found else None) == newest


@pytest.mark.parametrize(
    ("limit", "newest"),
    [
        ("SSE41", "sse4.1"),
        ("AVX", "avx"),
        ("AVX2", "avx2"),
        ("AVX2_VNNI", "avx2_vnni"),
        ("AVX512_CORE", "avx512"),
        ("avx512_core_vnni", "avx512_vnni"),
        ("AVX512_CORE_BF16", "avx512_bf16"),
        ("AVX512_CORE_AMX", "amx"),
        ("AVX10_1_512", "avx512_fp16"),
        ("NO_SUCH_NAME", "amx"),
    ],
)
def test_a_limit_takes_away_what_is_newer(limit: str, newest: str) -> None:
    flags, _ = PROCESSORS["Xeon Sapphire Rapids"]
    assert list_tiers(flags, limit)[-1] == newest


def test_a_limit_above_a_processor_takes_nothing_away_and_one_beside_it_leaves_what_both_have() -> None:
    flags, newest = PROCESSORS["EPYC Genoa"]
    assert list_tiers(flags, "AVX512_CORE_AMX")[-1] == newest
    assert list_tiers(flags, "AVX2_VNNI")[-1] == "avx2"


def test_flags_are_those_that_every_core_has(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nflags : fpu avx2 fma\n\nprocessor : 1\nflags : fpu fma\n")
    assert read_flags(tmp_path) == {"fpu", "fma"}
    assert read_flags(tmp_path / "elsewhere") == frozenset()


def test_this_process_obeys_its_own_environment() -> None:
    here = [name for name in list_tiers(limit="") if TIERS[name].limit]
    if not here:
        pytest.skip("no tier that oneDNN can be limited to")
    for name in here:
        done = subprocess.run(
            [sys.executable, "-c", "from edgevit.core.isa import read_tier; print(read_tier())"],
            env={**os.environ, LIMIT_VARIABLE: str(TIERS[name].limit)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == name
    assert read_tier() is not None


def test_arm_processor_is_what_the_kernel_tells_this_process_not_what_lies_below_an_emulator(tmp_path: Path) -> None:
    folder = tmp_path / "proc/self"
    folder.mkdir(parents=True)
    (tmp_path / "proc/cpuinfo").write_text("flags : sse4_1 avx2 fma\n")
    # AT_HWCAP with fp, asimd, fphp, asimdhp and asimddp as a Cortex-A76 has them; AT_HWCAP2 with i8mm; AT_NULL
    words = [(16, 1 << 0 | 1 << 1 | 1 << 9 | 1 << 10 | 1 << 20), (26, 1 << 13), (0, 0)]
    (folder / "auxv").write_bytes(b"".join(struct.pack("=QQ", *word) for word in words))
    flags = read_flags(tmp_path, "aarch64")
    assert flags == {"asimd", "asimdhp", "asimddp", "i8mm"}
    assert list_tiers(flags, limit="") == ("neon", "dotprod", "i8mm")
    assert read_flags(tmp_path, "x86_64") == {"sse4_1", "avx2", "fma"}


def test_arm_processor_whose_capabilities_cannot_be_read_is_as_the_kernel_lists_it(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("Features : fp asimd\n")
    assert read_flags(tmp_path, "aarch64") == {"fp", "asimd"}


def test_the_older_name_of_the_variable_counts_where_the_newer_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.core.isa.read_flags", lambda: PROCESSORS["Xeon Sapphire Rapids"][0])
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX2")
    assert read_tier() == "avx2"
    monkeypatch.setenv(LIMIT_VARIABLE, "AVX512_CORE")
    assert read_tier() == "avx512"
