"""Errors: their codes, also from one process to another."""

from __future__ import annotations

import pickle
from typing import get_args

import pytest

from edgevit.core import errors
from edgevit.core.errors import CODES, BundleError, DeviceError, EdgevitError, ErrorCode, MissingPackageError

CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, EdgevitError)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_error_has_the_code_of_its_class_unless_it_is_given_one(kind: type[EdgevitError]) -> None:
    assert kind("message", "hint").code == kind.code
    assert kind.code in CODES
    special = kind("message", "hint", code="unsafe")
    assert (special.code, kind.code != "unsafe") == ("unsafe", True)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_error_travels_whole(kind: type[EdgevitError]) -> None:
    for error in (kind("message", "hint"), kind("message", "hint", code="canary")):
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is kind
        assert (back.message, back.hint, back.code) == (error.message, error.hint, error.code)


def test_codes_are_those_that_the_runtime_in_cpp_has_too() -> None:
    assert get_args(ErrorCode) == CODES
    assert len(set(CODES)) == 13
    assert (EdgevitError("").code, BundleError("").code) == ("error", "error")
    assert (MissingPackageError("").code, DeviceError("").code) == ("library", "device")
