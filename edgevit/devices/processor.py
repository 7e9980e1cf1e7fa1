"""The processor as Linux describes it: name, instruction sets, cores, limits. Elsewhere there is nothing to read."""

from __future__ import annotations

import re
from pathlib import Path

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

_ARM_PARTS = {
    # MIDR_EL1 implementer and part, from util-linux sys-utils/lscpu-arm.c.
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD83): "Neoverse-V3AE",
    (0x41, 0xD84): "Neoverse-V3",
    (0x4E, 0x003): "Denver 2",
    (0x4E, 0x004): "Carmel",
}


def read_text(path: Path) -> str | None:
    """A small file of the kernel's; ``None`` where it is absent, unreadable or empty."""
    try:
        return path.read_text(errors="replace").strip("\0 \n\t") or None
    except OSError:
        return None


def read_processors(root: Path) -> list[dict[str, str]]:
    """``/proc/cpuinfo`` as one table a paragraph."""
    processors = []
    for paragraph in (read_text(root / "proc/cpuinfo") or "").split("\n\n"):
        pairs = (line.partition(":") for line in paragraph.splitlines())
        table = {key.strip(): value.strip() for key, colon, value in pairs if colon}
        if table:
            processors.append(table)
    return processors


def name_cpu(processors: list[dict[str, str]]) -> str | None:
    """Model name on x86; the core types on ARM, of which a chip may have several."""
    names: dict[str, None] = {}
    for table in processors:
        if "CPU part" in table:
            implementer, part = int(table.get("CPU implementer", "0"), 0), int(table["CPU part"], 0)
            names[_ARM_PARTS.get((implementer, part), f"ARM implementer {implementer:#x} part {part:#x}")] = None
        elif name := table.get("model name"):
            names[re.sub(r"\s+", " ", name)] = None
    return " + ".join(names) or None


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
    """A control group's folder and those around it; a container may see the host's name, but its own mount alone."""
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
