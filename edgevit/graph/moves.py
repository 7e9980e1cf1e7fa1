"""The operators that only move numbers: one list, in three steps, each with the reason why not all readers go on to it.

What they do with each number stands in ``movement.py``. What OpenVINO's plugin was seen to take in is a list of its own
(``engines/openvino_faults.py``).
"""

from __future__ import annotations

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""They keep the order of the numbers."""
LAYOUT_OPS = (*RESHAPES, "Identity", "Transpose", "Slice", "Gather")
"""One tensor becomes one: a grid passes through, and a Q/DQ pair can stand on either side."""
MOVING_OPS = (*LAYOUT_OPS, "Split", "Concat")
"""Also what makes several tensors of one, or one of several: no single pair can change sides there."""
MOVES = (*MOVING_OPS, "Expand", "Tile", "Pad", "Cast", "Dropout")
"""Also what writes copies and zeros, or moves numbers only in some of its forms: see which before trusting it."""
