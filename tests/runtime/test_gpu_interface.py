"""The double of the GPU offers nothing that the real packages do not have under that name with those arguments."""

from __future__ import annotations

import enum
import inspect
import re
from typing import Any

import pytest

from edgevit.core.errors import MissingPackageError
from edgevit.runtime.cuda import import_cudart
from tests.support.gpu_double import ORIN, Machine, builder
from tests.support.gpu_double import cudart as cudart_double
from tests.support.gpu_double import tensorrt as tensorrt_double

CALLS = sorted(name for name in vars(cudart_double.Cudart) if name.startswith("cuda") and name[4].isupper())
FUNCTIONS = [name for name in CALLS if callable(vars(cudart_double.Cudart)[name]) and not name.endswith("_t")]
FUNCTIONS = [name for name in FUNCTIONS if not isinstance(vars(cudart_double.Cudart)[name], enum.EnumMeta)]
ENUMS = {
    "cudaError_t": cudart_double.Status,
    "cudaMemcpyKind": cudart_double.MemcpyKind,
    "cudaStreamCaptureMode": cudart_double.CaptureMode,
}
CONSTANTS = [name for name in CALLS if isinstance(vars(cudart_double.Cudart)[name], int)]


@pytest.fixture(scope="module")
def cudart() -> Any:
    try:
        return import_cudart()
    except MissingPackageError as exc:  # NVIDIA has it for Linux and Windows
        pytest.skip(f"{exc.message}: {exc.hint}")


@pytest.fixture(scope="module")
def library() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install edgevit[rtx]")


def test_double_of_cuda_offers_functions_and_constants() -> None:
    assert len(FUNCTIONS) > 20
    assert len(CONSTANTS) == 5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_of_cuda_has_the_doubles_arguments(cudart: Any, name: str) -> None:
    real = list(inspect.signature(getattr(cudart, name)).parameters)
    mine = list(inspect.signature(vars(cudart_double.Cudart)[name]).parameters)[1:]
    assert mine == real


@pytest.mark.parametrize("name", sorted(cudart_double.GIVES_NOTHING))
def test_function_of_cuda_that_gives_nothing_returns_its_status_alone(cudart: Any, name: str) -> None:
    """The real docstring lists what comes back; ours must unpack alike."""
    text = getattr(cudart, name).__doc__
    returns = text[text.index("Returns\n") :].split("-------\n", 1)[1]
    listed = [line for line in returns.splitlines() if line and not line.startswith(" ")]
    assert listed[0].startswith("cudaError_t")
    assert not listed[1:2] or not re.match(r"\w+ ?: ", listed[1])


@pytest.mark.parametrize("name", ENUMS)
def test_enumeration_of_cuda_has_the_doubles_values(cudart: Any, name: str) -> None:
    real = getattr(cudart, name)
    assert {m.name: m.value for m in ENUMS[name]} == {m.name: int(getattr(real, m.name)) for m in ENUMS[name]}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constant_of_cuda_has_the_doubles_value(cudart: Any, name: str) -> None:
    assert getattr(cudart, name) == vars(cudart_double.Cudart)[name]


RTX = tensorrt_double.make_library(Machine(ORIN), "tensorrt_rtx", "1.7.1.116")
CLASSES = sorted(
    name for name, cls in vars(RTX).items() if isinstance(cls, type) and issubclass(cls, tensorrt_double.Object)
)
LIBRARY_ENUMS = sorted(name for name, cls in vars(RTX).items() if isinstance(cls, enum.EnumMeta))
OWN = {"say"}
"""What the double's objects have for themselves."""


def list_members(name: str) -> dict[str, Any]:
    """Methods and properties that the double's class has, its base classes included."""
    found: dict[str, Any] = {}
    for cls in reversed(getattr(RTX, name).__mro__[:-1]):
        members = {key: value for key, value in vars(cls).items() if not key.startswith("_") and key not in OWN}
        found |= {key: value for key, value in members.items() if callable(value) or isinstance(value, property)}
    return found


def list_signatures(method: Any) -> list[list[str]]:
    """Argument names of every overload that pybind11 writes down."""
    lines = re.findall(rf"^(?:\d+\. )?{method.__name__}\((.*)\) -> ", method.__doc__, re.MULTILINE)
    plain = [re.sub(r"<[^>]*>|\[[^\]]*\]", "", line) for line in lines if not line.startswith("*args")]
    return [[part.split(":")[0].strip() for part in line.split(",")][1:] for line in plain]


@pytest.mark.parametrize("name", CLASSES)
def test_class_of_tensorrt_has_the_doubles_members_with_their_arguments(library: Any, name: str) -> None:
    real = getattr(library, name)
    for member, value in list_members(name).items():
        assert hasattr(real, member), f"{name}.{member}"
        if isinstance(value, property):
            assert isinstance(inspect.getattr_static(real, member), property)
            continue
        mine = list(inspect.signature(value).parameters)[1:]
        overloads = list_signatures(getattr(real, member))
        assert mine in overloads, f"{name}.{member}{mine} is none of {overloads}"


def test_attributes_that_edgevit_sets_and_reads_are_properties_of_the_real_classes(library: Any) -> None:
    """The double has them as plain attributes."""
    wanted = {
        "IBuilderConfig": ("profiling_verbosity", "num_compute_capabilities"),
        "IRuntimeConfig": ("dynamic_shapes_kernel_specialization_strategy",),
        "IExecutionContext": ("active_optimization_profile", "nvtx_verbosity"),
        "OnnxParser": ("num_errors",),
    }
    for name, attributes in wanted.items():
        for attribute in attributes:
            assert isinstance(inspect.getattr_static(getattr(library, name), attribute), property)
            mine = getattr(tensorrt_double, name, None) or builder.list_classes(rtx=True)[name]
            assert f"self.{attribute}" in inspect.getsource(mine.__mro__[0]) + inspect.getsource(mine.__mro__[1])


@pytest.mark.parametrize("name", LIBRARY_ENUMS)
def test_enumeration_of_tensorrt_has_the_doubles_values(library: Any, name: str) -> None:
    mine = getattr(RTX, name)
    assert {m.name: m.value for m in mine} == {m.name: int(getattr(getattr(library, name), m.name)) for m in mine}


def test_severities_of_the_logger_are_the_real_ones(library: Any) -> None:
    real = library.ILogger.Severity
    assert {m.name: m.value for m in tensorrt_double.Severity} == {
        m.name: int(getattr(real, m.name)) for m in tensorrt_double.Severity
    }


def test_logger_hears_the_real_library(library: Any) -> None:
    """Nothing of this needs a GPU: the builder of TensorRT-RTX refuses a file that is no model."""
    from edgevit.runtime.tensorrt.log import get_log

    log = get_log(library)
    assert get_log(library) is log
    with log.listen() as said:
        made = library.Builder(log)
        network = made.create_network(1)
        assert not library.OnnxParser(network, log).parse(b"no model")
    assert said.errors
    assert said.describe().startswith(":\n  ")
    heard = len(said.messages)
    library.Builder(log)
    assert len(said.messages) == heard, "nobody listens any more"
