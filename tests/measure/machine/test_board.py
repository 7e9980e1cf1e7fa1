"""What a board's files say, from texts as Jetsons and PCs have them, planted below a root of the test's own."""

from __future__ import annotations

import pytest

from edgevit.core import schema
from edgevit.core.errors import BundleError
from edgevit.core.report.conditions import Platform, PowerMode, list_platform_risks
from edgevit.measure.machine.board import parse_driver, parse_packages, parse_release, read_platform
from edgevit.measure.machine.nvpmodel import Mode, choose_mode, parse_modes, parse_number
from tests.support.planted_files import plant

RELEASE = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
)
DRIVER = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain@mobile-u64)  "
    "Tue Jan  7 17:39:48 PST 2025\nGCC version:  collect2: error: ld returned 1 exit status\n"
)
DESKTOP_DRIVER = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\n"
    "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
)
PACKAGES = """Package: libnvinfer10
Status: install ok installed
Priority: optional
Version: 10.3.0.30-1+cuda12.5
Description: NVIDIA TensorRT runtime libraries
 Version: is not a field here

Package: libnvinfer8
Status: deinstall ok config-files
Version: 8.6.2.3-1+cuda12.2

Package: nvidia-jetpack
Status: install ok installed
Version: 6.2+b77
"""
# Jetson Orin Nano 8GB with JetPack 6.2, shortened to what counts.
ORIN_NANO = """
# Copyright (c) 2022-2024, NVIDIA CORPORATION.  All rights reserved.
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< PARAM TYPE=CLOCK NAME=GPU >
FREQ_TABLE /sys/devices/platform/17000000.gpu/devfreq_dev/available_frequencies
MAX_FREQ /sys/devices/platform/17000000.gpu/devfreq_dev/max_freq

# 15W
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
CPU_A78_0 MAX_FREQ 1510400
GPU MIN_FREQ 0
GPU MAX_FREQ 612000000

< POWER_MODEL ID=1 NAME=25W >
GPU MAX_FREQ 918000000

# MAXN_SUPER is the NONE power model to release all constraints
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
GPU MIN_FREQ 0
GPU MAX_FREQ -1 # no limit

< POWER_MODEL ID=3 NAME=7W >
GPU MAX_FREQ 408000000

< PM_CONFIG DEFAULT=1 >
"""


def test_orin_with_jetpack_6_is_described(tmp_path):
    plant(
        tmp_path,
        {
            "etc/nv_tegra_release": RELEASE,
            "proc/driver/nvidia/version": DRIVER,
            "var/lib/dpkg/status": PACKAGES,
            "var/lib/nvpmodel/status": "pmode:0000\n",
            "etc/nvpmodel.conf": ORIN_NANO,
            "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}',
            "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
            "sys/class/devfreq/17000000.gpu/max_freq": "612000000\n",
            "sys/class/devfreq/15340000.vic/min_freq": "1\n",
        },
    )
    platform = read_platform(tmp_path)
    assert platform == Platform(
        l4t="36.4.3",
        jetpack="6.2+b77",
        tensorrt="10.3.0.30-1+cuda12.5",
        cuda="12.6.11",
        driver="540.4.0",
        power_mode=PowerMode("15W", 0, "MAXN_SUPER", 2),
        gpu_clock_fixed=False,
    )
    assert schema.from_data(Platform, schema.to_data(platform), "here", BundleError) == platform
    mode, clock = list_platform_risks(platform)
    assert mode == "measured in the power mode 15W; MAXN_SUPER has higher clocks (sudo nvpmodel -m 2)"
    assert "jetson_clocks" in clock


def test_pc_without_nvidia_has_no_platform(tmp_path):
    assert read_platform(tmp_path) is None


def test_pc_with_a_driver_has_its_version_and_no_power_mode(tmp_path):
    plant(tmp_path, {"proc/driver/nvidia/version": DESKTOP_DRIVER})
    assert read_platform(tmp_path) == Platform(driver="550.54.14")
    assert list_platform_risks(Platform(driver="550.54.14")) == ()


def test_board_with_broken_files_is_described_as_far_as_it_goes(tmp_path):
    plant(
        tmp_path,
        {
            "etc/nv_tegra_release": "something else",
            "usr/local/cuda/version.json": "[1",
            "var/lib/nvpmodel/status": "fmode:quiet",
            "var/lib/dpkg/status": "Package: x",
        },
    )
    assert read_platform(tmp_path) == Platform()


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (2, PowerMode("MAXN_SUPER", 2)),
        (1, PowerMode("25W", 1, "MAXN_SUPER", 2)),
        (3, PowerMode("7W", 3, "MAXN_SUPER", 2)),
        (9, PowerMode("mode 9", 9)),
    ],
)
def test_mode_below_the_highest_names_the_highest(number, expected):
    assert choose_mode(number, parse_modes(ORIN_NANO)) == expected


def test_modes_without_a_gpu_clock_are_ranked_by_their_names():
    text = "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n< POWER_MODEL ID=2 NAME=70W >\n"
    modes = parse_modes(text)
    assert modes == (Mode(0, "MAXN"), Mode(1, "120W"), Mode(2, "70W"))
    assert choose_mode(0, modes) == PowerMode("MAXN", 0)
    assert choose_mode(2, modes) == PowerMode("70W", 2, "MAXN", 0)
    assert choose_mode(1, ()) == PowerMode("mode 1", 1)


def test_texts_of_other_kinds_give_nothing():
    assert parse_release("# R35 (release), REVISION: 5.0, GCID: 1") == "35.5.0"
    assert parse_release("") is None
    assert parse_driver("") is None
    assert parse_number("pmode:0012 fmode:cool") == 12
    assert parse_number("") is None
    assert parse_packages("") == {}
