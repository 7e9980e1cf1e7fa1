"""Documents that differ from a sound one in a few places, for hypothesis."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from([1 << 31, 1 << 32, (1 << 63) - 1, -(1 << 63), 1 << 62, 32768, 0, -1, 10**15]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(
        ["../x", "/etc/passwd", "fp32", "openvino", "onnxruntime", "tensorrt", "CPU", "softmax", "1", "", "\ud800"]
    ),
    st.lists(st.integers(-1, 3), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(-1, 3), max_size=3),
    st.builds(lambda: [[[[[]]]]]),  # a new one each time, as it may be changed later
)
"""Values of every kind, and those that numbers and names go wrong by."""


@st.composite
def mutate(draw: st.DrawFn, document: Any, most: int = 3) -> Any:
    """The document with one to ``most`` values replaced, removed or added, at any depth."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, most))):
        place = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
                place = place[key]
                continue
            action = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "repeat"]))
            if action == "replace":
                place[key] = draw(ODD)
            elif action == "remove":
                del place[key]
            elif isinstance(place, dict):
                place[draw(st.text(max_size=6))] = draw(ODD) if action == "add" else copy.deepcopy(place[key])
            else:
                place.insert(key, draw(ODD) if action == "add" else copy.deepcopy(place[key]))
            break
    return document
