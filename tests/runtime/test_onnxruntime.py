from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.core.engine import Engine
from edgevit.core.errors import DeviceError
from edgevit.runtime import onnxruntime as runtime
from edgevit.runtime.session import open_engine
from edgevit.runtime.settings import OpenSettings
from tests.support.tiny_bundle import make_bundle
from tests.support.tiny_onnx import write_classifier

ENGINE = Engine(
    backend="onnxruntime",
    device="CPU",
    precision="fp32",
    files=("model.onnx",),
    inputs=(),
    outputs=(),
    versions={"onnxruntime": "1.20.0"},
)


@pytest.mark.parametrize("version", ["1.16.3", "1.9.0"])
def test_version_before_opset_20_is_refused_with_both_values(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(runtime, "read_versions", lambda: {"onnxruntime": version})
    assert runtime.find_mismatch(ENGINE) == f"the engine needs ONNX Runtime 1.17 or later; here is {version}"


@pytest.mark.parametrize("version", ["1.17.0", "1.31.1"])
def test_other_version_opens_and_says_so(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(runtime, "read_versions", lambda: {"onnxruntime": version})
    assert runtime.find_mismatch(ENGINE) is None
    assert runtime.find_differences(ENGINE) == (f"measured with ONNX Runtime 1.20.0; here is {version}",)


@pytest.mark.parametrize(
    ("settings", "threads", "streams"),
    [
        (OpenSettings(), 4, 1),
        (OpenSettings(threads=2), 2, 1),
        (OpenSettings("throughput"), 4, 4),
        (OpenSettings("throughput", threads=2), 2, 2),
        (OpenSettings("throughput", streams=2), 4, 2),
    ],
)
def test_threads_are_shared_out_among_the_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: OpenSettings, threads: int, streams: int
) -> None:
    monkeypatch.setattr(runtime, "choose_threads", lambda: 4)
    session, used, lanes = runtime.open_session(str(write_classifier(tmp_path / "m.onnx")), settings)
    assert (used, lanes) == (threads, streams)
    assert session.get_session_options().intra_op_num_threads == threads // streams


def test_a_property_reaches_the_session(tmp_path: Path) -> None:
    settings = OpenSettings(properties={"session.intra_op.allow_spinning": False})
    session, _, _ = runtime.open_session(str(write_classifier(tmp_path / "m.onnx")), settings)
    assert session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_other_arithmetic_than_f32_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "out", tmp_path / "work")
    with pytest.raises(DeviceError, match="not in bf16"):
        open_engine(bundle.engine, {"inference_precision": "bf16"})


@pytest.mark.parametrize(("properties", "value"), [({}, "1"), ({"session.x64quantprecision": "0"}, "0")])
def test_products_of_bytes_do_not_overflow_unless_asked_for(
    tmp_path: Path, properties: dict[str, str], value: str
) -> None:
    path = str(write_classifier(tmp_path / "m.onnx"))
    session, _, _ = runtime.open_session(path, OpenSettings(properties=properties))
    assert session.get_session_options().get_session_config_entry("session.x64quantprecision") == value
