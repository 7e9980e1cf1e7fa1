"""What a board came with and how it is set, from its files; nothing is started."""

from __future__ import annotations

import json
import re
from pathlib import Path

from edgevit.core.report.conditions import Platform
from edgevit.measure.machine.nvpmodel import choose_mode, parse_modes, parse_number
from edgevit.measure.machine.processor import read_text

GPU_NAMES = re.compile(r"gpu|gv11b|ga10b|gp10b")
"""How the GPU's folder below ``/sys/class/devfreq`` is called, from Xavier (``17000000.gv11b``) to Thor."""


def read_platform(root: Path = Path("/")) -> Platform | None:
    """The versions and settings of a Jetson, or of a machine with NVIDIA's driver; ``None`` where there is neither.

    Args:
        root: Where ``etc``, ``proc``, ``sys``, ``usr`` and ``var`` lie.
    """
    release = read_text(root / "etc/nv_tegra_release")
    driver = parse_driver(read_text(root / "proc/driver/nvidia/version") or "")
    if release is None and driver is None:
        return None
    packages = parse_packages(read_text(root / "var/lib/dpkg/status") or "")
    number = parse_number(read_text(root / "var/lib/nvpmodel/status") or "")
    modes = parse_modes(read_text(root / "etc/nvpmodel.conf") or "")
    return Platform(
        l4t=parse_release(release or ""),
        jetpack=packages.get("nvidia-jetpack"),
        tensorrt=next((v for name, v in packages.items() if re.fullmatch(r"libnvinfer\d+", name)), None),
        cuda=_read_cuda(root / "usr/local/cuda/version.json"),
        driver=driver,
        power_mode=None if number is None else choose_mode(number, modes),
        gpu_clock_fixed=_is_gpu_clock_fixed(root / "sys/class/devfreq"),
    )


def parse_release(text: str) -> str | None:
    """``# R36 (release), REVISION: 4.3, GCID: …`` of ``/etc/nv_tegra_release`` to ``36.4.3``."""
    found = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text)
    return f"{found[1]}.{found[2]}" if found else None


def parse_driver(text: str) -> str | None:
    """The version in ``/proc/driver/nvidia/version``."""
    found = re.search(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)*)\s", text, re.M)
    return found[1] if found else None


def parse_packages(text: str) -> dict[str, str]:
    """Names and versions of what ``/var/lib/dpkg/status`` lists as installed."""
    packages = {}
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", paragraph, re.M))
        if fields.get("Status", "").endswith(" installed") and "Version" in fields:
            packages[fields["Package"]] = fields["Version"]
    return packages


def _read_cuda(path: Path) -> str | None:
    try:
        return str(json.loads(read_text(path) or "{}")["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        return None


def _is_gpu_clock_fixed(devfreq: Path) -> bool | None:
    ranges = [
        (read_text(folder / "min_freq"), read_text(folder / "max_freq"))
        for folder in sorted(devfreq.glob("*"))
        if GPU_NAMES.search(folder.name)
    ]
    known = [low == high for low, high in ranges if low and high]
    return all(known) if known else None
