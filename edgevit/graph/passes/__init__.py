"""Rewrites of the ONNX graph, one a file, applied in the order of ``ORDER``.

A pass takes a :class:`~edgevit.graph.graph.Graph`, changes it in place and returns a
:class:`~edgevit.core.pass_record.PassRecord`. In none of the lists are :mod:`edgevit.graph.passes.split_convolution`,
:mod:`edgevit.graph.passes.fuse_row_gather` and :mod:`edgevit.graph.passes.multiply_resize`: the quantiser runs them,
the last two when the Q/DQ pairs are in their place, for libraries that they suit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from edgevit.core.pass_record import PassRecord
from edgevit.graph.graph import Graph
from edgevit.graph.passes.flatten_norm import flatten_norm
from edgevit.graph.passes.fold_attention_bias import fold_attention_bias
from edgevit.graph.passes.fold_batch_norm import fold_batch_norm
from edgevit.graph.passes.fold_constants import fold_constants
from edgevit.graph.passes.fold_reshape_target import fold_reshape_target
from edgevit.graph.passes.fold_static_shapes import fold_static_shapes
from edgevit.graph.passes.fuse_attention import Form, fuse_attention
from edgevit.graph.passes.fuse_gelu import fuse_gelu
from edgevit.graph.passes.fuse_layer_norm import fuse_layer_norm
from edgevit.graph.passes.fuse_token_gather import fuse_token_gather
from edgevit.graph.passes.move_convolution import move_convolution
from edgevit.graph.passes.name_sites import name_sites
from edgevit.graph.passes.remove_identity import remove_identity
from edgevit.graph.passes.remove_moves import remove_moves
from edgevit.graph.passes.remove_nan_guard import remove_nan_guard
from edgevit.graph.passes.restate_deformable_attention import restate_deformable_attention
from edgevit.graph.passes.restate_einsum import restate_einsum
from edgevit.graph.passes.restate_resize import restate_resize

Pass = Callable[[Graph], PassRecord]

# With a static batch, folding makes every target of a Reshape constant; what is left to the next pass is dynamic.
ORDER: tuple[tuple[str, Pass], ...] = (
    ("fold_constants", fold_constants),
    ("fold_reshape_target", fold_reshape_target),
    ("remove_identity", remove_identity),
    ("name_sites", name_sites),
)

# A file that somebody else exported, up to where its parts can be recognised.
FOREIGN: tuple[tuple[str, Pass], ...] = (
    ("fold_static_shapes", fold_static_shapes),
    ("remove_identity", remove_identity),
    ("remove_nan_guard", remove_nan_guard),
    ("fuse_layer_norm", fuse_layer_norm),
    ("fuse_gelu", fuse_gelu),
)

# What surrounds an encoder.
CARRIED_PASSES: tuple[tuple[str, Pass], ...] = (
    ("fold_batch_norm", fold_batch_norm),
    ("restate_deformable_attention", restate_deformable_attention),
    ("restate_resize", restate_resize),
    ("move_convolution", move_convolution),
    ("flatten_norm", flatten_norm),
    ("restate_einsum", restate_einsum),
)

# One that was recognised only in part: the form that engines fuse. The last two shorten what the others leave.
_FORMS: tuple[Form, ...] = ("packed", "separate")
PARTIAL: dict[str, tuple[tuple[str, Pass], ...]] = {
    form: (
        ("fuse_attention", functools.partial(fuse_attention, form=form)),
        ("fold_attention_bias", fold_attention_bias),
        ("fuse_token_gather", fuse_token_gather),
        ("remove_moves", remove_moves),
        ("remove_identity", remove_identity),
    )
    for form in _FORMS
}
