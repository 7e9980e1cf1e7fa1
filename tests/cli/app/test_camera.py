"""Frames of a folder and of YUYV cameras, and the queues that drop the oldest frame, in all three languages.

No camera is attached to where this was written, and none is needed here.
"""

from __future__ import annotations

import ctypes
import io
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edgevit.cli.app import write
from edgevit.cli.app.python.camera import FrameQueue, read_frames
from tests.support import cpp_build
from tests.support.cpp_apps import compile_library
from tests.support.cpp_build import SOURCES, run_tool
from tests.support.cpp_engine import FORMATS
from tests.support.cpp_engine import Image as CppImage
from tests.support.photos import make_photo

APPS = Path(write.__file__).parent


class Picture(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_void_p), ("room", ctypes.c_size_t), ("image", CppImage))

    def read(self):
        pixels = ctypes.cast(self.bytes, ctypes.POINTER(ctypes.c_uint8))
        return np.ctypeslib.as_array(pixels, (self.image.height, self.image.width, 3)).copy()


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The C app's camera and queue."""
    sources = [APPS / "shared" / "camera.c", APPS / "shared" / "decode.c", APPS / "c" / "frame_queue.c"]
    out = tmp_path_factory.mktemp("camera") / "camera.so"
    library = ctypes.CDLL(str(compile_library(sources, out, f"-I{APPS / 'shared'}", "-ljpeg", "-lpng", "-lpthread")))
    library.camera_open.restype = ctypes.c_void_p
    library.queue_dropped.restype = ctypes.c_long
    return library


