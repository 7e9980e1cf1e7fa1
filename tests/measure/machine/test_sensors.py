"""Sensors below a planted ``/sys``, as an Orin, a PC and a Raspberry Pi have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.measure.machine.sensors import Reading, read_sensors
from tests.support.planted_files import plant

ORIN = {
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "729600\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "1510400\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "612000000\n",
    "sys/class/devfreq/15340000.vic/cur_freq": "999000000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "51343\n",
    "sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    "sys/class/thermal/thermal_zone8/type": "tj-thermal\n",
    "sys/class/thermal/thermal_zone8/temp": "52000\n",
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "3\n",
    "sys/class/thermal/cooling_device1/type": "gpu-throttle-alert\n",
    "sys/class/thermal/cooling_device1/cur_state": "0\n",
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon1/in1_input": "4984\n",
    "sys/class/hwmon/hwmon1/curr1_input": "1856\n",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/class/hwmon/hwmon1/in2_input": "4976\n",
    "sys/class/hwmon/hwmon1/curr2_input": "600\n",
    "sys/class/hwmon/hwmon1/in3_label": "NC\n",
    "sys/class/hwmon/hwmon1/in3_input": "0\n",
    "sys/class/hwmon/hwmon1/curr3_input": "0\n",
    "sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages\n",
    "sys/class/hwmon/hwmon1/in7_input": "12\n",
    "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon3/oc2_event_cnt": "15\n",
    "sys/class/hwmon/hwmon3/oc3_event_cnt": "37\n",
}


def test_orin_has_rails_clocks_temperatures_and_counters_of_over_current(tmp_path: Path) -> None:
    reading = read_sensors(plant(tmp_path, ORIN))
    assert reading.clocks_mhz == {"CPU": 1510.4, "GPU": 612.0}
    assert reading.temperatures_c == {"cpu-thermal": 51.343, "tj-thermal": 52.0}
    assert reading.power_w == {
        "VDD_IN": pytest.approx(4.984 * 1.856),
        "VDD_CPU_GPU_CV": pytest.approx(4.976 * 0.6),
    }
    assert reading.events == {"under-voltage": 0, "average over-current": 15, "instantaneous over-current": 37}
    assert reading.active == ()  # a fan slows nothing down


def test_alert_that_slows_the_gpu_is_active(tmp_path: Path) -> None:
    files = {**ORIN, "sys/class/thermal/cooling_device1/cur_state": "1\n"}
    assert read_sensors(plant(tmp_path, files)).active == ("gpu-throttle-alert",)


def test_thor_has_its_gpu_and_a_power_sensor_of_another_kind(tmp_path: Path) -> None:
    files = {
        "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000\n",
        "sys/class/devfreq/gpu-nvd-0/cur_freq": "1200000000\n",
        "sys/class/hwmon/hwmon2/name": "ina238\n",
        "sys/class/hwmon/hwmon2/power1_input": "45250000\n",
    }
    reading = read_sensors(plant(tmp_path, files))
    assert reading.clocks_mhz == {"GPU": 1575.0}
    assert reading.power_w == {"ina238 power1": 45.25}


def test_pc_has_rapl_of_its_packages_and_counters_of_heat(tmp_path: Path) -> None:
    cpus = "sys/devices/system/cpu"
    files = {
        "sys/class/powercap/intel-rapl:0/name": "package-0\n",
        "sys/class/powercap/intel-rapl:0/energy_uj": "12000000\n",
        "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
        "sys/class/powercap/intel-rapl:0:0/name": "core\n",
        "sys/class/powercap/intel-rapl:0:0/energy_uj": "7000000\n",
        "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj": "262143328850\n",
        f"{cpus}/cpu0/thermal_throttle/core_throttle_count": "2\n",
        f"{cpus}/cpu1/thermal_throttle/core_throttle_count": "3\n",
        f"{cpus}/cpu0/thermal_throttle/package_throttle_count": "4\n",
        f"{cpus}/cpu1/thermal_throttle/package_throttle_count": "4\n",
        "sys/class/thermal/cooling_device0/type": "Processor\n",
        "sys/class/thermal/cooling_device0/cur_state": "0\n",
        "sys/class/thermal/cooling_device1/type": "intel_powerclamp\n",
        "sys/class/thermal/cooling_device1/cur_state": "-1\n",
    }
    reading = read_sensors(plant(tmp_path, files))
    assert reading.energy_j == {"package-0": (12.0, 262143.32885)}
    assert reading.events == {"CPU core too hot": 5, "CPU package too hot": 4}
    assert reading.active == ()


def test_raspberry_pi_with_a_weak_supply_says_so(tmp_path: Path) -> None:
    files = {"sys/class/hwmon/hwmon0/name": "rpi_volt\n", "sys/class/hwmon/hwmon0/in0_lcrit_alarm": "1\n"}
    assert read_sensors(plant(tmp_path, files)).active == ("under-voltage",)


def test_machine_that_tells_nothing_gives_an_empty_reading(tmp_path: Path) -> None:
    assert read_sensors(tmp_path) == Reading()
    read_sensors()  # this machine, whatever it tells
