"""Images in tar files, as webdataset writes them, and in parquet files, as Hugging Face's datasets does."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def draw_image(seed: int, side: int = 12, form: str = "PNG") -> bytes:
    """An image file of its own."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side + seed % 3, 3), np.uint8)).save(
        stream, form
    )
    return stream.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """A tar file with these members, in this order."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_parquet(
    path: Path,
    images: Sequence[bytes | None],
    labels: Sequence[Any] | None = None,
    *,
    names: Sequence[str] = (),
    rows: int = 100,
    plain: bool = False,
) -> Path:
    """A parquet file with the columns image and label; ``rows`` a group."""
    import pyarrow
    import pyarrow.parquet

    columns: dict[str, Any] = {
        "image": pyarrow.array(images, pyarrow.binary())
        if plain
        else pyarrow.array(
            [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)],
            pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
        )
    }
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if labels is not None:
        columns["label"] = pyarrow.array(labels)
        features["label"] = {"_type": "ClassLabel", **({"names": list(names)} if names else {})}
    table = pyarrow.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    pyarrow.parquet.write_table(table, path, row_group_size=rows)
    return path
