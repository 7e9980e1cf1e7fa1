"""Packages that only a build needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edgevit
from edgevit.core.errors import MissingPackageError
from edgevit.core.packages import install_line, list_versions, require_package


def test_a_package_that_is_there_is_imported() -> None:
    assert require_package("json", "reading a checkpoint") is json


def test_a_package_that_is_not_there_is_named_with_what_needs_it() -> None:
    with pytest.raises(MissingPackageError) as caught:
        require_package("edgevit_has_no_such_package", "reading a checkpoint")
    assert caught.value.message.startswith("reading a checkpoint needs edgevit_has_no_such_package, which cannot be")
    assert caught.value.hint == install_line("build")


def test_list_versions_leaves_out_what_is_not_installed() -> None:
    found = list_versions(("numpy", "edgevit-without-such-a-package"))
    assert set(found) == {"numpy"}
    assert found["numpy"][0].isdecimal()


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        ({"url": "file://FOLDER", "dir_info": {}}, 'pip install "edgevit[build] @ file://FOLDER"'),
        ({"url": "file://FOLDER", "dir_info": {"editable": True}}, 'pip install -e "FOLDER[build]"'),
        (
            {"url": "https://host/edgevit", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            'pip install "edgevit[build] @ git+https://host/edgevit@abc"',
        ),
        ({"url": "file:///nowhere/edgevit.whl", "archive_info": {}}, 'pip install "PATH[build]", where PATH is the'),
        (None, 'pip install "PATH[build]", where PATH is the folder or wheel that edgevit came from'),
    ],
)
def test_extra_is_installed_from_where_edgevit_was_and_from_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: dict[str, object] | None, line: str
) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return json.dumps(origin).replace("FOLDER", str(tmp_path)) if origin is not None else None

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Installed())
    install_line.cache_clear()
    try:
        assert install_line("build").startswith(line.replace("FOLDER", str(tmp_path)))
    finally:
        install_line.cache_clear()


def test_no_file_suggests_an_extra_by_a_name_that_is_not_ours_on_any_index() -> None:
    root = Path(edgevit.__file__).parent
    files = [path for path in root.rglob("*.py") if path != root / "core" / "packages.py"]
    assert [path for path in files if "edgevit[" in path.read_text(encoding="utf-8")] == [
        root / "core" / "own_source.py"
    ]
