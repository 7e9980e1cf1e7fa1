"""The models and images of the INT8 benchmark."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.checkpoints import read_checkpoint
from edgevit.measure.reference import generate_images
from edgevit.models.model import Model
from edgevit.pixels.images import ImageSet
from tests.support.reference import import_timm, randomise, save_timm_folder


@dataclass(frozen=True)
class BenchModel:
    """A row of the benchmark.

    Attributes:
        name: The asset's folder, or timm's name of a model that gets random weights.
        images: The asset's folder of images.
        real: Whether its weights are real, so that accuracy means something.
        cost: Whether the cost of quantising it is measured on request.
    """

    name: str
    images: str = "imagenet"
    real: bool = False
    cost: bool = False


MODELS = (
    BenchModel("deit_tiny_imagenet", real=True),
    BenchModel("swin_imagenette", images="imagenette", real=True),
    BenchModel("deit_small_patch16_224", cost=True),
    BenchModel("vit_base_patch16_224", cost=True),
    BenchModel("swin_tiny_patch4_window7_224"),
)


def find_assets() -> Path | None:
    """Real checkpoints and photos, in $EDGEVIT_ASSETS or beside the repository; ``None`` where they are absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "assets"
    folder = Path(os.environ.get("EDGEVIT_ASSETS", beside))
    return folder if folder.is_dir() else None


def load_pair(bench: BenchModel, assets: Path | None, folder: Path) -> tuple[Model, Any, Path]:
    """Our model, timm's module of the same weights, and the checkpoint's folder.

    Args:
        bench: With real weights only where ``assets`` is given.
        assets: From :func:`find_assets`.
        folder: Where random weights are saved.
    """
    timm = import_timm()
    if bench.real:
        assert assets is not None
        checkpoint = assets / bench.name
        module = timm.create_model(f"local-dir:{checkpoint}", pretrained=True).eval()
    else:
        checkpoint = folder / "checkpoint"
        module = randomise(timm.create_model(bench.name))
        save_timm_folder(module, checkpoint)
    return read_checkpoint(checkpoint), module, checkpoint


def read_images(
    bench: BenchModel, model: Model, assets: Path | None, use: str, count: int | None, folder: Path
) -> ImageSet:
    """A seeded, class-balanced sample of the asset's images; without assets, smooth noise, for timing only.

    Args:
        bench: Names the set.
        model: Gives size and labels.
        assets: From :func:`find_assets`.
        use: ``calibration`` or ``validation``.
        count: Images at most; ``None`` for all.
        folder: Where noise is saved.
    """
    if assets is not None:
        images = ImageSet.read(assets / bench.images / f"{use}.csv", labels=model.labels)
        return images if count is None else images.subset(count, seed=0)
    from PIL import Image

    height, width = model.config.image_size
    noise = folder / use
    noise.mkdir()
    for index, pixels in enumerate(generate_images(count or 1, height, width, seed=0)):
        Image.fromarray(pixels).save(noise / f"{index:04}.png")
    return ImageSet.read(noise)
