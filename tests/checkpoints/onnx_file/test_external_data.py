"""Weights beside an ONNX file are read from there, whatever lies in the working folder under the same name."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from edgevit.checkpoints import read_checkpoint
from tests.support.foreign_exports import Exporter, export, read


# Small ones stay where the exporter of torch has shapes of reshapes among them: ONNX Runtime wants those in the graph.
@pytest.mark.parametrize(("exporter", "threshold"), [("dynamo", 256), ("script", 0)])
def test_file_below_opset_20_with_weights_beside_it_is_read_from_another_folder(
    exporter: Exporter, threshold: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 01: onnx's converter looked for the small ones in the working folder."""
    whole = onnx.load(export("timm_vit", exporter, opset=18).path)
    folder, decoys = tmp_path / "a", tmp_path / "b"
    for place in (folder, decoys):
        place.mkdir()
    onnx.save(
        whole,
        str(folder / "model.onnx"),
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=threshold,
    )
    (decoys / "model.onnx.data").write_bytes(bytes(len((folder / "model.onnx.data").read_bytes())))
    monkeypatch.chdir(decoys)
    found = read_checkpoint(folder / "model.onnx").module.state_dict()
    wanted = read("timm_vit", exporter).module.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-6) for name in wanted)
