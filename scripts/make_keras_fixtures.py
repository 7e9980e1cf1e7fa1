"""Write tests/checkpoints/keras/: small models that Keras and KerasHub themselves saved, and what they answer.

    pip install keras==3.15.1 torch; pip install --no-deps keras-hub==0.32.0  # which asks for TensorFlow
    python scripts/make_keras_fixtures.py

``vit/`` and ``swin/`` are presets as ``save_to_preset`` writes them, ``deit.keras`` is a whole model with an
optimiser's state, ``backbone.weights.h5`` and ``swin.weights.h5`` are bare weights; ``bfloat16/`` is a backbone in that
type without class token. ``answers.npz`` has their input and answers, and a picture before and after each image
converter.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras
import keras_hub
import numpy as np
from keras_hub import layers, models

OUT = Path(__file__).parent.parent / "tests" / "checkpoints" / "keras"
VIT = {"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16}


def randomise(model: Any, generator: np.random.Generator) -> Any:
    """Values with which every parameter matters, as tests/support/reference.py gives them to torch modules."""
    for variable in model.trainable_variables:
        noise = generator.standard_normal(variable.shape)
        if any(part in variable.path for part in ("token", "position_embedding")):
            value = 0.5 * noise
        elif "bias_table" in variable.path:
            value = noise
        elif variable.path.endswith("kernel"):
            value = noise / math.sqrt(noise.size / noise.shape[-1])
        else:
            value = 0.2 * noise + float(variable.path.endswith("gamma"))
        variable.assign(value.astype(np.float32))
    return model


def answer(model: Any, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(keras.ops.convert_to_numpy(model(pixels, training=False)), np.float32)


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    generator = np.random.default_rng(0)
    pixels = generator.standard_normal((2, 32, 32, 3)).astype(np.float32)
    answers: dict[str, Any] = {"pixels": pixels.transpose(0, 3, 1, 2)}
    converters = {
        "vit": layers.ViTImageConverter(image_size=(32, 32), scale=1 / 127.5, offset=-1.0),
        "swin": layers.SwinTransformerImageConverter(
            image_size=(32, 32),
            scale=[1 / 255 / s for s in (0.229, 0.224, 0.225)],
            offset=[-m / s for m, s in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)],
            interpolation="bicubic",
            antialias=True,
            crop_to_aspect_ratio=False,
        ),
    }
    # Blobs, not noise: what a filter gives beyond 0 and 255 is not stored in 8 bits
    waves = np.sin(np.arange(83)[:, None, None] / 5 + np.arange(3)) * np.cos(np.arange(61)[None, :, None] / 7)
    answers["photo"] = photo = np.round(127 + 90 * waves).astype(np.uint8)
    for name, converter in converters.items():
        converted = converter(photo.astype(np.float32)[None])
        answers[f"{name}_photo"] = np.asarray(keras.ops.convert_to_numpy(converted), np.float32)[0]
    vit = models.ViTImageClassifier(
        models.ViTBackbone(mlp_dim=24, **VIT),
        num_classes=3,
        preprocessor=models.ViTImageClassifierPreprocessor(converters["vit"]),
    )
    swin = models.SwinTransformerImageClassifier(
        models.SwinTransformerBackbone(
            image_shape=(32, 32, 3), embed_dim=8, depths=(2, 2), num_heads=(1, 2), window_size=4, drop_path=0.1
        ),
        num_classes=3,
        preprocessor=models.SwinTransformerImageClassifierPreprocessor(converters["swin"]),
    )
    deit = models.DeiTImageClassifier(models.DeiTBackbone(intermediate_dim=24, **VIT), num_classes=3)
    for name, model in (("vit", vit), ("swin", swin), ("deit", deit)):
        model(pixels)  # builds what is built at the first call
        answers[name] = answer(randomise(model, generator), pixels)
    vit.save_to_preset(str(OUT / "vit"))
    swin.save_to_preset(str(OUT / "swin"))
    deit.optimizer.build(deit.trainable_variables)
    deit.save(str(OUT / "deit.keras"))
    answers["backbone"] = answer(vit.backbone, pixels)[:, 0]
    vit.backbone.save_weights(str(OUT / "backbone.weights.h5"))
    swin.save_weights(str(OUT / "swin.weights.h5"))
    half = randomise(
        models.ViTBackbone(mlp_dim=24, use_class_token=False, use_mha_bias=False, use_patch_bias=False, **VIT),
        generator,
    )
    for variable in half.trainable_variables:  # what bfloat16 keeps of them
        variable.assign(keras.ops.cast(keras.ops.cast(variable, "bfloat16"), "float32"))
    answers["bfloat16"] = answer(half, pixels).mean(axis=1)
    stored = models.ViTBackbone(
        mlp_dim=24, use_class_token=False, use_mha_bias=False, use_patch_bias=False, dtype="bfloat16", **VIT
    )
    stored.set_weights(half.get_weights())
    stored.save_to_preset(str(OUT / "bfloat16"))
    np.savez(OUT / "answers.npz", **answers)
    versions = {"keras": keras.__version__, "keras-hub": keras_hub.__version__}
    print(json.dumps(versions), {str(p.relative_to(OUT)): p.stat().st_size for p in sorted(OUT.rglob("*.*"))})


if __name__ == "__main__":
    main()
