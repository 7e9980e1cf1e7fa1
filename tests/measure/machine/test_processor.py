"""Descriptions of machines that are not here, from the files that their kernels show."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.measure.machine.local import describe_machine
from edgevit.measure.machine.processor import (
    count_physical_cores,
    is_virtual,
    list_instruction_sets,
    name_cpu,
    read_cpu_limit,
    read_governor,
    read_processors,
)

XEON = """processor\t: {0}
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R)  Gold 6248 CPU @ 2.50GHz
flags\t\t: fpu sse2 fma f16c avx2 avx512f avx512_vnni{1}
bogomips\t: 5000.00
"""

RASPBERRY_PI_5 = """processor\t: {0}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_intel_server_is_named_with_its_instruction_sets(tmp_path: Path) -> None:
    write(tmp_path, {"proc/cpuinfo": "\n".join(XEON.format(i, " hypervisor") for i in range(2))})
    processors = read_processors(tmp_path)
    assert name_cpu(processors) == "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz"
    assert list_instruction_sets(processors) == ("avx2", "fma", "f16c", "avx512f", "avx512_vnni")
    assert is_virtual(tmp_path, processors) is True


def test_real_machine_is_not_called_virtual(tmp_path: Path) -> None:
    write(tmp_path, {"proc/cpuinfo": XEON.format(0, ""), "sys/class/dmi/id/sys_vendor": "Dell Inc.\n"})
    assert is_virtual(tmp_path, read_processors(tmp_path)) is False


def test_cloud_machine_is_told_by_its_firmware_tables(tmp_path: Path) -> None:
    write(tmp_path, {"sys/class/dmi/id/sys_vendor": "QEMU\n", "proc/cpuinfo": RASPBERRY_PI_5.format(0)})
    assert is_virtual(tmp_path, read_processors(tmp_path)) is True


def test_board_is_named_by_core_type_and_device_tree(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": "\n".join(RASPBERRY_PI_5.format(i) for i in range(4)),
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/meminfo": "MemTotal:        8245772 kB\nMemFree: 1 kB\n",
        "etc/os-release": 'NAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    }
    for i in range(4):
        files[f"sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list"] = f"{i}\n"
        files[f"sys/devices/system/cpu/cpu{i}/cpufreq/scaling_governor"] = "ondemand\n"
    machine = describe_machine(write(tmp_path, files))
    assert machine.cpu == "Cortex-A76"
    assert machine.isa == ("neon", "fp16", "dotprod")
    assert machine.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert (machine.physical_cores, machine.governor, machine.virtual) == (4, "ondemand", None)
    assert machine.memory_bytes == 8245772 * 1024
    assert machine.os == "Debian GNU/Linux 12 (bookworm)"


def test_mixed_cores_are_all_named_and_share_what_each_has(tmp_path: Path) -> None:
    big = RASPBERRY_PI_5.format(1).replace("0xd0b", "0xfff").replace("asimddp", "asimddp i8mm sve")
    write(tmp_path, {"proc/cpuinfo": RASPBERRY_PI_5.format(0) + "\n" + big})
    processors = read_processors(tmp_path)
    assert name_cpu(processors) == "Cortex-A76 + ARM implementer 0x41 part 0xfff"
    assert "i8mm" not in list_instruction_sets(processors)


def test_hyperthreads_share_a_physical_core(tmp_path: Path) -> None:
    siblings = ["0,2", "1,3", "0,2", "1,3"]
    files = {f"cpu{i}/topology/thread_siblings_list": f"{s}\n" for i, s in enumerate(siblings)}
    assert count_physical_cores(write(tmp_path, files)) == 2
    assert count_physical_cores(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/cpu.max": "150000 100000\n"}, 1.5),
        # The group around it is tighter; the mount itself counts too.
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/cpu.max": "300000 100000\n",
            },
            2.0,
        ),
        # In a container the group's name is the host's.
        ({"proc/self/cgroup": "0::/docker/1a2b\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/app\n1:name=systemd:/\n",
                "sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
    ],
)
def test_cpu_limit_is_the_tightest_quota(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    assert read_cpu_limit(write(tmp_path, files)) == expected


def test_governors_that_differ_are_all_told(tmp_path: Path) -> None:
    files = {f"cpu{i}/cpufreq/scaling_governor": g for i, g in enumerate(["powersave\n", "performance\n", "powersave"])}
    assert read_governor(write(tmp_path, files)) == "performance + powersave"
    assert read_governor(tmp_path / "nowhere") is None


def test_machine_without_linuxs_files_is_described_all_the_same(tmp_path: Path) -> None:
    machine = describe_machine(tmp_path)
    assert machine.cpu
    assert machine.os
    assert machine.isa == ()
    assert (machine.memory_bytes, machine.governor, machine.cpu_limit) == (None, None, None)
    assert machine.physical_cores >= 1
