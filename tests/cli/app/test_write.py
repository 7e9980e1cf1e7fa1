"""Apps of every language, task and engine library: complete, compiled where they are in C or C++, and right."""

from __future__ import annotations

import functools
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevit.cli.app.write import LANGUAGES, RUNTIME, Language, keep_regions, write_app
from edgevit.core.errors import BundleError, OutputError
from edgevit.core.libraries import LIBRARIES
from edgevit.pixels.decode import decode_image
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import load_bundle, verify_bundle
from edgevit.runtime.pack_file import pack_file
from tests.support.cpp_apps import build_app, configure_app, read_answers, run_app
from tests.support.cpp_engine import OPENVINO, find_headers
from tests.support.real_bundles import ASSETS, make_real_bundle
from tests.support.tiny_bundle import make_bundle, make_manifest, make_portable_bundle

TASKS = ("classify", "embed", "features")
PHOTOS = 200  # of validation images of both real bundles
COMPILED: tuple[Language, ...] = ("cpp", "c")


@functools.cache
def answer_in_python(bundle, photos):
    """The size and the five classes of each, once for all languages."""
    with open_bundle(bundle) as predictor:
        return [(read_size(photo), predictor.classify(photo, top_k=5)) for photo in photos]


def read_size(photo):
    picture = decode_image(photo)
    return str(picture.width), str(picture.height)


def compare_classes(said, bundle, photos):
    answers = read_answers(said)
    assert len(answers) == len(photos)
    known = answer_in_python(bundle, tuple(photos))
    for answer, photo, (size, expected) in zip(answers, photos, known, strict=True):
        head = re.fullmatch(r"(.+)  (\d+) x (\d+)  decode [\d.]+ ms  resize [\d.]+ ms  engine [\d.]+ ms", answer.head)
        assert head is not None
        assert head.groups() == (str(photo), *size)
        found = answer.classes
        assert [(index, label) for index, _, _, label in found] == [(e.index, e.label) for e in expected]
        assert [share for _, share, _, _ in found] == pytest.approx([e.probability for e in expected], abs=2e-6)
        scale = max(abs(e.value) for e in expected)
        assert [value for _, _, value, _ in found] == pytest.approx([e.value for e in expected], abs=1e-5 * scale)


@pytest.mark.parametrize("language", LANGUAGES)
def test_app_answers_images_as_python_does(apps, tiny, photos, language):
    files = sorted(photos.iterdir())
    program = apps(language)
    done = run_app(program, program.parents[language != "python"] / "bundle", *files)
    assert (done.returncode, done.stderr) == (0, "")
    compare_classes(done.stdout, tiny, files)