def convert_yuyv(library, pixels, height, width):
    luma = np.zeros((height, width), np.uint8)
    colours = np.zeros(((height + 1) // 2, width), np.uint8)
    arguments = [ctypes.c_void_p(pixels.ctypes.data), ctypes.c_size_t(pixels.strides[0]), width, height]
    library.convert_yuyv(*arguments, ctypes.c_void_p(luma.ctypes.data), ctypes.c_void_p(colours.ctypes.data))
    return luma, colours


@pytest.mark.parametrize("height", [6, 7, 1])
def test_yuyv_becomes_nv12_with_the_colours_of_two_rows(library, height):
    padded = np.random.default_rng(0).integers(0, 256, (height, 2 * 8 + 10), dtype=np.uint8)
    luma, colours = convert_yuyv(library, padded, height, 8)
    np.testing.assert_array_equal(luma, padded[:, :16:2])
    rows = padded[:, 1:16:2].astype(int)
    below = np.concatenate([rows[1:], rows[-1:]])
    np.testing.assert_array_equal(colours, ((rows + below + 1) // 2)[::2])


class CQueue:
    """The queue of the C app, with frames that are known by their width."""

    def __init__(self, library):
        self.library = library
        self.memory = ctypes.create_string_buffer(4096)
        library.queue_init(self.memory)

    def push(self, number):
        picture = Picture()
        picture.image.width = number
        self.library.queue_push(self.memory, ctypes.byref(picture))

    def pop(self):
        picture = Picture()
        return picture.image.width if self.library.queue_pop(self.memory, ctypes.byref(picture)) else None

    def close(self):
        self.library.queue_close(self.memory)

    @property
    def dropped(self):
        return self.library.queue_dropped(self.memory)


@pytest.fixture(params=["c", "python"])
def queue(request, library):
    return CQueue(library) if request.param == "c" else FrameQueue(2)


def test_queue_drops_the_oldest_and_never_waits_for_the_reader(queue):
    for number in range(1, 8):  # nobody reads: a queue that waited would wait for ever
        queue.push(number)
    assert queue.dropped == 5
    assert [queue.pop(), queue.pop()] == [6, 7]
    queue.push(8)
    queue.close()
    assert [queue.pop(), queue.pop()] == [8, None]
    assert queue.dropped == 5


def test_reader_waits_for_a_frame_and_is_let_go_when_the_queue_closes(queue):
    found = []
    reader = threading.Thread(target=lambda: found.extend([queue.pop(), queue.pop()]))
    reader.start()
    queue.push(3)
    queue.close()
    reader.join(60)
    assert found == [3, None]


def test_queue_in_cpp_drops_the_oldest_and_ends_when_closed(tmp_path):
    if shutil.which("c++") is None:
        pytest.skip("c++ is absent")
    source = tmp_path / "main.cpp"
    source.write_text(
        """
        #include <cstdio>
        #include <thread>
        #include "frame_queue.hpp"
        int main() {
          FrameQueue<int> queue(2);
          for (int number = 1; number < 8; ++number) { int frame = number; queue.push(frame); }
          std::printf("%ld", queue.dropped());
          int frame = 0;
          for (int i = 0; i < 2 && queue.pop(frame); ++i) std::printf(" %d", frame);
          std::thread camera([&] { int last = 8; queue.push(last); queue.close(); });
          while (queue.pop(frame)) std::printf(" %d", frame);
          camera.join();
        }
        """
    )
    program = tmp_path / "main"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{APPS / 'cpp'}", "-pthread"]
    run_tool(["c++", *flags, str(source), "-o", str(program)])
    done = subprocess.run([str(program)], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "5 6 7 8"


@pytest.fixture
def frames(tmp_path):
    """Five frames in an order of their own, and a file that is none."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(5):
        make_photo(20, 30 + number, seed=number).save(folder / f"{number}.{'PNG' if number % 2 else 'png'}")
    (folder / "notes.txt").write_text("no image")
    return folder


def read_in_c(library, source):
    why = ctypes.create_string_buffer(256)
    camera = library.camera_open(str(source).encode(), why, 256)
    if not camera:
        return [], why.value.decode()
    found, picture = [], Picture()
    while (status := library.camera_next(ctypes.c_void_p(camera), ctypes.byref(picture), why, 256)) > 0:
        found.append(picture.read())
    library.camera_close(ctypes.c_void_p(camera))
    return found, why.value.decode() if status < 0 else ""


def read_in_python(source):
    queue = FrameQueue(100)
    read_frames(str(source), queue)
    found = []
    while (frame := queue.pop()) is not None:
        found.append(np.asarray(frame))
    return found, queue.problem


NV12, YUYV, MJPEG, UYVY = (int.from_bytes(code, "little") for code in (b"NV12", b"YUYV", b"MJPG", b"UYVY"))
CAPTURE, STREAMING = 1, 0x04000000


class Driver(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("capabilities", "format", "width", "height", "stride")),
        *(("frames", ctypes.c_int32), ("sizes", ctypes.c_int32 * 4), ("damaged", ctypes.c_int32 * 4)),
        ("content", ctypes.c_uint8 * (1 << 16) * 4),
        *((name, ctypes.c_int32) for name in ("given", "queued", "mapped", "streams")),
    )


@pytest.fixture(scope="module")
def double(tmp_path_factory):
    """The sample's camera over a driver of the tests' own."""
    sources = [Path(cpp_build.__file__).with_name("v4l2_double.c"), APPS / "shared" / "decode.c"]
    out = tmp_path_factory.mktemp("double") / "double.so"
    library = ctypes.CDLL(str(compile_library(sources, out, f"-I{APPS / 'shared'}", "-ljpeg", "-lpng")))
    library.camera_open.restype = ctypes.c_void_p
    return library


def set_driver(library, frames, **facts):
    """What the driver gives next; a frame is its bytes, or ``None`` for one that it marks as damaged."""
    driver = Driver.in_dll(library, "driver")
    ctypes.memset(ctypes.byref(driver), 0, ctypes.sizeof(driver))
    for name, value in {"capabilities": CAPTURE | STREAMING, "frames": len(frames), **facts}.items():
        setattr(driver, name, value)
    for number, frame in enumerate(frames):
        content = b"" if frame is None else frame
        driver.damaged[number] = int(frame is None)
        driver.sizes[number] = len(content)
        ctypes.memmove(driver.content[number], content, len(content))
    return driver


def read_planes(picture):
    """Luma and colours of an NV12 frame, without what fills up its rows."""
    image = picture.image
    assert image.format == FORMATS["nv12"]
    assert image.planes[0] == picture.bytes + image.stride * image.height
    rows = image.height + (image.height + 1) // 2
    pixels = ctypes.cast(picture.bytes, ctypes.POINTER(ctypes.c_uint8))
    return np.ctypeslib.as_array(pixels, (rows, image.stride))[:, : image.width].copy()


def read_device(library, take):
    why = ctypes.create_string_buffer(256)
    camera = library.camera_open(b"/dev/double", why, 256)
    if not camera:
        return [], why.value.decode()
    found, picture = [], Picture()
    while library.camera_next(ctypes.c_void_p(camera), ctypes.byref(picture), why, 256) > 0:
        found.append(take(picture))
    library.camera_close(ctypes.c_void_p(camera))
    return found, why.value.decode()


def test_nv12_of_a_camera_is_taken_with_its_gaps(double):
    frames = np.random.default_rng(0).integers(0, 256, (3, 9, 16), dtype=np.uint8)  # 12 columns, 6 rows
    given = [frames[0].tobytes(), None, frames[1].tobytes(), frames[2].tobytes()[:-1]]
    driver = set_driver(double, given, format=NV12, width=12, height=6, stride=16)
    found, why = read_device(double, read_planes)
    np.testing.assert_array_equal(found, frames[:2, :, :12])  # what is damaged or not whole is passed over
    assert why == "the camera is gone: No such device"
    assert (driver.queued, driver.mapped, driver.streams) == (4 + 4, 0, 0), "every buffer goes back to the driver"


@pytest.mark.parametrize("stride", [0, 40])
def test_yuyv_of_a_camera_becomes_nv12(double, stride):
    frame = np.random.default_rng(1).integers(0, 256, (6, stride or 24), dtype=np.uint8)
    set_driver(double, [frame.tobytes()], format=YUYV, width=12, height=6, stride=stride)
    (found,), _ = read_device(double, read_planes)
    np.testing.assert_array_equal(found[:6], frame[:, :24:2])
    np.testing.assert_array_equal(found[6:], (frame[::2, 1:24:2].astype(int) + frame[1::2, 1:24:2] + 1) // 2)


def test_jpeg_of_a_camera_becomes_rgb_and_one_that_is_cut_short_is_passed_over(double):
    photos = [encode_jpeg(seed) for seed in range(3)]
    set_driver(double, [photos[0], photos[1][:200], photos[2]], format=MJPEG, width=40, height=30)
    found, _ = read_device(double, Picture.read)
    for pixels, photo in zip(found, (photos[0], photos[2]), strict=True):
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(photo))))


def encode_jpeg(seed):
    stream = io.BytesIO()
    make_photo(30, 40, seed).save(stream, "JPEG")
    return stream.getvalue()


def test_camera_of_other_formats_and_device_without_video_are_told(double):
    driver = set_driver(double, [b""], format=UYVY, width=4, height=4)
    assert "none of NV12, YUYV and JPEG" in read_device(double, Picture.read)[1]
    set_driver(double, [b""], format=NV12, capabilities=STREAMING)
    assert "no video in one plane" in read_device(double, Picture.read)[1]
    assert (driver.mapped, driver.queued) == (0, 0)


@pytest.fixture(params=["c", "python"])
def read(request, library):
    return (lambda source: read_in_c(library, source)) if request.param == "c" else read_in_python


def test_folder_gives_its_images_in_order(read, frames):
    found, problem = read(frames)
    assert problem == ""
    assert [frame.shape for frame in found] == [(20, 30 + number, 3) for number in range(5)]
    for frame, path in zip(found, sorted(frames.glob("*.[pP]*")), strict=True):
        np.testing.assert_array_equal(frame, np.asarray(Image.open(path)))


def test_folder_with_a_damaged_image_ends_with_its_name(read, frames):
    (frames / "3.PNG").write_bytes(b"no image")
    found, problem = read(frames)
    assert len(found) == 3
    assert "3.PNG" in problem


def test_folder_without_images_is_told(read, tmp_path):
    assert read(tmp_path) == ([], f"{tmp_path} has no .jpg or .png files")


@pytest.mark.parametrize("source", ["nothing", "file", "/dev/null"])
def test_what_is_no_camera_is_told(library, tmp_path, source):
    (tmp_path / "file").touch()
    found, problem = read_in_c(library, tmp_path / source)
    assert found == []
    known = {"nothing": "No such file", "file": "neither a camera nor a folder", "/dev/null": "not a V4L2 device"}
    assert known[source] in problem


def test_opencvs_frames_come_as_rgb_until_the_camera_is_gone(tmp_path, monkeypatch):
    """By a double of OpenCV, which is not among what the tests install."""

    class VideoCapture:
        def __init__(self, source):
            self.left = 2 if source == "/dev/video0" else 0
            self.opened = self.left > 0

        def isOpened(self):  # noqa: N802 - OpenCV's
            return self.opened

        def read(self):
            self.left -= 1
            return self.left >= 0, np.full((4, 6, 3), (10, 20, 30), np.uint8)

        def release(self):
            released.append(self)

    released: list[VideoCapture] = []
    double = SimpleNamespace(
        VideoCapture=VideoCapture, COLOR_BGR2RGB=4, cvtColor=lambda pixels, code: pixels[..., ::-1].copy()
    )
    monkeypatch.setitem(sys.modules, "cv2", double)
    found, problem = read_in_python("/dev/video0")
    assert [frame[0, 0].tolist() for frame in found] == [[30, 20, 10]] * 2
    assert problem == "/dev/video0 gives no more frames"
    assert read_in_python("/dev/video1") == ([], "/dev/video1 is no camera that OpenCV can open, and no folder")
    assert len(released) == 2


def test_without_opencv_a_camera_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert read_in_python("/dev/video0")[1].endswith("pip install opencv-python-headless")


def test_reader_that_leaves_ends_the_capture(frames):
    queue = FrameQueue(2)
    queue.close()
    read_frames(str(frames), queue)
    assert queue.taken == 1
    assert queue.problem == ""


def test_formats_of_the_header_are_those_of_the_tests():
    text = (SOURCES / "include" / "edgevit" / "edgevit.h").read_text()
    assert all(f"EDGEVIT_{name.upper()} = {number}" in text for name, number in FORMATS.items())
