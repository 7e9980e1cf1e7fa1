"""The processor as Linux describes it: name, instruction sets, cores, limits. Elsewhere there is nothing to read."""

from __future__ import annotations

import re
from pathlib import Path

from edgevit.runtime.processor_name import name_cpu, read_processors, read_text

__all__ = ["name_cpu", "read_processors", "read_text"]

INSTRUCTION_SETS = {
    # As /proc/cpuinfo calls them: x86 under "flags", ARM under "Features".
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "avx_vnni_int8": "avx_vnni_int8",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "amx_fp16": "amx_fp16",
    "neon": "neon",
    "asimd": "neon",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}
"""The kernel's name to the field's."""

_VIRTUAL = re.compile(
    r"QEMU|KVM|VMware|VirtualBox|Xen|Virtual Machine|Amazon EC2(?! .*metal)|Google Compute Engine", re.I
)


def list_instruction_sets(processors: list[dict[str, str]]) -> tuple[str, ...]:
    """What every core has, in the order of ``INSTRUCTION_SETS``."""
    features = [table.get("flags") or table.get("Features") for table in processors]
    listed = [set(words.split()) for words in features if words]
    if not listed:
        return ()
    common = set.intersection(*listed)
    return tuple(dict.fromkeys(name for flag, name in INSTRUCTION_SETS.items() if flag in common))


def count_physical_cores(topology: Path) -> int | None:
    """Groups of logical cores that share a physical one."""
    groups = {read_text(path) for path in topology.glob("cpu[0-9]*/topology/thread_siblings_list")}
    return len(groups - {None}) or None


def read_cpu_limit(root: Path) -> float | None:
    """The tightest quota of the control groups around this process, in cores; ``None`` where there is none."""
    limits = []
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        number, controllers, group = line.split(":", 2)
        mounts = root / "sys/fs/cgroup"
        if number == "0":  # version 2
            limits += [_read_quota(folder / "cpu.max") for folder in _list_groups(mounts, group)]
        elif "cpu" in controllers.split(","):
            for folder in _list_groups(mounts / controllers, group):
                limits.append(_read_quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"))
    return min((limit for limit in limits if limit is not None), default=None)


def _list_groups(mount: Path, group: str) -> list[Path]:
    """A control group's folder and those around it; a container may see the host's name, but only its own mount."""
    inner = mount / group.strip("/")
    return [inner, *(folder for folder in inner.parents if folder == mount or mount in folder.parents)]


def _read_quota(*files: Path) -> float | None:
    """Quota over period, which are two words of one file or one word of each of two."""
    words = " ".join(read_text(path) or "" for path in files).split()
    if len(words) != 2 or not words[0].isdigit() or not words[1].isdigit() or words[1] == "0":
        return None  # "max" and -1: no limit
    return int(words[0]) / int(words[1])


def read_governor(topology: Path) -> str | None:
    """Frequency governors of the cores, ``None`` where the system does not tell, as in most virtual machines."""
    governors = {read_text(path) for path in topology.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return " + ".join(sorted(g for g in governors if g)) or None


def is_virtual(root: Path, processors: list[dict[str, str]]) -> bool | None:
    """Whether this is a virtual machine; ``None`` where the system does not tell, as on ARM without firmware tables."""
    vendor = read_text(root / "sys/class/dmi/id/sys_vendor") or ""
    product = read_text(root / "sys/class/dmi/id/product_name") or ""
    if (root / "proc/device-tree/hypervisor").exists() or _VIRTUAL.search(f"{vendor} {product}"):
        return True
    flags = [table["flags"].split() for table in processors if "flags" in table]
    return "hypervisor" in flags[0] if flags else None
