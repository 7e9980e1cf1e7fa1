"""A bundle with a changed manifest, and whether both runtimes say the same of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.cpp_bundle import CppBundle, open_in_python

MANIFEST = "manifest.json"


def write_manifest(folder: Path, change: Callable[[dict[str, Any]], None], *, digest: bool = True) -> None:
    """Change a bundle's manifest, and record its digest anew unless it is to be wrong."""
    data = json.loads((folder / MANIFEST).read_bytes())
    recorded = data.pop("manifest_sha256")
    change(data)
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    data["manifest_sha256"] = hashlib.sha256(canonical.encode()).hexdigest() if digest else recorded
    (folder / MANIFEST).write_text(json.dumps(data))


def check_alike(cpp: CppBundle, path: Path, code: str, **options: Any) -> None:
    """Both runtimes say this code."""
    assert open_in_python(path, **options).code == code
    answer = cpp.open(path, **options)
    assert answer.code == code, answer.text
