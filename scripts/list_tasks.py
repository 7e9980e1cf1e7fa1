"""Write the table of docs/tasks.md: which of transformers' classes answer which task, and how.

python -m scripts.list_tasks
"""

from __future__ import annotations

from pathlib import Path

from edgevit.checkpoints.transformers.dense_tasks import DENSE_CLASSES, read_dense

PATH = Path(__file__).parents[1] / "docs" / "tasks.md"
BEGIN, END = "<!-- classes -->\n", "<!-- end of classes -->\n"


def make_table() -> str:
    """The rows, in Markdown."""
    lines = ["| class of transformers | task | image processors | outputs that are read |", "| --- | --- | --- | --- |"]
    for name, row in DENSE_CLASSES.items():
        task = read_dense({"architectures": [name]}, None, None).task.name
        processors = ", ".join(f"`{processor}ImageProcessor`" for processor in row.processors)
        lines.append(f"| `{name}` | {task} | {processors} | {', '.join(f'`{output}`' for output in row.outputs)} |")
    return "\n".join(lines) + "\n"


def write_page(text: str) -> str:
    """The page with the table as it is now."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{make_table()}{END}{tail}"


if __name__ == "__main__":
    PATH.write_text(write_page(PATH.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"written: {PATH}")
