"""Wrong arguments of what apps call: an EdgevitError with the code ``argument``, and never taken for something else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.core.errors import EdgevitError
from edgevit.runtime import Predictor, open_bundle
from edgevit.runtime.bundle import find_damage, load_bundle, refuse_inside, verify_bundle
from tests.support.tiny_bundle import make_bundle

IMAGE = np.zeros((8, 8, 3), np.uint8)
NO_SWITCHES: tuple[Any, ...] = (None, 0, 1, "no", "false", [], np.zeros(3))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("arguments")
    return make_bundle(base / "bundle", base / "work", canary=True).path


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Iterator[Predictor]:
    with open_bundle(bundle, check="never") as opened:
        yield opened


def refuse(wanted: str) -> Any:
    return pytest.raises(EdgevitError, match=wanted)


@pytest.mark.parametrize("path", [None, 5, b"bundle", ["bundle"], {}, np.zeros(3), True], ids=repr)
def test_what_is_no_path_is_refused(path: Any) -> None:
    for call in (open_bundle, load_bundle, verify_bundle, refuse_inside):
        with refuse("path = .* is not a path") as caught:
            call(path)
        assert caught.value.code == "argument"
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("value", NO_SWITCHES, ids=repr)
def test_what_is_no_switch_does_not_count_as_on_or_off(bundle: Path, predictor: Predictor, value: Any) -> None:
    calls: dict[str, list[Any]] = {
        "verify": [lambda: open_bundle(bundle, verify=value)],
        "keep_compiled": [lambda: open_bundle(bundle, keep_compiled=value)],
        "contents": [lambda: verify_bundle(bundle, contents=value), lambda: _find(bundle, value)],
        "extra": [lambda: verify_bundle(bundle, extra=value)],
        "bgr": [
            lambda: predictor.classify(IMAGE, bgr=value),
            lambda: predictor.classify_batch([IMAGE], bgr=value),
            lambda: predictor.submit(IMAGE, bgr=value).result(),
        ],
        "block": [lambda: predictor.submit(IMAGE, block=value)],
    }
    for name, each in calls.items():
        for call in each:
            with refuse(f"{name} = .* is not true or false") as caught:
                call()
            assert caught.value.code == "argument"


def _find(bundle: Path, value: Any) -> Any:
    return find_damage(load_bundle(bundle), contents=value)


def test_numpys_switches_and_numbers_are_taken(bundle: Path) -> None:
    with open_bundle(bundle, verify=np.bool_(True), queue_size=np.int64(2), check="never") as opened:  # type: ignore[arg-type]
        assert len(opened.classify(IMAGE, np.int64(1), bgr=np.bool_(False))) == 1  # type: ignore[arg-type]
        opened.warm_up(np.int64(1))  # type: ignore[arg-type]
        assert opened.session.queue_size == 2


@pytest.mark.parametrize("check", ["maybe", "", None, 5, True, ["auto"], np.zeros(3)], ids=repr)
def test_check_is_one_of_three_words_and_is_looked_at_before_the_bundle(tmp_path: Path, check: Any) -> None:
    with refuse("check = .* is not one of auto, always, never") as caught:
        open_bundle(tmp_path / "nowhere", check=check)
    assert caught.value.code == "argument"
    assert caught.value.hint == "give check='auto', or leave it out"


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "2", [2], np.zeros(3)], ids=repr)
def test_size_of_the_queue_is_a_whole_number(bundle: Path, size: Any) -> None:
    with refuse("is not a whole number from 1") as caught:
        open_bundle(bundle, queue_size=size, check="never")
    assert caught.value.code == "argument"


@pytest.mark.parametrize(
    "settings", [5, "threads", [("threads", 2)], {1: 2}, {"threads": "two"}, {"nope": 1}], ids=repr
)
def test_settings_are_names_with_values(bundle: Path, settings: Any) -> None:
    with refuse("settings") as caught:
        open_bundle(bundle, settings=settings, check="never")
    assert caught.value.code == "argument"


@pytest.mark.parametrize("name", [None, 5, b"report.json", "", ".", "../work", "/etc/hostname", "a\0b"], ids=repr)
def test_only_a_name_that_a_bundles_file_may_have_is_read(bundle: Path, name: Any) -> None:
    with refuse("is not the name of a bundle's file") as caught:
        load_bundle(bundle).read(name)
    assert caught.value.code == "argument"


def test_path_with_a_zero_byte_is_not_written_to() -> None:
    with refuse("zero byte") as caught:
        refuse_inside("a\0b")
    assert caught.value.code == "argument"


@pytest.mark.parametrize("image", [None, 5, [], {}, True, object()], ids=lambda image: type(image).__name__)
def test_what_is_no_image_is_refused_with_the_code_of_images(predictor: Predictor, image: Any) -> None:
    with refuse("is not a path, bytes, a Pillow image or an array") as caught:
        predictor.classify(image)
    assert caught.value.code == "image"
