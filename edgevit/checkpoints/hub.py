"""Download a checkpoint from the Hugging Face hub into its cache."""

from __future__ import annotations

from pathlib import Path

from edgevit.errors import CheckpointError, MissingPackageError

_SAFE = ("config.json", "preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")


def download_checkpoint(source: str) -> Path:
    """Download ``hf-hub:ORGANISATION/NAME[@REVISION]``; pickled weights only where there are no safetensors.

    Returns:
        The folder in the hub's cache.

    Raises:
        CheckpointError: The repository or the network is not there, or access is refused.
        MissingPackageError: huggingface_hub is not installed.
    """
    repository, _, revision = source.partition(":")[2].partition("@")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as exc:
        raise MissingPackageError(
            f"downloading {source} needs huggingface_hub, which cannot be imported: {exc}",
            'pip install "edgevit[build]"',
        ) from exc
    try:
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(_SAFE)))
        if not any(folder.glob("model*.safetensors")):
            folder = Path(
                snapshot_download(repository, revision=revision or None, allow_patterns=list(_PICKLED + _SAFE))
            )
    except Exception as exc:  # huggingface_hub raises its own, requests' or httpx's, and OSError
        reason = str(exc).strip().splitlines()[-1] if str(exc).strip() else type(exc).__name__
        raise CheckpointError(
            f"{source} cannot be downloaded: {reason}",
            "check the name and the network, log in with `hf auth login` for a private model, or name a local folder",
        ) from exc
    return folder
