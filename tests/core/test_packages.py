"""Packages that only a build needs."""

from __future__ import annotations

import json

import pytest

from edgevit.core.errors import MissingPackageError
from edgevit.core.packages import list_versions, require_package


def test_a_package_that_is_there_is_imported() -> None:
    assert require_package("json", "reading a checkpoint") is json


def test_a_package_that_is_not_there_is_named_with_what_needs_it() -> None:
    with pytest.raises(MissingPackageError) as caught:
        require_package("edgevit_has_no_such_package", "reading a checkpoint")
    assert caught.value.message.startswith("reading a checkpoint needs edgevit_has_no_such_package, which cannot be")
    assert caught.value.hint == 'pip install "edgevit[build]"'


def test_list_versions_leaves_out_what_is_not_installed() -> None:
    found = list_versions(("numpy", "edgevit-without-such-a-package"))
    assert set(found) == {"numpy"}
    assert found["numpy"][0].isdecimal()
