"""Tiny OWL-ViTs and OWLv2s with random weights and a tokenizer that was really trained."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from tests.support.reference import import_transformers, randomise
from tests.support.two_towers import CONTEXT, write_clip_tokenizer

OwlKind = Literal["OwlViT", "Owlv2"]
OWLS: tuple[OwlKind, ...] = ("OwlViT", "Owlv2")
NAMES = ("tench", "chain saw", "church", "gas pump")
SIDE = 64

_WIDTH: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}


def write_owl(kind: OwlKind, folder: Path) -> tuple[Any, Any]:
    """The model in evaluation mode and its processor, saved as transformers does."""
    transformers = import_transformers()
    tokenizer = write_clip_tokenizer(folder)
    tokenizer.model_max_length = CONTEXT  # which processors fill texts up to
    text = {**_WIDTH, "num_hidden_layers": 2, "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT}
    config = getattr(transformers, f"{kind}Config")(
        text_config={**text, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id},
        vision_config={**_WIDTH, "num_hidden_layers": 3, "image_size": SIDE, "patch_size": 16},
        projection_dim=_WIDTH["hidden_size"],
    )
    model = randomise(getattr(transformers, f"{kind}ForObjectDetection")(config), seed=1)
    model.save_pretrained(folder)
    images = getattr(transformers, f"{kind}ImageProcessor")(size={"height": SIDE, "width": SIDE})
    images.save_pretrained(folder)
    return model.eval().requires_grad_(False), getattr(transformers, f"{kind}Processor")(images, tokenizer)


@cache
def save_owl(kind: OwlKind) -> tuple[Path, Any, Any]:
    """:func:`write_owl` in a folder of this process's: others may write theirs at the same time."""
    folder = Path(tempfile.mkdtemp(prefix=f"edgevit-{kind}-"))
    return folder, *write_owl(kind, folder)


def ask_owl(model: Any, processor: Any, pixels: Any, texts: list[str], *, other_size: bool = False) -> Any:
    """transformers' answer of the whole model, with its text tower, to ``(1, 3, H, W) float32``."""
    import torch

    tokens = processor(text=[texts], return_tensors="pt")
    with torch.inference_mode():
        return model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=torch.as_tensor(pixels),
            interpolate_pos_encoding=other_size,
        )


def find_by_transformers(processor: Any, result: Any, photo: Image.Image, texts: list[str], threshold: float) -> Any:
    """Boxes, scores and labels by falling score, as :class:`~edgevit.runtime.tasks.answers.Detections` has them."""
    import torch

    (found,) = processor.post_process_grounded_object_detection(
        result, threshold=threshold, target_sizes=[(photo.height, photo.width)], text_labels=[texts]
    )
    order = torch.argsort(-found["scores"], stable=True)
    names = [found["text_labels"][index] for index in order.tolist()]
    return {key: found[key][order].numpy() for key in ("boxes", "scores", "labels")} | {"names": names}
