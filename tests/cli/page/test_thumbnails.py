"""Images that the engine lost or won lie in the page, small, and never an image that was not judged."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from edgevit.cli.page.document import make_document
from edgevit.cli.page.render import render_page
from edgevit.cli.page.sources import Source
from edgevit.cli.page.thumbnails import list_changed_images
from edgevit.core.report.report import DataUse
from edgevit.core.report.scores import ImageChange
from edgevit.pixels.hash_image import hash_image
from tests.support.page_bundles import make_accuracy, make_report
from tests.support.photos import make_photo
from tests.support.tiny_bundle import make_manifest


def make_source(root: Path, *changes: ImageChange) -> Source:
    report = make_report()
    *others, chosen = report.variants
    chosen = replace(chosen, accuracy=make_accuracy(179, changed_images=changes))
    data = {"validation": DataUse(str(root), 200, True, "b" * 64)}
    return Source("a", "a", replace(report, variants=(*others, chosen), data=data), make_manifest())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    make_photo(200, 300).save(tmp_path / "dog.png")
    return tmp_path / "dog.png"


def test_image_that_was_judged_is_shown_small_with_both_answers(photo: Path) -> None:
    source = make_source(photo.parent, ImageChange("dog.png", 3, 4, 3, hash_image(photo)))
    (found,) = list_changed_images(source)
    names = ("kind", "label", "reference", "answer", "file")
    assert [found[name] for name in names] == ["lost", "class 3", "class 3", "class 4", "dog.png"]
    header, text = found["thumbnail"].split(",")
    assert header == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        assert (image.format, image.size) == ("JPEG", (112, 75))
    assert found["thumbnail"] in render_page(make_document([source]))


@pytest.mark.parametrize(
    ("label", "kind"),
    [(3, "lost"), (4, "won"), (5, "changed"), (None, "changed")],
    ids=["lost", "won", "wrong", "none"],
)
def test_kind_is_by_who_is_right(photo: Path, label: int | None, kind: str) -> None:
    (found,) = list_changed_images(make_source(photo.parent, ImageChange("dog.png", 3, 4, label)))
    assert found["kind"] == kind


def test_image_of_the_same_name_that_was_not_judged_is_not_shown(photo: Path) -> None:
    change = ImageChange("dog.png", 3, 4, 3, hash_image(photo))
    make_photo(60, 60, 7).save(photo)
    gone = replace(change, file="cat.png")
    source = make_source(photo.parent, change, gone)
    assert [found["thumbnail"] for found in list_changed_images(source)] == [None, None]
    page = render_page(make_document([source]))
    assert "<img" not in page
    assert page.count("not at hand") == 2


def test_images_of_a_table_lie_beside_it(photo: Path) -> None:
    table = photo.with_name("list.csv")
    table.write_text("file,label\ndog.png,3\n")
    (found,) = list_changed_images(make_source(table, ImageChange("dog.png", 3, 4, 3, hash_image(photo))))
    assert found["thumbnail"]


def test_long_path_of_an_image_is_shown_by_its_end(tmp_path: Path) -> None:
    """As of a table that gives whole paths; the rest is in the title."""
    source = make_source(
        tmp_path, ImageChange("/data/of/somebody/val/dog.png", 3, 4, 3), ImageChange("a/b.png", 3, 4, 3)
    )
    page = render_page(make_document([source]))
    assert '<figcaption title="/data/of/somebody/val/dog.png">…/val/dog.png<br>' in page
    assert '<figcaption title="a/b.png">a/b.png<br>' in page


def test_name_of_an_image_is_never_markup(tmp_path: Path) -> None:
    source = make_source(tmp_path, ImageChange("<b>dog</b>.png", 3, 4, 3))
    assert "<b>dog" not in render_page(make_document([source]))
