from __future__ import annotations

import pytest

from scripts.write_runtime_tables import FOLDER, TABLES


@pytest.mark.parametrize("file", TABLES)
def test_tables_of_the_cpp_runtime_are_those_of_python(file: str) -> None:
    said = "python -m scripts.write_runtime_tables"
    assert (FOLDER / file).read_text(encoding="utf-8") == TABLES[file](), f"write it again: {said}"
