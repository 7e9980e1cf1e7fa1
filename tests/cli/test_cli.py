"""What all commands share: help, --json, --quiet, errors and exit statuses."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgevit import __version__
from edgevit.cli import COMMANDS, main
from edgevit.cli.demo_models import MODELS
from edgevit.cli.output import output_options
from edgevit.core.errors import DataError, EdgevitError

COMMAND_NAMES = list(COMMANDS)


@pytest.fixture
def runner():
    return CliRunner()


def add_command(monkeypatch, body):
    """Let ``edgevit targets`` run ``body(output)`` instead."""
    command = click.command("targets")(output_options(body))
    monkeypatch.setattr("edgevit.cli.targets.command", command)


def test_help_lists_every_command_with_a_summary(runner):
    result = runner.invoke(main, ["--help"], terminal_width=80)
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80
    lines = result.output.splitlines()
    for name in COMMANDS:
        row = [line for line in lines if line.startswith(f"  {name} ")]
        assert len(row) == 1
        assert len(row[0].split(maxsplit=1)[1]) > 20
        assert "..." not in row[0]


@pytest.mark.parametrize("name", COMMAND_NAMES)
def test_every_command_has_help_with_examples_and_the_shared_options_in_80_columns(runner, name):
    result = runner.invoke(main, [name, "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert f"edgevit {name}" in result.output.split("Examples:")[1]
    assert "--json" in result.output
    assert "--quiet" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMAND_NAMES)
def test_command_help_opens_without_any_optional_package(name):
    blocked: tuple[str, ...] = (
        "torch",
        "onnx",
        "onnxscript",
        "onnx_ir",
        "onnxruntime",
        "openvino",
        "safetensors",
        "huggingface_hub",
    )
    blocked += ("jinja2", "matplotlib")
    code = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        f"from edgevit.cli import main\nmain([{name!r}, '--help'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Usage: edgevit" in result.stdout


def test_version_is_printed(runner):
    assert runner.invoke(main, ["--version"]).output == f"edgevit {__version__}\n"


def test_module_runs_as_a_program():
    result = subprocess.run([sys.executable, "-m", "edgevit", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"edgevit {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bild"], "bild"),
        (["targets", "--jsn"], "--jsn"),
        (["build"], "SOURCE"),
        (["build", "model"], "--target"),
        (["build", "model", "--target", "cpu", "--precision", "int3"], "fp16"),
        (["build", "model", "--target", "cpu", "--batch", "4:2:8"], "MIN ≤ OPT"),
        (["build", "model", "--target", "cpu", "--batch", "many"], "1:4:8"),
        (["build", "model", "--target", "cpu", "--batch", "1:2:100000"], "more than 4096 images a call"),
        (["build", "model", "--target", "cpu", "--image-size", "0x3"], "256x512"),
        (["build", "model", "--target", "cpu", "--max-drop", "-1"], "-1"),
        (["build", "model", "--target", "cpu", "--seed", "x"], "'x'"),
        (["run", "bundle"], "IMAGE"),
        (["run", "bundle", "x.png", "--top-k", "0"], "0"),
        (["bench"], "BUNDLE"),
        (["eval", "bundle"], "--data"),
    ],
)
def test_bad_usage_gives_error_and_hint_and_status_2(runner, arguments, said):
    result = runner.invoke(main, arguments)
    assert result.exit_code == 2
    error, hint = result.stderr.strip().splitlines()[-2:]
    assert error.startswith("error: ")
    assert said in error
    assert hint.startswith("hint: ")
    assert result.stdout == ""


def test_edgevit_error_gives_error_and_hint_and_status_2(runner, monkeypatch):
    def fail(output):
        raise DataError("two things:\n  a\n  b", "do this")

    add_command(monkeypatch, fail)
    result = runner.invoke(main, ["targets"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: two things:\n  a\n  b\nhint: do this\n"


def test_error_with_json_is_one_document(runner, monkeypatch):
    def fail(output):
        print("a library talks")
        raise DataError("what happened", "what to do")

    add_command(monkeypatch, fail)
    result = runner.invoke(main, ["targets", "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {"error": "what happened", "hint": "what to do", "code": "error"}


def test_unexpected_exception_gives_no_traceback(runner, monkeypatch):
    def fail(output):
        raise ValueError("a\n  long   story")

    add_command(monkeypatch, fail)
    result = runner.invoke(main, ["targets"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: unexpected ValueError: a long story\nhint: ")
    assert "EDGEVIT_DEBUG=1" in result.stderr
    assert "Traceback" not in result.output


def test_debug_variable_lets_the_traceback_through(runner, monkeypatch):
    def fail(output):
        raise ValueError("story")

    add_command(monkeypatch, fail)
    result = runner.invoke(main, ["targets"], env={"EDGEVIT_DEBUG": "1"})
    assert isinstance(result.exception, ValueError)


def test_interrupt_gives_one_line_and_status_130(runner, monkeypatch):
    def stop(output):
        raise KeyboardInterrupt

    add_command(monkeypatch, stop)
    result = runner.invoke(main, ["targets"])
    assert result.exit_code == 130
    assert result.stderr.strip().startswith("error: interrupted")
    assert len(result.stderr.strip().splitlines()) == 1


def test_status_of_a_command_is_that_of_the_program(runner, monkeypatch):
    add_command(monkeypatch, lambda output: 1)
    assert runner.invoke(main, ["targets"]).exit_code == 1


def test_json_keeps_what_libraries_print_off_standard_output(runner, monkeypatch):
    def talk(output):
        print("a library talks")
        output.note("a note")
        output.line("a line")
        output.show("prose")
        output.document({"x": 1})

    add_command(monkeypatch, talk)
    result = runner.invoke(main, ["targets", "--json"])
    assert json.loads(result.stdout) == {"x": 1}
    assert result.stderr == "a library talks\na note\n"


def test_quiet_drops_notes_and_progress_but_not_results(runner, monkeypatch):
    def talk(output):
        output.note("a note")
        with output.progress() as progress:
            progress("export", 0, 2)
            progress("export", 2, 2)
        output.line("a line")

    add_command(monkeypatch, talk)
    result = runner.invoke(main, ["targets", "--quiet"])
    assert (result.stdout, result.stderr) == ("a line\n", "")


def test_markup_in_results_is_printed_as_it_is(runner, monkeypatch):
    add_command(monkeypatch, lambda output: output.show("[red]not red[/red] :smile: [1, 2]"))
    assert runner.invoke(main, ["targets"]).stdout == "[red]not red[/red] :smile: [1, 2]\n"


def test_warnings_of_libraries_do_not_reach_the_screen(runner, monkeypatch):
    import logging
    import warnings

    def warn(output):
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        logging.getLogger("torch.onnx").warning("careful")

    add_command(monkeypatch, warn)
    level = logging.getLogger("torch").level
    assert runner.invoke(main, ["targets"]).output == ""
    assert logging.getLogger("torch").level == level


@pytest.mark.skipif(os.name != "posix", reason="pipes as shells make them")
def test_reader_that_leaves_early_gets_no_traceback():
    command = f"{sys.executable} -m edgevit targets --json | head -c 1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr


@pytest.mark.usefixtures("thawed")
@pytest.mark.parametrize("arguments", [["build", str(MODELS["vit"]), "--target", "cpu"], ["demo", "--target", "cpu"]])
def test_build_looks_at_no_object_of_the_imports_and_gives_them_back(runner, monkeypatch, tmp_path, arguments):
    frozen = []

    def build_model(*_, **__):
        frozen.append(gc.get_freeze_count())
        raise EdgevitError("far enough", "")

    monkeypatch.setattr("edgevit.build.build.build_model", build_model)
    assert "far enough" in runner.invoke(main, [*arguments, "--out", str(tmp_path / "out")]).output
    assert frozen[0] > 0
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_documented_tab_completion_is_there(shell):
    environment = {**os.environ, "_EDGEVIT_COMPLETE": f"{shell}_source"}
    code = "from edgevit.cli import main; main(prog_name='edgevit')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "_EDGEVIT_COMPLETE" in done.stdout
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"{shell}_source" in readme