@pytest.mark.parametrize("language", LANGUAGES)
def test_app_answers_with_onnx_runtime(apps, photos, tmp_path, language):
    if language != "python" and find_headers() is None:
        pytest.skip("ONNX Runtime's headers are absent: python -m scripts.get_onnxruntime_headers")
    bundle = make_bundle(tmp_path / "bundle", tmp_path / "work", target="cpu").path
    done = run_app(apps(language), bundle, photos / "2.jpg")
    assert (done.returncode, done.stderr) == (0, "")
    compare_classes(done.stdout, bundle, [photos / "2.jpg"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_app_opens_a_packed_bundle(tiny, photos, tmp_path, apps, language):
    packed = pack_file(tiny, tmp_path / "model.edgevit")
    made = write_app(tmp_path / "app", packed, language, camera=True)
    assert made.bundle == "bundle.edgevit"
    assert made.run.endswith(" bundle.edgevit IMAGE...")
    assert (made.folder / "bundle.edgevit").read_bytes() == packed.read_bytes()
    program, photo = apps(language), photos / "2.jpg"
    main = next(made.folder.glob("main.*"))
    assert main.read_bytes() == (program.parents[language != "python"] / main.name).read_bytes()
    done = run_app(program, made.folder / made.bundle, photo)
    assert (done.returncode, done.stderr) == (0, "")
    compare_classes(done.stdout, tiny, [photo])


@pytest.mark.parametrize(("language", "task"), [("cpp", "embed"), ("c", "features"), ("python", "embed")])
def test_app_of_another_task_gives_its_arrays(apps, bundles, photos, language, task):
    photo = photos / "0.jpg"
    done = run_app(apps(language, task), bundles[task], photo)
    assert (done.returncode, done.stderr) == (0, "")
    (answer,) = read_answers(done.stdout)
    (row,) = answer.rows
    with open_bundle(bundles[task]) as predictor:
        if task == "embed":
            vector = predictor.embed(photo).astype(float)
            assert row[:3] == ["10", "numbers,", "norm"]
            assert float(row[3].removesuffix(":")) == pytest.approx(np.linalg.norm(vector), rel=1e-5)
            assert [float(cell) for cell in row[4:12]] == pytest.approx(vector[:8], rel=1e-4, abs=1e-4)
            assert row[12:] == ["..."]
        else:
            values = predictor.features(photo)["logits"]
            assert row[:3] == ["logits", "10", "mean"]
            assert float(row[3]) == pytest.approx(values.mean(dtype=float), rel=1e-4)


@pytest.mark.slow  # the two that stay are in different languages, and Python's is of the same text
@pytest.mark.parametrize(("language", "task"), [("cpp", "features"), ("c", "embed"), ("python", "features")])
def test_app_of_another_task_is_built_in_the_other_language_too(apps, bundles, photos, language, task):
    done = run_app(apps(language, task), bundles[task], photos / "0.jpg")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read_answers(done.stdout)[0].rows) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_have_no_probability(apps, photos, tmp_path, language):
    scores = {"scores": "identity"}
    bundle = make_bundle(tmp_path / "bundle", tmp_path / "work", target="intel-cpu", task_options=scores).path
    done = run_app(apps(language), bundle, photos / "1.png")
    assert done.returncode == 0, done.stderr
    (answer,) = read_answers(done.stdout)
    with open_bundle(bundle) as predictor:
        expected = predictor.classify(photos / "1.png")
    assert "%" not in done.stdout
    assert [(int(row[0]), " ".join(row[2:])) for row in answer.rows] == [(e.index, e.label) for e in expected]
    assert [float(row[1]) for row in answer.rows] == pytest.approx([e.value for e in expected], rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("language", LANGUAGES)
def test_app_says_what_cannot_be_answered_and_goes_on(apps, tiny, photos, tmp_path, language):
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    done = run_app(apps(language), tiny, tmp_path / "x.jpg", photos / "0.png", tmp_path / "nothing.png")
    assert done.returncode == 1
    assert [answer.head.split("  ")[0] for answer in read_answers(done.stdout)] == [str(photos / "0.png")]
    assert f"error: {tmp_path / 'x.jpg'}: " in done.stderr
    assert f"error: {tmp_path / 'nothing.png'}: No such file" in done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_app_that_cannot_begin_has_status_2_and_says_why(apps, bundles, photos, tmp_path, language):
    program = apps(language)
    for arguments, said in [
        ([], "usage: "),
        ([bundles["classify"]], "usage: "),
        ([tmp_path, photos / "0.png"], "is not a bundle"),
        ([bundles["embed"], photos / "0.png"], "task classify"),
        ([bundles["classify"], "--camera", tmp_path], "no .jpg or .png files"),
    ]:
        done = run_app(program, *arguments)
        assert said in done.stderr
        assert done.returncode == 2


@pytest.mark.parametrize("language", LANGUAGES)
def test_app_answers_the_frames_of_a_folder(apps, tiny, photos, language):
    done = run_app(apps(language), tiny, "--camera", photos)
    assert (done.returncode, done.stderr) == (0, "")
    *answers, end = read_answers(done.stdout)
    taken, answered, dropped = map(int, re.findall(r"\d+", end.head))
    assert taken == 8
    assert answered == len(answers) == taken - dropped
    assert answered > 0
    with open_bundle(tiny) as predictor:
        possible = {predictor.classify(path, top_k=1)[0].label for path in photos.iterdir()}
        last = predictor.classify(photos / "3.png", top_k=1)[0].label
    for number, answer in enumerate(answers, 1):
        pattern = rf"frame {number}  [\d.]+ frames/s  \d+ dropped  resize [\d.]+ ms  engine [\d.]+ ms"
        assert re.fullmatch(pattern, answer.head)
        (found,) = answer.classes
        assert found[3] in possible
    assert answers[-1].classes[0][3] == last, "the newest frame is never the one that is dropped"


@pytest.mark.parametrize("name", ASSETS)
def test_apps_around_real_bundles_answer_photos_as_python_does(assets, apps, tmp_path, name):
    bundle = make_real_bundle(assets, name)
    table = assets / ASSETS[name] / "validation.csv"
    files = [table.parent / row.partition(",")[0] for row in table.read_text().splitlines()[1:]]
    files = files[:: len(files) // PHOTOS][:PHOTOS]
    assert len(files) == PHOTOS
    for language in COMPILED:
        program = apps(language)
        made = write_app(tmp_path / language, bundle, language, camera=True)
        for file in ("decode.c", "camera.c", "CMakeLists.txt", next(made.folder.glob("main.*")).name):
            # Its own program is that of any other classifier: the model's facts stand in the bundle.
            assert (made.folder / file).read_bytes() == (program.parents[1] / file).read_bytes()
        done = run_app(program, made.folder / "bundle", *files)
        assert (done.returncode, done.stderr) == (0, "")
        compare_classes(done.stdout, bundle, files)


@pytest.mark.slow  # compiles the whole runtime again, as a user's first build does
@pytest.mark.parametrize("language", COMPILED)
def test_folder_builds_by_itself_and_can_be_moved(tiny, photos, tmp_path, language):
    made = write_app(tmp_path / "app", tiny, language)
    configure_app(made.folder, {"Python3_EXECUTABLE": sys.executable})
    subprocess.run(["cmake", "--build", str(made.folder / "build")], check=True, capture_output=True)
    moved = made.folder.rename(tmp_path / "moved")
    files = sorted(photos.iterdir())
    done = run_app(moved / "build" / "app", "bundle", *files, cwd=moved)
    assert (done.returncode, done.stderr) == (0, "")
    compare_classes(done.stdout, tiny, files)


def test_folder_has_every_source_that_its_build_names(tiny, tmp_path):
    made = write_app(tmp_path / "app", tiny, "cpp")
    configure_app(made.folder, {"Python3_EXECUTABLE": OPENVINO["Python3_EXECUTABLE"]})
    assert (made.folder / "build" / "CMakeCache.txt").is_file()
    assert "EDGEVIT_OPENVINO:BOOL=ON" in (made.folder / "build" / "CMakeCache.txt").read_text()
    build = made.folder / "build"
    links = [*build.glob("build.ninja"), *build.glob("CMakeFiles/app.dir/link.txt")]
    assert any(re.search(r"rpath,\S*ORIGIN/edgevit/", path.read_text()) for path in links), "it can be moved"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("camera", [False, True])
def test_app_is_complete_and_holds_no_marks(tiny, tmp_path, language, camera):
    (tmp_path / "bundle").mkdir()
    bundle = shutil.copytree(tiny, tmp_path / "bundle" / "b")
    (bundle / "notes.txt").write_text("of nobody's concern")
    made = write_app(tmp_path / "app", bundle, language, camera=camera)
    assert sorted(f"{p.name}/" if p.is_dir() else p.name for p in made.folder.iterdir()) == list(made.files)
    verify_bundle(made.folder / "bundle")
    assert not (made.folder / "bundle" / "notes.txt").exists()
    for path in (path for path in made.folder.iterdir() if path.is_file()):
        text = path.read_text()
        assert not re.search(r"(//|#|<!--) (\[\[|\]\])", text)
        assert ("--camera" in text) <= camera, path
        assert "print_embedding" not in text
        assert "$" not in text
    if language == "python":
        for command in (["check", "--select", "E,F,W,I,B,UP"], ["format", "--check", "--diff"]):
            ruff = ["ruff", *command, "--isolated", "--line-length", "120", str(made.folder)]
            subprocess.run([sys.executable, "-m", *ruff], check=True)
    else:
        shipped = {path.relative_to(RUNTIME) for path in RUNTIME.rglob("*") if path.is_file()}
        copied = {path.relative_to(made.folder / "edgevit") for path in (made.folder / "edgevit").rglob("*.*")}
        assert {path for path in shipped if path.parts[0] in ("include", "src", "cmake")} <= copied


@pytest.mark.parametrize("backend", LIBRARIES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_for_their_task_and_engine_library(language, backend):
    from edgevit.cli.app import write

    folder = Path(write.__file__).parent
    texts = [*folder.glob("shared/*"), *(folder / language).glob("*"), *folder.glob("shared/README.md")]
    for task, camera in itertools.product(TASKS, ({"camera"}, set())):
        traits = {language, task, backend, *camera}
        kept = {path.name: keep_regions(path.read_text(), traits) for path in texts if path.is_file()}
        main = next(text for name, text in kept.items() if name.startswith("main."))
        assert [name for name in ("print_classes", "print_embedding", "print_features") if name in main] == [
            {"classify": "print_classes", "embed": "print_embedding", "features": "print_features"}[task]
        ]
        build = kept["CMakeLists.txt"]
        assert re.findall(r"set\(EDGEVIT_(\w+) ON", build) == [backend.upper()]
        assert kept["README.md"].count("$version") == 1
        assert ("--camera" in kept["README.md"]) == bool(camera)


def test_regions_stay_where_every_trait_fits():
    text = "a\n// [[ x\nb\n  # [[ y !z\nc\n  # ]]\nd\n// ]]\n<!-- [[ !x -->\ne\n<!-- ]] -->\nf\n"
    assert keep_regions(text, {"x", "y"}) == "a\nb\nc\nd\nf\n"
    assert keep_regions(text, {"x", "y", "z"}) == "a\nb\nd\nf\n"
    assert keep_regions(text, {"y"}) == "a\ne\nf\n"


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_folder_that_holds_something_is_refused_and_left_alone(tiny, tmp_path, kind):
    out = tmp_path / "app"
    if kind == "folder":
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    elif kind == "file":
        out.write_text("mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match=r"is not empty: it holds mine.txt|is a file|is a link") as caught:
        write_app(out, tiny, "cpp")
    assert caught.value.hint == "name a new folder for the app"
    assert caught.value.code == "argument"
    left = list(tmp_path.rglob("*"))
    assert {path.name for path in left} <= {"app", "mine.txt"}


def test_empty_folder_is_taken(tiny, tmp_path):
    (tmp_path / "app").mkdir()
    assert "main.py" in write_app(tmp_path / "app", tiny, "python").files


def test_folder_inside_a_bundle_is_refused(tiny, tmp_path):
    bundle = shutil.copytree(tiny, tmp_path / "bundle")
    with pytest.raises(OutputError, match="lies inside the bundle"):
        write_app(bundle / "app", tiny, "cpp")
    assert not (bundle / "app").exists()


def test_portable_bundle_is_to_be_finished_first(tmp_path):
    bundle = make_portable_bundle(tmp_path / "bundle", tmp_path / "work").path
    with pytest.raises(BundleError, match="has no engine yet") as caught:
        write_app(tmp_path / "app", bundle, "cpp")
    assert caught.value.code == "portable"
    assert "edgevit finish" in caught.value.hint
    assert not (tmp_path / "app").exists()


def test_damaged_bundle_is_refused_before_anything_is_written(tiny, tmp_path):
    bundle = shutil.copytree(tiny, tmp_path / "bundle")
    (bundle / "model.bin").write_bytes(b"")
    with pytest.raises(BundleError, match="not as built") as caught:
        write_app(tmp_path / "app", bundle, "c")
    assert caught.value.code == "damaged"
    assert not (tmp_path / "app").exists()


def test_unknown_engine_library_is_named(tiny, tmp_path):
    import dataclasses

    from edgevit.build.pack import pack_bundle

    opened = load_bundle(tiny)
    engine = dataclasses.replace(opened.engine, backend="tflite", settings={})
    files = {name: tiny / name for name in opened.manifest.files}
    fields = {"target": opened.manifest.target, "canary": opened.manifest.canary}
    manifest = make_manifest(engine=engine, batch=engine.batch, **fields)
    try:
        bundle = pack_bundle(tmp_path / "bundle", files=files, manifest=manifest).path
    except Exception as exc:  # a manifest that cannot be written cannot be met either
        pytest.skip(f"no bundle has such an engine: {exc}")
    with pytest.raises(BundleError, match="tflite"):
        write_app(tmp_path / "app", bundle, "cpp")
    assert not (tmp_path / "app").exists()


def test_library_that_the_cpp_runtime_does_not_open_is_for_python_only(tiny, tmp_path, monkeypatch):
    runtime = shutil.copytree(RUNTIME, tmp_path / "runtime")
    for build in [*(runtime / "src" / "engines").glob("*.txt"), *(runtime / "src" / "engines").glob("*.cmake")]:
        build.write_text(build.read_text().replace("EDGEVIT_OPENVINO", "EDGEVIT_OTHER"))
    monkeypatch.setattr("edgevit.cli.app.write.RUNTIME", runtime)
    for language in COMPILED:
        with pytest.raises(BundleError, match="needs openvino, whose engines the C") as caught:
            write_app(tmp_path / "app", tiny, language)
        assert caught.value.code == "library"
    assert write_app(tmp_path / "app", tiny, "python").build == ""


@pytest.mark.parametrize("fence", ["cpp", "c", "python"])
def test_example_of_the_readme_answers(tiny, installed, tmp_path, fence):
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(rf"^```{fence}\n(.*?)^```$", readme, re.M | re.S)
    program = tmp_path / f"main.{'py' if fence == 'python' else fence}"
    program.write_text(example)
    grey = tmp_path / "grey.png"
    Image.new("RGB", (640, 480)).save(grey)
    if fence != "python":
        language = "C" if fence == "c" else "CXX"
        (tmp_path / "CMakeLists.txt").write_text(
            f"cmake_minimum_required(VERSION 3.20)\nproject(example {language})\nset(CMAKE_CXX_STANDARD 17)\n"
            f"find_package(edgevit REQUIRED)\nadd_executable(app {program.name})\n"
            "target_compile_options(app PRIVATE -Wall -Wextra -Wno-unused-parameter -Werror)\n"
            "target_link_libraries(app PRIVATE edgevit::edgevit)\n"
        )
        program = build_app(tmp_path, installed)
    done = run_app(program, tiny, grey)
    assert (done.returncode, done.stderr) == (0, "")
    with open_bundle(tiny) as predictor:
        expected = predictor.classify(grey, top_k=3)
    assert done.stdout.splitlines() == [f"{found.label} {found.probability:.4f}" for found in expected]


def test_name_of_a_model_cannot_write_into_the_readme(tmp_path):
    name = "evil</td>\n# heading `rm -rf` $x"
    bundle = make_bundle(tmp_path / "bundle", tmp_path / "work", target="intel-cpu", name=name).path
    made = write_app(tmp_path / "app", bundle, "python")
    first = (made.folder / "README.md").read_text().splitlines()[0]
    assert first == "# An app around evil td heading rm -rf x"
    assert json.loads((made.folder / "bundle" / "manifest.json").read_text())["name"] == name


def test_failure_while_writing_leaves_nothing(tiny, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgevit.cli.app.write._copy_bundle", fail)
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        with pytest.raises(OutputError, match="No space left"):
            write_app(tmp_path / name, tiny, "cpp")
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]
    assert not list((tmp_path / "empty").iterdir())
