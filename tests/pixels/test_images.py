from __future__ import annotations

import os
import shutil
import threading
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgevit.core.errors import DataError
from edgevit.pixels.images import ImageSet
from edgevit.pixels.preprocess import Preprocess
from tests.support.photos import make_photo
from tests.support.png_header import make_png_header

SMALL = Preprocess(16, 16, "shortest", 18, 18, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def save(path: Path, seed: int = 0, size: tuple[int, int] = (20, 24)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    make_photo(*size, seed).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes with 2, 3 and 1 images."""
    root = tmp_path / "data"
    for seed, name in enumerate(
        ["cat/a.png", "cat/b.jpg", "dog/a.webp", "dog/deep/er/b.BMP", "dog/c.jpeg", "emu/a.png"]
    ):
        save(root / name, seed)
    return root


@pytest.fixture
def table(tmp_path: Path):
    """Writes a CSV beside images a.png … f.png."""
    for seed, name in enumerate("abcdef"):
        save(tmp_path / f"{name}.png", seed)

    def write(text: str) -> Path:
        path = tmp_path / "list.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refuse(source: Path, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        ImageSet.read(source, **options)
    assert caught.value.hint
    return caught.value


# Folders


def test_read_when_folder_per_class_numbers_classes_in_sorted_order(folder: Path) -> None:
    images = ImageSet.read(folder)
    assert images.root == folder
    assert images.files == ("cat/a.png", "cat/b.jpg", "dog/a.webp", "dog/c.jpeg", "dog/deep/er/b.BMP", "emu/a.png")
    assert images.labels == (0, 0, 1, 1, 1, 2)
    assert images.matching.order == ("cat", "dog", "emu")
    assert len(images) == 6


def test_read_when_folders_are_called_like_the_models_labels_maps_by_name(folder: Path) -> None:
    (folder / "emu").rename(folder / "gas_pump")
    images = ImageSet.read(folder, labels=["Gas  pump", "ant", "dog", "CAT", "bee"])
    assert images.labels == (3, 3, 2, 2, 2, 0)


def test_read_when_folders_are_class_indices_takes_them_as_numbers(folder: Path) -> None:
    for old, new in (("cat", "10"), ("dog", "9"), ("emu", "002")):
        (folder / old).rename(folder / new)
    for labels in (None, [f"class {i}" for i in range(12)]):
        images = ImageSet.read(folder, labels=labels)
        by_file = dict(zip(images.files, images.labels or (), strict=True))
        assert (by_file["10/a.png"], by_file["9/a.webp"], by_file["002/a.png"]) == (10, 9, 2)


def test_read_when_folders_fit_the_labels_in_part_lists_those_that_do_not(folder: Path) -> None:
    error = refuse(folder, labels=["cat", "dog", "bee"])
    assert "1 of 3 folders cannot be matched with the model's 3 classes:\n  emu" in error.message


def test_read_when_fewer_unknown_folders_than_classes_does_not_guess(folder: Path) -> None:
    for options in ({"labels": [f"class {i}" for i in range(1000)]}, {"classes": 1000}):
        assert "3 of 3 folders" in refuse(folder, **options).message


def test_read_when_folder_name_fits_two_labels_says_which(folder: Path) -> None:
    error = refuse(folder, labels=["cat", "dog", "emu", "Dog"])
    assert "dog: the name of classes 1 and 3" in error.message


def test_read_when_the_folder_holds_csvs_points_to_them(folder: Path) -> None:
    (folder / "validation.csv").write_text("file,label\n")
    assert "validation.csv" in refuse(folder, labels=["x"] * 5).hint


def test_read_when_images_alone_makes_an_unlabelled_set(folder: Path) -> None:
    images = ImageSet.read(folder / "cat", labels=["x", "y"])
    assert images.files == ("a.png", "b.jpg")
    assert images.labels is None


def test_read_when_other_files_lie_about_ignores_them(folder: Path) -> None:
    for name in ("cat/.hidden.png", "cat/Thumbs.db", "readme.txt", ".git/x.png", "emu/notes.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert len(ImageSet.read(folder)) == 6


def test_read_when_images_are_of_other_formats_lists_them(folder: Path) -> None:
    (folder / "cat/c.gif").write_bytes(b"x")
    (folder / "dog/deep/d.HEIC").write_bytes(b"x")
    error = refuse(folder)
    assert "has 2 bad images" in error.message
    assert "cat/c.gif: not JPEG, PNG, WebP or BMP" in error.message
    assert "dog/deep/d.HEIC: not" in error.message
    images = ImageSet.read(folder, skip_bad=True)
    assert len(images) == 6
    assert [file for file, _ in images.skipped] == ["cat/c.gif", "dog/deep/d.HEIC"]


def test_read_when_a_class_folder_is_empty_says_so(folder: Path) -> None:
    (folder / "bee").mkdir()
    assert "bee/: a class folder without images" in refuse(folder).message
    images = ImageSet.read(folder, skip_bad=True)
    assert images.labels == (1, 1, 2, 2, 2, 3)  # its index stays taken


def test_read_when_images_lie_beside_folders_refuses_to_guess(folder: Path) -> None:
    save(folder / "stray.png")
    assert "images beside folders" in refuse(folder).message


@pytest.mark.parametrize("make", [[], ["cat"], ["cat", "dog"]])
def test_read_when_folder_has_no_images_refuses_it(tmp_path: Path, make: list[str]) -> None:
    root = tmp_path / "empty"
    root.mkdir()
    for name in make:
        (root / name).mkdir()
    assert "has no images" in refuse(root).message


def test_read_when_all_images_are_of_one_class_refuses_them(folder: Path, table) -> None:
    shutil.rmtree(folder / "dog")
    shutil.rmtree(folder / "emu")
    error = refuse(folder)
    assert "all 2 are of class 0" in error.message
    assert "all 2 are of class 7" in refuse(table("file,label\na.png,7\nb.png,7\n")).message


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_read_when_a_link_leads_round_in_a_circle_comes_to_an_end(folder: Path) -> None:
    os.symlink(folder / "dog", folder / "dog" / "deep" / "again")
    assert len(ImageSet.read(folder)) == 6


def test_read_when_source_does_not_exist_or_is_an_image_says_so(folder: Path) -> None:
    assert "no such folder or file" in refuse(folder / "none").message
    assert "is a single image" in refuse(folder / "cat/a.png").message


# CSVs


def test_read_when_csv_has_indices_takes_files_relative_to_it(table, tmp_path: Path) -> None:
    save(tmp_path / "sub/x y.png")
    images = ImageSet.read(table("\ufefffile,label,author\na.png,3,me\nsub/x y.png, 0 ,you\n\n"))
    assert images.root == tmp_path
    assert images.files == ("a.png", "sub/x y.png")
    assert images.labels == (3, 0)


def test_read_when_csv_has_no_labels_makes_an_unlabelled_set(table) -> None:
    images = ImageSet.read(table("file\na.png\nb.png\n"))
    assert images.labels is None
    assert len(images) == 2


def test_read_when_a_class_folder_has_a_link_to_what_holds_it_takes_every_image_once(folder: Path) -> None:
    before = ImageSet.read(folder)
    next(entry for entry in folder.iterdir() if entry.is_dir()).joinpath("loop").symlink_to("..")
    assert ImageSet.read(folder).files == before.files


def test_read_when_csv_has_names_maps_them_by_the_models_labels(table) -> None:
    path = table('label,file\n"tench, Tinca tinca",a.png\nCHURCH,b.png\n1,c.png\n')
    assert ImageSet.read(path, labels=["church", "x", "tench, Tinca tinca"]).labels == (2, 0, 1)


def test_read_when_csv_has_names_and_the_model_none_sorts_them(table) -> None:
    images = ImageSet.read(table("file,label\na.png,tench\nb.png,church\nc.png,tench\n"))
    assert images.labels == (1, 0, 1)
    assert images.matching.order == ("church", "tench")


def test_read_when_csv_rows_are_bad_lists_each_with_its_reason(table) -> None:
    path = table("file,label\na.png,0\n,1\n./a.png,1\nd.png\nf.png,1\n")
    error = refuse(path)
    for line in (
        "has 3 bad images",
        "line 3: no file name",
        "line 4: a.png again, after line 2",
        "line 5: 1 field, not 2 as in the header",
    ):
        assert line in error.message
    images = ImageSet.read(path, skip_bad=True)
    assert images.files == ("a.png", "f.png")
    assert images.labels == (0, 1)
    assert len(images.skipped) == 3


def test_read_when_rows_have_no_label_refuses_them_also_where_bad_images_are_skipped(table) -> None:
    path = table("file,label\na.png,0\nb.png,\nc.png,banana\nd.png,1\ne.png, \n")
    for skip_bad in (False, True):
        error = refuse(path, skip_bad=skip_bad, labels=("x", "y"))
        for words in ("1 of 3 labels cannot be matched", "banana", "2 of 5 rows have no label", "line 3: b.png"):
            assert words in error.message
        assert "--skip-bad-images" not in error.hint
    assert ImageSet.read(path, labelled=False).files == ("a.png", "b.png", "c.png", "d.png", "e.png")


def test_read_when_csv_labels_fit_no_class_refuses_them_also_where_bad_images_are_skipped(table) -> None:
    path = table("file,label\na.png,0\nb.png,-1\nc.png,cat\nd.png,1\ne.png,2.0\n")
    for skip_bad in (False, True):
        error = refuse(path, skip_bad=skip_bad)
        assert "3 of 5 labels cannot be matched" in error.message
        assert all(f"  {label}" in error.message for label in ("-1", "cat", "2.0"))
        assert "--skip-bad-images" not in error.hint


@pytest.mark.parametrize("column", ["labels", "class", "category", "target", "Classes"])
def test_read_when_csv_has_no_label_but_something_like_it_names_the_column(table, column: str) -> None:
    error = refuse(table(f"file,{column}\na.png,1\nb.png,0\n"))
    assert f"one named {column.casefold()}" in error.message
    assert f"call the column {column.casefold()} label" in error.hint


def test_read_when_csv_header_is_in_capitals_reads_it(table) -> None:
    assert ImageSet.read(table("File, Label\na.png,1\nb.png,0\n")).labels == (1, 0)


def test_read_when_csv_has_no_file_but_something_like_it_names_the_column(table) -> None:
    assert "call the column filename file" in refuse(table("filename,label\na.png,1\n")).hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column named file; its columns: none"),
        ("name,class\na.png,1\n", "no column named file; its columns: name, class"),
        ("a.png,0\nb.png,1\n", "no column named file"),
        ("file;label\na.png;1\n", "has its columns separated by semicolons"),
        ("label\tfile\n1\ta.png\n", "has its columns separated by tabs"),
        ("file,label,label\na.png,0,0\n", "two columns of one name"),
        ("file,label\n", "has no images"),
        ('file,label\na.png,0\n"b.png,0\n', "is not a CSV: line 3:"),
    ],
)
def test_read_when_csv_is_malformed_says_how(table, text: str, message: str) -> None:
    assert message in refuse(table(text)).message


def test_read_when_csv_is_binary_or_in_another_encoding_says_so(tmp_path: Path) -> None:
    for data in (b"file,label\ncaf\xe9.png,1\n", bytes(range(256))):
        path = tmp_path / "list.csv"
        path.write_bytes(data)
        assert "is not a CSV in UTF-8" in refuse(path).message


# Checking


def test_check_when_all_is_well_returns_the_set_itself(folder: Path) -> None:
    images = ImageSet.read(folder)
    seen: list[tuple[int, int]] = []
    assert images.check(progress=lambda done, total: seen.append((done, total))) is images
    assert seen == [(i, 6) for i in range(1, 7)]


def spoil(folder: Path) -> None:
    (folder / "cat/b.jpg").write_bytes((folder / "cat/b.jpg").read_bytes()[:300])
    (folder / "dog/a.webp").write_text("<html>404</html>")
    (folder / "dog/c.jpeg").write_bytes(make_png_header(30_000, 30_000))


def test_check_when_images_are_bad_lists_all_in_one_error(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    spoil(folder)
    images = ImageSet.read(folder)
    (folder / "cat/a.png").unlink()
    with pytest.raises(DataError) as caught:
        images.check()
    message = caught.value.message
    assert "has 4 bad images" in message
    for line in (
        "cat/a.png: No such file",
        "cat/b.jpg: ",
        "dog/a.webp: not a JPEG",
        "dog/c.jpeg: ",
    ):
        assert f"\n  {line}" in message
    assert "--skip-bad-images" in caught.value.hint
    assert not recwarn.list  # Pillow's warning of the bomb is said as an error instead


def test_check_when_bad_images_are_to_be_skipped_goes_on_without_them(folder: Path) -> None:
    spoil(folder)
    images = ImageSet.read(folder).check(skip_bad=True)
    assert images.files == ("cat/a.png", "dog/deep/er/b.BMP", "emu/a.png")
    assert images.labels == (0, 1, 2)
    assert [file for file, _ in images.skipped] == ["cat/b.jpg", "dog/a.webp", "dog/c.jpeg"]
    assert all(reason and not reason.startswith(file) for file, reason in images.skipped)
    assert [batch.files for batch in images.batches(SMALL, 8)] == [images.files]


def test_check_when_rows_and_images_are_skipped_counts_both(table, tmp_path: Path) -> None:
    (tmp_path / "c.png").write_bytes(b"")
    path = table("file,label\na.png,0\nb.png,1\nc.png,1\nd.png\nnone.png,0\n")
    images = ImageSet.read(path, skip_bad=True).check(skip_bad=True)
    assert [file for file, _ in images.skipped] == ["line 5", "c.png", "none.png"]


def test_check_when_skipping_leaves_nothing_or_one_class_refuses(folder: Path) -> None:
    images = ImageSet.read(folder)
    for file in (f for name in ("dog", "emu") for f in (folder / name).rglob("*.*")):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="all 2 are of class 0"):
        images.check(skip_bad=True)
    for file in folder.rglob("*.*"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="no images left after 6 bad ones were skipped"):
        images.check(skip_bad=True)


def test_check_when_preprocessing_cannot_resize_a_strip_lists_it(folder: Path) -> None:
    Image.new("RGB", (1, 60_000)).save(folder / "cat/strip.png")
    images = ImageSet.read(folder)
    assert images.check() is images
    with pytest.raises(DataError, match=r"\n  cat/strip.png: 1 × 60000 pixels would become"):
        images.check(preprocess=SMALL.with_size(64, 64))


def test_check_when_progress_raises_stops_its_threads(folder: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ImageSet.read(folder).check(progress=interrupt, workers=2)
    assert not [t for t in threading.enumerate() if t.name.startswith("edgevit-images")]


# Streaming


@pytest.mark.parametrize("batch_size", [1, 2, 4, 6, 7])
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_when_iterated_give_every_image_once_in_order(folder: Path, batch_size: int, workers: int) -> None:
    images = ImageSet.read(folder)
    batches = list(images.batches(SMALL, batch_size, workers=workers))
    assert [len(b.files) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert sum((b.files for b in batches), ()) == images.files
    pixels = np.concatenate([b.pixels for b in batches])
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, [SMALL.apply(folder / file) for file in images.files])
    labels = np.concatenate([b.labels for b in batches])
    assert labels.dtype == np.int64
    assert tuple(labels) == images.labels


def test_batches_when_unlabelled_have_no_labels(folder: Path) -> None:
    pixels, labels, files = next(ImageSet.read(folder / "cat").batches(SMALL, 8))
    assert pixels.shape == (2, 16, 16, 3)
    assert labels is None
    assert files == ("a.png", "b.jpg")


def test_batches_when_an_image_has_vanished_names_it(folder: Path) -> None:
    images = ImageSet.read(folder)
    (folder / "dog/c.jpeg").unlink()
    with pytest.raises(DataError, match=r"dog/c\.jpeg: No such file"):
        list(images.batches(SMALL, 2))


def test_batches_when_closed_early_stop_their_threads(folder: Path) -> None:
    batches = ImageSet.read(folder).batches(SMALL, 1, workers=2)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("edgevit-images")]


def test_batches_when_batch_size_is_not_positive_refuse_it(folder: Path) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        next(ImageSet.read(folder).batches(SMALL, 0))


def test_batches_when_the_set_grows_take_no_more_memory(folder: Path) -> None:
    def measure_peak(copies: int) -> int:
        images = ImageSet(folder, ("cat/a.png", "emu/a.png") * copies)
        large = SMALL.with_size(96, 96)
        tracemalloc.start()
        for _ in images.batches(large, 4, workers=2):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    measure_peak(10)
    one_image = 96 * 96 * 3
    assert measure_peak(200) < measure_peak(20) + 8 * one_image  # 360 images more


# Sampling and fingerprint


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=60),
    size=st.integers(1, 70),
    seed=st.integers(0, 2**32),
)
def test_subset_when_balanced_takes_equally_of_each_class(labels: list[int], size: int, seed: int) -> None:
    images = ImageSet(Path("x"), tuple(f"{i}.png" for i in range(len(labels))), tuple(labels))
    sample = images.subset(size, seed)
    assert sample == images.subset(size, seed)
    assert len(sample) == min(size, len(labels))
    assert sorted(sample.files, key=images.files.index) == list(sample.files)
    assert len(set(sample.files)) == len(sample)
    assert sample.labels == tuple(labels[images.files.index(f)] for f in sample.files)
    have, took = Counter(labels), Counter(sample.labels)
    most = max(took.values())
    assert all(took[c] >= most - 1 or took[c] == have[c] for c in have)


def test_subset_when_seed_changes_takes_others_and_without_balance_any() -> None:
    labels = (0,) * 90 + (1,) * 10
    images = ImageSet(Path("x"), tuple(f"{i}.png" for i in range(100)), labels)
    assert len({images.subset(20, seed).files for seed in range(5)}) == 5
    assert Counter(images.subset(20, 0).labels) == {0: 10, 1: 10}
    assert Counter(images.subset(20, 0, balanced=False).labels)[0] > 12
    assert images.subset(3, 0).files == ("35.png", "40.png", "97.png")  # on every machine


def test_subset_when_unlabelled_samples_all_and_refuses_none() -> None:
    images = ImageSet(Path("x"), tuple(f"{i}.png" for i in range(9)))
    assert len(images.subset(4, 1)) == 4
    assert images.subset(9, 1) is images
    with pytest.raises(DataError, match="empty"):
        images.subset(0, 1)


def test_sha256_when_moved_is_the_same_and_changes_with_anything_else(folder: Path, tmp_path: Path) -> None:
    images = ImageSet.read(folder)
    before = images.sha256()
    shutil.copytree(folder, tmp_path / "copy")
    assert ImageSet.read(tmp_path / "copy").sha256() == before
    assert images.sha256(workers=1) == before
    assert ImageSet(images.root, images.files, (0, 0, 1, 1, 2, 2)).sha256() != before
    assert ImageSet(images.root, images.files).sha256() != before
    assert images.subset(5, 0).sha256() != before
    save(folder / "cat/a.png", seed=99)
    assert images.sha256() != before
    (folder / "cat/a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png: No such file"):
        images.sha256()


# Real photos


def test_read_when_real_sets_are_given_reads_and_checks_them(assets: Path) -> None:
    labels = (assets / "imagenette/labels.txt").read_text().splitlines()
    images = ImageSet.read(assets / "imagenette/validation.csv", labels=labels)
    assert Counter(images.labels) == dict.fromkeys(range(10), 100)
    sample = images.subset(40, 0)
    assert Counter(sample.labels) == dict.fromkeys(range(10), 4)
    assert sample.check(preprocess=SMALL) is sample
    assert "calibration.csv" in refuse(assets / "imagenet", labels=["x"] * 1000).hint


def test_read_when_labels_are_not_looked_at_takes_images_of_any_folder_or_column(folder: Path, table) -> None:
    images = ImageSet.read(folder, labelled=False, labels=["x", "y"])
    assert (len(images), images.labels, images.describe_labels()) == (6, None, "")
    values = ImageSet.read(table("file,label,class\na.png,0.25,u\nb.png,x,v\n"), labelled=False)
    assert (values.files, values.labels) == (("a.png", "b.png"), None)


def test_many_bad_images_are_listed_up_to_ten(tmp_path: Path) -> None:
    save(tmp_path / "good.png")
    for number in range(23):
        (tmp_path / f"bad{number:02}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="has 23 bad images") as caught:
        ImageSet.read(tmp_path).check()
    assert caught.value.message.endswith("… and 13 more")
    assert "--skip-bad-images" in caught.value.hint


def test_a_table_of_which_no_file_is_there_says_where_they_were_looked_for(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file\nimages/a.png\nimages/b.png\n")
    with pytest.raises(DataError, match="has 2 bad images") as caught:
        ImageSet.read(tmp_path / "labels.csv").check()
    assert "--skip-bad-images" not in caught.value.hint
    assert f"below {tmp_path}" in caught.value.hint


@pytest.mark.parametrize("name", ["labels", "Labels", "class", "Target", "category", "category_id", "class_name"])
def test_a_table_with_something_like_labels_says_what_to_call_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"file,{name}\na.png,0\n")
    with pytest.raises(DataError, match=f"no column named label, and one named {name.lower()}"):
        ImageSet.read(tmp_path / "labels.csv")


def test_a_table_may_write_its_header_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("File,Label\na.png,0\nb.png,1\n")
    assert ImageSet.read(tmp_path / "labels.csv").labels == (0, 1)
