"""The table of engine libraries: every name in it leads somewhere."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import get_args

import pytest
import tomllib

from edgevit.core.cache_folder import CONTENTS
from edgevit.core.libraries import LIBRARIES, BackendName
from edgevit.engines import get_backend
from edgevit.quantize.placement import PLACEMENTS
from edgevit.runtime.session import get_runtime

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]


def test_targets_name_exactly_the_libraries_of_the_table() -> None:
    assert get_args(BackendName) == tuple(LIBRARIES)


@pytest.mark.parametrize("name", LIBRARIES)
def test_compiler_and_runtime_provide_what_is_asked_of_them(name: str) -> None:
    backend, runtime = get_backend(name), get_runtime(name)
    assert callable(backend.check)
    assert callable(backend.compile)
    for wanted in (
        runtime.open_executor,
        runtime.list_devices,
        runtime.read_versions,
        runtime.find_mismatch,
        runtime.find_differences,
        runtime.describe_place,
    ):
        assert callable(wanted)


@pytest.mark.parametrize("name", LIBRARIES)
def test_extra_brings_the_distribution(name: str) -> None:
    library = LIBRARIES[name]
    assert any(requirement.startswith(library.distribution) for requirement in EXTRAS[library.extra])


@pytest.mark.parametrize("name", LIBRARIES)
def test_placement_is_of_the_table(name: str) -> None:
    assert name in PLACEMENTS


@pytest.mark.parametrize("name", [name for name, library in LIBRARIES.items() if library.faults])
def test_module_of_faults_lists_them(name: str) -> None:
    assert callable(importlib.import_module(LIBRARIES[name].faults).list_faults)


def test_cache_holds_the_folders_of_libraries_that_time_kernels() -> None:
    assert {name for name, library in LIBRARIES.items() if library.nvidia} <= set(CONTENTS)
