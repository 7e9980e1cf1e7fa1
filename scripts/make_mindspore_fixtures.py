"""Write tests/checkpoints/mindspore/: small checkpoints that MindSpore itself saved, and what MindCV's models answer.

    pip install mindspore==2.10.0 mindcv==0.3.0 "numpy<2"
    python scripts/make_mindspore_fixtures.py

``vit.ckpt`` and ``swin.ckpt`` are as ``save_checkpoint`` writes them, the second with a checksum; ``training.ckpt`` is
the ViT with the state of a training step: AdamW's moments, and averaged weights (``ema.``) that differ from the last
step's. ``answers.npz`` has the pixels ``(2, 3, 32, 32) float32`` and the logits of each.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
from mindcv.models.swintransformer import SwinTransformer
from mindcv.models.vit import VisionTransformer
from mindspore import Tensor, nn

OUT = Path(__file__).parent.parent / "tests" / "checkpoints" / "mindspore"


def randomise(net: nn.Cell, generator: np.random.Generator) -> nn.Cell:
    """Values with which every parameter matters, as tests/support/reference.py gives them to torch modules."""
    for parameter in net.get_parameters():
        if not parameter.requires_grad:  # masks and indices
            continue
        noise = generator.standard_normal(parameter.shape)
        name = parameter.name
        if name.endswith(("cls_token", "pos_embed")):
            value = 0.5 * noise
        elif "bias_table" in name:
            value = noise
        elif noise.ndim > 1:
            value = noise / math.sqrt(noise[0].size)
        else:
            value = 0.2 * noise + float(name.endswith("gamma"))
        parameter.set_data(Tensor(value.astype(np.float32)))
    return net.set_train(False)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    pixels = generator.standard_normal((2, 3, 32, 32)).astype(np.float32)
    vit = VisionTransformer(image_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3)
    swin = SwinTransformer(
        image_size=32,
        embed_dim=8,
        depths=[2, 1, 1],
        num_heads=[1, 2, 4],
        window_size=2,
        num_classes=3,
        drop_path_rate=0.0,
    )
    answers: dict[str, Any] = {"pixels": pixels}
    randomise(vit, generator)
    averaged = {p.name: Tensor(p.asnumpy().copy()) for p in vit.get_parameters()}
    answers["averaged"] = vit(Tensor(pixels)).asnumpy()
    randomise(vit, generator)
    answers["vit"] = vit(Tensor(pixels)).asnumpy()
    answers["swin"] = randomise(swin, generator)(Tensor(pixels)).asnumpy()
    mindspore.save_checkpoint(vit, str(OUT / "vit.ckpt"))
    mindspore.save_checkpoint(swin, str(OUT / "swin.ckpt"), crc_check=True)
    optimizer = nn.AdamWeightDecay(vit.trainable_params(), 1e-3)
    training = [{"name": p.name, "data": p} for p in vit.get_parameters()]
    training += [{"name": f"ema.{name}", "data": value} for name, value in averaged.items()]
    training += [{"name": p.name, "data": p} for p in optimizer.get_parameters() if p.name not in averaged]
    training.append({"name": "epoch_num", "data": Tensor(3, mindspore.int32)})
    mindspore.save_checkpoint(training, str(OUT / "training.ckpt"))
    for path in OUT.glob("*.ckpt"):
        path.chmod(0o644)
    np.savez(OUT / "answers.npz", **answers)
    print(f"mindspore {mindspore.__version__}:", {p.name: p.stat().st_size for p in sorted(OUT.iterdir())})


if __name__ == "__main__":
    main()
