"""NVIDIA's management library: asked as its reference says, with a double where there is no driver."""

from __future__ import annotations

from typing import Any

import pytest

from edgevit.measure.machine.nvml import GpuReading, _load, read_gpu_sensors

NOT_SUPPORTED = 3


class Library:
    """One table of values a GPU; what is missing is not supported."""

    def __init__(self, *gpus: dict[str, int]) -> None:
        self.gpus = gpus

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.gpus)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:  # noqa: N802
        device._obj.value = index + 1
        return 0

    def nvmlDeviceGetClockInfo(self, device: Any, kind: int, value: Any) -> int:  # noqa: N802
        assert kind == 1  # NVML_CLOCK_SM
        return self._give(device, "clock", value)

    def nvmlDeviceGetTemperature(self, device: Any, sensor: int, value: Any) -> int:  # noqa: N802
        assert sensor == 0  # NVML_TEMPERATURE_GPU
        return self._give(device, "temperature", value)

    def nvmlDeviceGetPowerUsage(self, device: Any, value: Any) -> int:  # noqa: N802
        return self._give(device, "power", value)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: Any, value: Any) -> int:  # noqa: N802
        return self._give(device, "reasons", value)

    def _give(self, device: Any, name: str, value: Any) -> int:
        table = self.gpus[device.value - 1]
        if name not in table:
            return NOT_SUPPORTED
        value._obj.value = table[name]
        return 0


def test_one_gpu_gives_megahertz_degrees_and_watts() -> None:
    library = Library({"clock": 2520, "temperature": 61, "power": 215_300, "reasons": 0x1})
    assert read_gpu_sensors(library) == GpuReading({"GPU": 2520.0}, {"GPU": 61.0}, {"GPU": 215.3})


def test_every_reason_of_several_gpus_is_told_and_an_idle_one_is_none() -> None:
    reading = read_gpu_sensors(Library({"reasons": 0x4 | 0x20}, {"reasons": 0x1 | 0x2 | 0x100}))
    assert reading.active == ("GPU 0 power limit", "GPU 0 too hot")


def test_what_a_jetson_does_not_support_is_left_out() -> None:
    assert read_gpu_sensors(Library({})) == GpuReading()


@pytest.mark.gpu
def test_the_driver_of_this_machine_answers() -> None:
    if _load() is None:
        pytest.skip("no management library")
    reading = read_gpu_sensors()
    assert all(0 < value < 120 for value in reading.temperatures_c.values())
    assert reading.clocks_mhz or reading.power_w
