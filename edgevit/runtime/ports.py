"""check_ports: whether an engine takes and gives what its bundle says, before a buffer is made by what that says."""

from __future__ import annotations

from collections.abc import Sequence

from edgevit.core.engine import Engine
from edgevit.core.errors import BundleError


def check_ports(engine: Engine, inputs: Sequence[Sequence[object]], outputs: Sequence[Sequence[object]]) -> None:
    """Compare shapes, but for the batch and for sides that may vary.

    Args:
        engine: What the bundle says.
        inputs: Shapes by the engine library; a side that may vary is no ``int``.
        outputs: Likewise.

    Raises:
        BundleError: With both shapes.
    """
    for name, specs, found in (("inputs", engine.inputs, inputs), ("outputs", engine.outputs, outputs)):
        said = [tuple(spec.shape) for spec in specs]
        if len(said) != len(found) or any(_differ(a, b) for a, b in zip(said, found, strict=True)):
            shapes = ", ".join(f"({', '.join(map(str, shape))})" for shape in found)
            raise BundleError(
                f"{engine.path}: its {name} are {shapes}, and the bundle says "
                + ", ".join(f"({', '.join(map(str, shape))})" for shape in said),
                "build the bundle again",
                code="manifest",
            )


def _differ(said: Sequence[object], found: Sequence[object]) -> bool:
    sides = zip(said[1:], found[1:], strict=False)
    return len(said) != len(found) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in sides)
