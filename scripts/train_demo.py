"""Train the two models that `edgevit demo` ships: a small ViT and a small Swin on handwritten digits.

    python scripts/train_demo.py                 # both models, a few minutes on one core
    python scripts/train_demo.py --only vit --out /tmp/models

The images are scikit-learn's copy of the UCI handwritten digits: 1,797 images, 8 × 8, 17 grey levels. The first 1,200
train, the last 597 judge: each run looks at them once, after its last epoch. No epoch, seed or setting is picked by
them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import edgevit
from edgevit.checkpoints.preprocess_configs import read_timm_preprocess
from edgevit.cli.demo_models import LABELS, TRAINING, load_digits
from edgevit.models.swin import Swin, SwinConfig
from edgevit.models.vit import ViT, ViTConfig
from edgevit.pixels.preprocess import to_nchw

SEED = 20
EPOCHS = 120
BATCH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.05
SIZE = 32
# Goes into config.json, and makes the training images by the very code that evaluation uses.
PRETRAINED_CFG = {
    "tag": "digits",
    "custom_load": False,
    "input_size": [3, SIZE, SIZE],
    "fixed_input_size": True,
    "interpolation": "bicubic",
    "crop_pct": 1.0,
    "crop_mode": "squash",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "num_classes": len(LABELS),
    "pool_size": None,
    "first_conv": "patch_embed.proj",
    "license": "apache-2.0",
}


@dataclass(frozen=True)
class Plan:
    """One model: what timm calls it, and the arguments that make timm build the same module."""

    name: str
    architecture: str
    model_args: dict[str, Any]
    features: int
    pool: str
    classifier: str


VIT = Plan(
    name="vit",
    architecture="vit_tiny_patch16_224",
    model_args={"img_size": SIZE, "patch_size": 4, "embed_dim": 64, "depth": 4, "num_heads": 4},
    features=64,
    pool="token",
    classifier="head",
)
SWIN = Plan(
    name="swin",
    architecture="swin_tiny_patch4_window7_224",
    model_args={
        "img_size": SIZE,
        "patch_size": 2,
        "window_size": 4,
        "embed_dim": 32,
        "depths": [2, 2],
        "num_heads": [2, 4],
    },
    features=64,
    pool="avg",
    classifier="head.fc",
)


def build_module(plan: Plan) -> nn.Module:
    """The untrained module, initialised as timm does: Linears and tables from a truncated normal of width 0.02."""
    a, size = plan.model_args, (SIZE, SIZE)
    patch, classes = (a["patch_size"],) * 2, len(LABELS)
    module: nn.Module
    if plan is VIT:
        width = a["embed_dim"]
        module = ViT(ViTConfig(size, patch, 3, width, a["depth"], a["num_heads"], mlp_width=4 * width, classes=classes))
    else:
        depths, heads, window = tuple(a["depths"]), tuple(a["num_heads"]), (a["window_size"],) * 2
        module = Swin(SwinConfig(size, patch, 3, a["embed_dim"], depths, heads, window, classes=classes))
    for name, value in module.named_parameters():
        if ("bias" not in name and value.ndim == 2) or name in ("cls_token", "pos_embed"):
            nn.init.trunc_normal_(value, std=0.02)
        elif name.endswith("bias") and value.ndim == 1:
            nn.init.zeros_(value)
        elif name.endswith("bias.table"):
            nn.init.trunc_normal_(value, std=0.02)
    return module


def name_as_timm(plan: Plan, module: nn.Module) -> dict[str, Tensor]:
    """The module's parameters under timm's names."""
    renames = {
        "bias.table": "attn.relative_position_bias_table",
        "patch_norm.": "patch_embed.norm.",
        "head.": f"{plan.classifier}.",
    }

    def rename(name: str) -> str:
        for ours, theirs in renames.items():
            name = name.replace(ours, theirs)
        return name

    return {rename(name): value.detach().contiguous() for name, value in module.named_parameters()}


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shift by up to 1/10 of the side, turn by up to 12°, scale by up to 10 %, shear a little: ``(B, 3, H, W)``."""

    def uniform(limit: float) -> Tensor:
        return (torch.rand(len(pixels), generator=generator) * 2 - 1) * limit

    angle, scale, shear = uniform(math.radians(12)), 1 + uniform(0.1), uniform(0.15)
    theta = torch.stack(
        [
            torch.stack([scale * angle.cos(), -angle.sin() + shear, uniform(0.2)], dim=1),
            torch.stack([angle.sin(), scale * angle.cos(), uniform(0.2)], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def train(module: nn.Module, pixels: Tensor, labels: Tensor) -> None:
    """AdamW, one cycle of cosine, a fixed number of epochs; nothing is chosen on the way."""
    generator = torch.Generator().manual_seed(SEED)
    steps = EPOCHS * math.ceil(len(pixels) / BATCH)
    optimizer = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    module.train()
    for epoch in range(EPOCHS):
        total = 0.0
        for index in torch.randperm(len(pixels), generator=generator).split(BATCH):
            loss = F.cross_entropy(
                module(augment(pixels[index], generator)), labels[index], label_smoothing=LABEL_SMOOTHING
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index)
        if epoch % 10 == 9:
            print(f"  epoch {epoch + 1:3d}  loss {total / len(pixels):.4f}", flush=True)
    module.eval()


def write_folder(plan: Plan, module: nn.Module, folder: Path, correct: int, images: int) -> None:
    """timm's hub folder layout, with a record of the training beside what timm reads."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.safetensors"
    save_file(name_as_timm(plan, module), weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors writes only for the owner
    config = {
        "architecture": plan.architecture,
        "num_classes": len(LABELS),
        "num_features": plan.features,
        "global_pool": plan.pool,
        "model_args": plan.model_args,
        "label_names": list(LABELS),
        "pretrained_cfg": {**PRETRAINED_CFG, "classifier": plan.classifier},
        "training": {
            "script": "scripts/train_demo.py",
            "seed": SEED,
            "epochs": EPOCHS,
            "training_images": TRAINING,
            "held_out_images": images,
            "held_out_correct": correct,
            "held_out_top1_percent": round(100 * correct / images, 2),
            "versions": {"edgevit": edgevit.__version__, "torch": torch.__version__, "numpy": np.__version__},
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    """Train, judge once, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["vit", "swin"], help="train one of the two")
    parser.add_argument("--out", type=Path, default=Path(edgevit.__file__).parent / "cli" / "demo_models")
    args = parser.parse_args()
    torch.set_num_threads(1)  # the same sums in the same order everywhere
    torch.use_deterministic_algorithms(True)
    images, targets = load_digits()
    preprocess, _ = read_timm_preprocess(PRETRAINED_CFG)
    small = [Image.fromarray(image) for image in images]
    pixels = torch.from_numpy(to_nchw(preprocess.normalize(np.stack([preprocess.apply(image) for image in small]))))
    labels = torch.from_numpy(targets.astype(np.int64))
    for plan in (VIT, SWIN):
        if args.only not in (None, plan.name):
            continue
        torch.manual_seed(SEED)
        module = build_module(plan)
        start = time.perf_counter()
        print(f"{plan.name}: {sum(p.numel() for p in module.parameters()):,} parameters, {EPOCHS} epochs")
        train(module, pixels[:TRAINING], labels[:TRAINING])
        with torch.no_grad():
            correct = int((module(pixels[TRAINING:]).argmax(1) == labels[TRAINING:]).sum())
        held_out = len(pixels) - TRAINING
        write_folder(plan, module, args.out / f"{plan.name}_digits", correct, held_out)
        print(
            f"  held out: {correct} of {held_out} = {100 * correct / held_out:.2f} % top-1, "
            f"{time.perf_counter() - start:.0f} s"
        )


if __name__ == "__main__":
    main()
