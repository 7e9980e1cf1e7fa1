"""The processor's name, as Linux describes it.

Only the standard library, because the device runtime reads it.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

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


def read_name(root: Path = Path("/")) -> str | None:
    """This machine's processor; ``None`` where the system does not tell."""
    return name_cpu(read_processors(root)) or platform.processor() or None
