"""The description of this machine."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import subprocess
import sys

from edgevit.core import schema
from edgevit.core.errors import BundleError
from edgevit.core.report.report import Machine
from edgevit.measure.machine.local import describe_machine, list_measuring_risks
from tests.support import gpu_double

QUIET = Machine(
    cpu="a cpu",
    isa=(),
    physical_cores=4,
    logical_cores=8,
    usable_cores=8,
    os="an os",
    kernel="6.1",
    python="3.11",
    architecture="x86_64",
    packages={},
    governor="performance",
    virtual=False,
    load_average=(0.1, 0.1, 0.1),
)


def test_this_machine_is_described_and_survives_a_round_trip() -> None:
    machine = describe_machine()
    assert machine.python == platform.python_version()
    assert machine.packages["numpy"] == importlib.metadata.version("numpy")
    assert 1 <= machine.physical_cores <= machine.logical_cores
    assert 1 <= machine.usable_cores <= machine.logical_cores
    assert schema.from_data(Machine, schema.to_data(machine), "here", BundleError) == machine


def test_describing_imports_no_engine_library_and_not_even_numpy() -> None:
    program = "\n".join(
        [
            "import sys",
            "from edgevit.measure.machine.local import describe_machine",
            "describe_machine()",
            "sys.exit(str({'torch', 'numpy', 'openvino', 'onnxruntime', 'onnx'} & set(sys.modules) or ''))",
        ]
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert child.stderr.strip() == ""


def test_quiet_machine_has_no_risks() -> None:
    assert list_measuring_risks(QUIET) == ()
    unknown = dataclasses.replace(QUIET, governor=None, virtual=None, load_average=None)
    assert list_measuring_risks(unknown) == ()


def test_each_disturbance_is_a_risk_of_its_own() -> None:
    for change, word in (
        ({"governor": "powersave"}, "powersave"),
        ({"load_average": (6.0, 1.0, 1.0)}, "6.0 on 8 cores"),
        ({"cpu_limit": 1.5}, "1.5 of 8 cores"),
        ({"virtual": True}, "virtual machine"),
    ):
        (risk,) = list_measuring_risks(dataclasses.replace(QUIET, **change))
        assert word in risk


def test_gpus_are_listed_with_what_their_driver_serves(orin: gpu_double.Machine) -> None:
    machine = describe_machine()
    assert machine.gpus == (orin.gpu,)
    assert machine.cuda_driver == "12.6"
    data = json.loads(json.dumps(schema.to_data(machine)))
    assert schema.from_data(Machine, data, "machine", BundleError) == machine
