"""fleet.toml: what it may say, and that all that is wrong is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.core.target import load_target
from edgevit.remote.fleet.fleet import FleetError, load_fleet

GOOD = """
[[boards]]
name = "pi-1"
host = "user@pi-1.local"
target = "raspberry-pi-5"
labels = ["kitchen", "new"]

[[boards]]
name = "pi-2"
host = "ssh://user@pi-2:2222"
target = "raspberry-pi-5"
labels = ["kitchen"]

[[boards]]
name = "mini"
host = "mini"
target = "boards/mini.toml"
"""


def write(folder: Path, text: str) -> Path:
    (folder / "boards").mkdir(exist_ok=True)
    (folder / "boards" / "mini.toml").write_text(
        'title = "A mini PC"\nbackend = "openvino"\ndevice = "CPU"\nbuild_on = "host"\nprecisions = ["fp32"]\n'
    )
    path = folder / "fleet.toml"
    path.write_text(text)
    return path


def test_boards_have_their_targets_and_a_file_of_ones_own_lies_beside_the_fleet(tmp_path, monkeypatch):
    path = write(tmp_path, GOOD)
    monkeypatch.chdir("/")
    fleet = load_fleet(path)
    assert [board.name for board in fleet.boards] == ["pi-1", "pi-2", "mini"]
    assert fleet.boards[0].target == load_target("raspberry-pi-5")
    assert fleet.boards[0].labels == ("kitchen", "new")
    assert (fleet.boards[2].target.name, fleet.boards[2].target.backend) == ("mini", "openvino")


def test_all_that_is_wrong_is_listed_at_once_with_guesses(tmp_path):
    path = write(
        tmp_path,
        """
[[boards]]
name = "pi-1"
host = "user@pi"
target = "rasberry-pi-5"
label = ["kitchen"]

[[boards]]
name = "pi-1"
host = "-oProxyCommand=touch x"
target = "boards/none.toml"

[[boards]]
name = "a board"
host = "user@pi"
labels = ["in the kitchen", "x", "x"]

[[boards]]
name = 7
host = "pi:2222"
target = "cpu"
""",
    )
    with pytest.raises(FleetError) as caught:
        load_fleet(path)
    said, hint = caught.value.whole, caught.value.hint
    for part in (
        "boards[0]: unknown key label (did you mean labels?)",
        "boards[0]: target: unknown target 'rasberry-pi-5'",
        "boards[1]: host = '-oProxyCommand=touch x' is not the name of a host",
        "boards[1]: target: ",
        "none.toml cannot be read",
        "boards[2]: missing key target",
        "boards[2]: name = 'a board' is not a word",
        "boards[2]: labels has 'in the kitchen'",
        "has a label twice",
        "boards[3]: name = 7 is not a text",
        "boards[3]: host = 'pi:2222' is not the name of a host",
        "name 'pi-1' is given to 2 boards",
        "host 'user@pi' is given to 2 boards",
    ):
        assert part in said, said
    assert "did you mean raspberry-pi-5" in hint
    assert "ssh://pi:2222" in hint
    assert "valid keys: name, host, target, labels" in hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "missing key boards"),
        ("boards = []", "boards is empty"),
        ("boards = 3", "boards = 3 is not a list"),
        ("boards = ['pi']", "boards[0]: the document = 'pi' is not a table"),
        ("[[board]]\nname = 'pi'", "unknown key board (did you mean boards?)"),
        ("[[boards]\n", "is not valid TOML"),
    ],
)
def test_file_of_another_form_is_refused(tmp_path, text, said):
    with pytest.raises(FleetError) as caught:
        load_fleet(write(tmp_path, text))
    assert said in caught.value.message


def test_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FleetError, match="cannot be read"):
        load_fleet(tmp_path / "fleet.toml")


def test_boards_are_selected_by_name_and_by_all_labels(tmp_path):
    fleet = load_fleet(write(tmp_path, GOOD))

    def select(*names, labels=()):
        return [board.name for board in fleet.select(names, labels)]

    assert select() == ["pi-1", "pi-2", "mini"]
    assert select("mini", "pi-1") == ["pi-1", "mini"]
    assert select(labels=["kitchen"]) == ["pi-1", "pi-2"]
    assert select(labels=["kitchen", "new"]) == ["pi-1"]
    for names, labels in ((["pi-3"], []), ([], ["cellar"])):
        with pytest.raises(FleetError, match=r"no board") as caught:
            fleet.select(names, labels)
        assert "boards: pi-1, pi-2, mini; labels: kitchen, new" in caught.value.hint
    with pytest.raises(FleetError, match="no board has all of what is asked for"):
        fleet.select(["mini"], ["kitchen"])
