"""Sets of images in tar and parquet files, against the same images in a folder; and files that nobody should trust."""

from __future__ import annotations

import json
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgevit.core.errors import DataError
from edgevit.pixels.decode import read_size
from edgevit.pixels.images import ImageSet
from edgevit.pixels.preprocess import Preprocess
from tests.support.shard_files import draw_image, write_parquet, write_tar

PREPROCESS = Preprocess(8, 8, "squash", 8, 8, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGES = [draw_image(i) for i in range(10)]
LABELS = [i % 3 for i in range(10)]
NAMES = ("cat", "dog", "owl")


def write_folder(root: Path) -> Path:
    root.mkdir()
    rows = ["file,label"]
    for i, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        (root / f"{i}.png").write_bytes(image)
        rows.append(f"{i}.png,{label}")
    (root / "set.csv").write_text("\n".join(rows))
    return root / "set.csv"


def write_tars(root: Path, label: Callable[[int], tuple[str, bytes]]) -> Path:
    root.mkdir()
    for shard in range(3):
        part = range(10)[4 * shard : 4 * shard + 4]
        members = [pair for i in part for pair in ((f"{i:03}.png", IMAGES[i]), (f"{i:03}.{label(i)[0]}", label(i)[1]))]
        write_tar(root / f"val-{shard:03}.tar", members)
    return root


def read_all(images: ImageSet) -> tuple[np.ndarray, tuple[int, ...] | None]:
    batches = list(images.batches(PREPROCESS, 3))
    assert [len(batch.pixels) for batch in batches] == [3, 3, 3, 1]
    return np.concatenate([batch.pixels for batch in batches]), images.labels


def as_cls(i: int) -> tuple[str, bytes]:
    return "cls", f"{LABELS[i]}\n".encode()


def as_json(i: int) -> tuple[str, bytes]:
    return "json", json.dumps({"label": NAMES[LABELS[i]], "caption": "x"}).encode()


@pytest.mark.parametrize("label", [as_cls, as_json])
@pytest.mark.parametrize("form", ["", "val-{000..002}.tar", "val-*.tar", "val-00{0,1,2}.tar"])
def test_tar_files_give_what_the_folder_gives(tmp_path: Path, label, form: str) -> None:
    folder = ImageSet.read(write_folder(tmp_path / "folder"), labels=NAMES)
    root = write_tars(tmp_path / "tars", label)
    images = ImageSet.read(root / form, labels=NAMES)
    pixels, labels = read_all(images.check(preprocess=PREPROCESS))
    expected, expected_labels = read_all(folder)
    assert np.array_equal(pixels, expected)
    assert labels == expected_labels
    assert images.files[0] == "val-000.tar/000.png"
    for ours, theirs, content in zip(images.files, folder.files, IMAGES, strict=True):
        assert images.hash(ours) == folder.hash(theirs)
        assert images.measure(ours) == folder.measure(theirs) == len(content)
        assert read_size(images.fetch(ours)) == read_size(folder.fetch(theirs))


def test_one_tar_without_labels_is_an_unlabelled_set(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "some.tar", [(f"./deep/{i}.PNG", image) for i, image in enumerate(IMAGES)])
    images = ImageSet.read(path)
    assert images.labels is None
    assert images.files[0] == "some.tar/deep/0.PNG"
    assert len(images.check()) == 10


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("plain", [False, True])
def test_parquet_files_give_what_the_folder_gives(tmp_path: Path, rows: int, plain: bool) -> None:
    folder = ImageSet.read(write_folder(tmp_path / "folder"), classes=3)
    root = tmp_path / "parquet"
    root.mkdir()
    for shard, part in enumerate((slice(0, 6), slice(6, 10))):
        path = root / f"val-0000{shard}-of-00002.parquet"
        write_parquet(path, IMAGES[part], LABELS[part], rows=rows, plain=plain)
    images = ImageSet.read(root, classes=3)
    pixels, labels = read_all(images.check())
    expected, expected_labels = read_all(folder)
    assert np.array_equal(pixels, expected)
    assert labels == expected_labels
    assert images.matching.rule == "matched by number"
    backwards = [images.hash(file) for file in reversed(images.files)]
    assert backwards == [folder.hash(file) for file in reversed(folder.files)]
    assert images.measure(images.files[7]) == len(IMAGES[7])


def test_a_long_row_group_is_read_in_any_order(tmp_path: Path) -> None:
    contents = [draw_image(i, 4) for i in range(300)]
    images = ImageSet.read(write_parquet(tmp_path / "long.parquet", contents, rows=1000))
    for row in (0, 299, 150, 151, 40, 100, 299):
        assert images.fetch(images.files[row]) == contents[row]


def test_a_part_of_a_set_holds_its_own_places_and_travels_by_itself(tmp_path: Path) -> None:
    tars = ImageSet.read(write_tars(tmp_path / "tars", as_cls), classes=3)
    parquet = ImageSet.read(write_parquet(tmp_path / "a.parquet", IMAGES, LABELS), classes=3)
    for images in (tars, parquet):
        part = pickle.loads(pickle.dumps(images.pick(range(5, 9))))
        assert part.files == images.files[5:9]
        assert [part.fetch(file) for file in part.files] == IMAGES[5:9]
        assert part.stamp(part.files[0]) == images.stamp(images.files[5])
        assert part.stamp(part.files[0]) != part.stamp(part.files[1])
        with pytest.raises(KeyError):
            part.fetch(images.files[0])
    assert b"val-000" not in pickle.dumps(tars.pick([9]))


def test_names_of_a_parquet_files_numbers_count_where_they_are_the_models(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", IMAGES, LABELS, names=("owl", "cat", "dog"))
    named = ImageSet.read(path, labels=NAMES)
    assert named.labels == tuple((2, 0, 1)[label] for label in LABELS)
    assert named.matching.rule == "matched by name"
    other = ImageSet.read(path, labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    assert other.labels == tuple(LABELS)
    assert other.matching.rule == "matched by number"


def test_minus_one_is_no_label(tmp_path: Path) -> None:
    assert ImageSet.read(write_parquet(tmp_path / "a.parquet", IMAGES, [-1] * 10)).labels is None


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_labels_that_are_missing_or_beyond_the_classes_are_refused_all_listed(tmp_path: Path, kind: str) -> None:
    def write(labels: list[int | None]) -> Path:
        if kind == "parquet":
            return write_parquet(tmp_path / "a.parquet", IMAGES, labels)
        cells = [(f"{i}.cls", str(label).encode()) for i, label in enumerate(labels) if label is not None]
        return write_tar(tmp_path / "a.tar", [*((f"{i}.png", image) for i, image in enumerate(IMAGES)), *cells])

    with pytest.raises(DataError, match="2 of 10 images have no label") as caught:
        ImageSet.read(write([None, 0, 1, 2, None, *LABELS[5:]]), classes=3, skip_bad=True)
    assert caught.value.whole.count("\n  a.") == 2
    with pytest.raises(DataError, match="2 of 4 labels are no number from 0 to 2"):
        ImageSet.read(write([7, 9, 1, 2, *[1] * 6]), classes=3)


def test_hostile_members_are_refused_all_listed(tmp_path: Path) -> None:
    path = tmp_path / "bad.tar"
    good = [("a.png", IMAGES[0]), ("b.png", IMAGES[1])]
    names = ["/etc/c.png", "../d.png", "e\x1b[2J.png", "a.png", "a.jpg", "f.x.png", "g.tif"]
    write_tar(path, [*good, *((name, IMAGES[2]) for name in names), ("h.cls", b"9" * 5000), ("i.json", b"{")])
    with tarfile.open(path, "a") as tar:
        for name, kind in (("k.png", tarfile.SYMTYPE), ("l.png", tarfile.LNKTYPE), ("m.png", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    with pytest.raises(DataError, match="12 bad images") as caught:
        ImageSet.read(path)
    said = caught.value.whole
    assert "\x1b" not in said
    for name in ("c.png", "d.png", "a.png: is there twice", "a.jpg: has the same key", "f.x.png", "g.tif", "h.cls"):
        assert name in said
    assert said.count("is no plain file") == 3
    assert said.count("leads out of the archive") == 2
    left = ImageSet.read(path, skip_bad=True)
    assert left.files == ("bad.tar/b.png",)  # of two that are called a.png nobody knows which is meant
    assert len(left.skipped) == 12


def spoil(content: bytearray, what: str) -> bytes:
    if what == "cut":
        return bytes(content[:1200])  # within the second member
    if what == "flipped":
        content[1024 + 3] ^= 0xFF  # the second header's name, which its checksum covers
    elif what == "cut between members":
        return bytes(content[:2048])
    elif what == "joined":
        return bytes(content) * 2
    elif what == "compressed":
        import gzip

        return gzip.compress(bytes(content))
    elif what == "text":
        return b"this is no tar file" * 100
    return bytes(content)


@pytest.mark.parametrize("what", ["cut", "cut between members", "joined", "flipped", "compressed", "text"])
def test_a_damaged_tar_is_refused_and_not_taken_for_a_shorter_one(tmp_path: Path, what: str) -> None:
    """tarfile itself ends in silence at a header that is damaged."""
    path = write_tar(tmp_path / "a.tar", [(f"{i}.png", draw_image(i, 4)) for i in range(4)])
    path.write_bytes(spoil(bytearray(path.read_bytes()), what))
    write_tar(tmp_path / "b.tar", [("0.png", IMAGES[0])])
    with pytest.raises(DataError, match=r"a\.tar: is no whole tar file"):
        ImageSet.read(tmp_path / "*.tar")
    left = ImageSet.read(tmp_path / "*.tar", skip_bad=True)
    assert "b.tar/0.png" in left.files
    assert what == "joined" or "a.tar/3.png" not in left.files


def set_size(header: bytearray, field: bytes) -> None:
    header[124:136] = field.ljust(12, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()


@pytest.mark.parametrize(
    "size", [b"77777777777", b"\x80" + bytes(3) + b"\x7f" * 8, b"\xff" * 12, b"\xff" * 10 + b"\xfc\x00"]
)
@pytest.mark.parametrize("kind", [b"0", b"L", b"x"])
def test_sizes_that_lie_end_in_an_error(tmp_path: Path, size: bytes, kind: bytes) -> None:
    """Sizes beyond the file, or below 0, by which tarfile would go back and never end, or read without bound."""
    path = write_tar(tmp_path / "a.tar", [("0.png", draw_image(0, 4)), ("1.png", draw_image(1, 4))])
    content = bytearray(path.read_bytes())
    header = content[1024:1536]
    header[156:157] = kind
    set_size(header, size)
    content[1024:1536] = header
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tar: is no whole tar file"):
        ImageSet.read(path)


def test_a_parquet_file_that_is_none_or_has_other_columns_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write_parquet(tmp_path / "a1.parquet", IMAGES)
    whole = (tmp_path / "a1.parquet").read_bytes()
    (tmp_path / "a2.parquet").write_bytes(whole[:-20])
    (tmp_path / "a3.parquet").write_bytes(b"no parquet")
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"picture": [b"x"], "text": ["y"]}), tmp_path / "a4.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"image": ["x.png"]}), tmp_path / "a5.parquet")
    with pytest.raises(DataError, match="4 bad images") as caught:
        ImageSet.read(tmp_path)
    assert "a4.parquet: has no column named image; its columns: picture, text" in caught.value.whole
    assert "a5.parquet: has images of the type string" in caught.value.whole
    assert len(ImageSet.read(tmp_path, skip_bad=True)) == 10


def test_rows_without_bytes_and_bytes_that_are_no_image_are_listed(tmp_path: Path) -> None:
    images = ImageSet.read(write_parquet(tmp_path / "a.parquet", [*IMAGES, None, b"no image"]))
    with pytest.raises(DataError, match="2 bad images") as caught:
        images.check()
    assert "a.parquet/10: the row has no bytes" in caught.value.whole
    assert "a.parquet/11: not a JPEG" in caught.value.whole


def test_what_is_written_again_after_it_was_listed_is_not_read(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", [("0.png", IMAGES[0])])
    parquet = write_parquet(tmp_path / "b.parquet", IMAGES)
    for path in (tar, parquet):
        images = ImageSet.read(path)
        os.utime(path, (0, 0))
        with pytest.raises(DataError, match="has changed since it was listed"):
            images.fetch(images.files[0])


def test_patterns_name_what_is_missing_and_folders_of_several_sets_are_asked_about(tmp_path: Path) -> None:
    root = write_tars(tmp_path / "tars", as_cls)
    with pytest.raises(DataError, match="2 of 5 are not there") as caught:
        ImageSet.read(root / "val-{000..004}.tar")
    assert "val-003.tar" in caught.value.whole
    with pytest.raises(DataError, match="stands for more than"):
        ImageSet.read(root / "val-{0..99999999999}.tar")
    write_tar(root / "train-000.tar", [("0.png", IMAGES[0])])
    with pytest.raises(DataError, match=r"holds files of 2 sets: train-\*.tar, val-\*.tar"):
        ImageSet.read(root)
    assert len(ImageSet.read(root / "val-*.tar", classes=3)) == 10
    with pytest.raises(DataError, match="compressed as a whole"):
        ImageSet.read(root / "val.tar.gz")
