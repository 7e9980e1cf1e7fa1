"""Download a checkpoint from the Hugging Face hub into its cache, or take it from there."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

from edgevit.core.errors import CheckpointError, last_line
from edgevit.core.packages import require_package

_SAFE = (
    "config.json", "preprocessor_config.json", "processor_config.json",
    "model*.safetensors", "model.safetensors.index.json",
    "open_clip_config.json", "open_clip_model.safetensors",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt",
    "model.weights.h5", "task.weights.h5", "task.json", "preprocessor.json", "image_converter.json",
)  # fmt: skip
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")  # not beside a model, which may have it merged
_PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json", "open_clip_pytorch_model.bin")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def download_checkpoint(source: str) -> tuple[Path, str | None]:
    """Download ``[hf-hub:]ORGANISATION/NAME[@REVISION]``; pickled weights only where there are no safetensors.

    Without a network, or with ``HF_HUB_OFFLINE=1``, what the hub's cache holds is taken.

    Returns:
        The folder in the hub's cache, and the commit that it is of.

    Raises:
        CheckpointError: The repository or the network is not there, access is refused, or the cache is incomplete.
        MissingPackageError: huggingface_hub is not installed.
    """
    hub = require_package("huggingface_hub", f"downloading {source}")
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, _, revision = source.removeprefix("hf-hub:").removeprefix("hf_hub:").partition("@")

    def fetch(patterns: tuple[str, ...]) -> Path:
        return Path(hub.snapshot_download(repository, revision=revision or None, allow_patterns=list(patterns)))

    try:
        if _COMMIT.fullmatch(revision):  # never changes: without a network, asking for it is half a minute of retries
            with suppress(LocalEntryNotFoundError, ValueError, KeyError):  # not there, or a damaged index
                folder = Path(hub.snapshot_download(repository, revision=revision, local_files_only=True))
                if _is_whole(folder):
                    return folder, revision
        folder = fetch(_SAFE)
        for others in (_ADAPTER, _PICKLED):
            if not any(path.suffix in (".safetensors", ".h5") for path in folder.iterdir()):
                folder = fetch(others + _SAFE)
    except Exception as exc:  # huggingface_hub raises its own, requests' or httpx's, and OSError
        raise _explain(source, repository, revision, exc) from exc
    if not any(path.suffix in (".safetensors", ".bin", ".h5") for path in folder.iterdir()):
        raise CheckpointError(
            f"{source} has no weights that can be read in {folder}",
            "if this was without a network, download it once with one; the hub's cache is used after that. Otherwise "
            "look at its files on the hub: weights are read from model.safetensors, pytorch_model.bin, open_clip's, "
            "KerasHub's and PEFT's files",
        )
    return folder, folder.name if _COMMIT.fullmatch(folder.name) else None


def _is_whole(folder: Path) -> bool:
    """Whether a snapshot has its weights, every part of them: a download that broke off leaves some."""
    if (folder / "model.weights.h5").is_file():  # KerasHub's; a task's own weights lie beside its configuration
        return all((folder / "task.weights.h5").is_file() for _ in folder.glob("task.json"))
    if not any(folder.glob("*.safetensors")) or not any(folder.glob("*config.json")):
        return False
    indices = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.safetensors.index.json")]
    return all((folder / name).is_file() for index in indices for name in index["weight_map"].values())


def _explain(source: str, repository: str, revision: str, exc: Exception) -> CheckpointError:
    kinds = {kind.__name__ for kind in type(exc).__mro__}
    name = f"{repository}@{revision}" if revision else repository
    if kinds & {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "ConnectError"}:
        bare = not source.startswith(("hf-hub:", "hf_hub:"))
        here = f"there is no file or folder {source!r}; as a hub id, " if bare else ""
        at = f" --revision {revision}" if revision else ""
        return CheckpointError(
            f"{here}{name} is not in the hub's cache, and the hub cannot be reached",
            f"connect once and download it with `hf download {repository}{at}`, or name a local folder",
        )
    if "GatedRepoError" in kinds:
        return CheckpointError(
            f"{name} is gated: the hub gives it to those who accepted its terms",
            "accept them on its page, and log in with `hf auth login`",
        )
    if "RevisionNotFoundError" in kinds:
        return CheckpointError(f"{repository} has no revision {revision!r}", "name a branch, a tag or a commit")
    if "RepositoryNotFoundError" in kinds:
        return CheckpointError(
            f"{source} is neither a path here nor a model of the hub that can be seen",
            "check the name; for a private model, log in with `hf auth login`",
        )
    return CheckpointError(
        f"{source} cannot be downloaded: {last_line(exc)}",
        "check the name and the network, log in with `hf auth login` for a private model, or name a local folder",
    )
