"""make_canary: a few images with the float model's answers and the engine's, by which a bundle knows its place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgevit.build.precisions import QUANTIZED_PRECISIONS
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.report.place import CEILING_DB, MOST_IMAGES, QUANTIZED_CEILING_DB, CanaryRecord, choose_least_db
from edgevit.runtime.canary import measure_sqnr
from edgevit.runtime.canary_file import Canary, dump_canary
from edgevit.runtime.session import get_runtime, open_engine

if TYPE_CHECKING:
    from edgevit.build.evidence import Evidence
    from edgevit.core.engine import Engine
    from edgevit.runtime.session import Outputs

_EXACT_DB, _WORST_DB = 300.0, -300.0  # in place of infinities, of which there is no median
MOST_BYTES = 4 << 20
"""Of the file, as long as it holds more than one image."""
UNSEEN_DB = {"fp32": CEILING_DB}
OTHER_UNSEEN_DB = 30.0
"""Asked of a 16-bit engine that was not run at the build: relative errors of 2e-2, which parity allows, are 34 dB."""


def make_canary(
    engine: Engine, evidence: Evidence, *, progress: Progress = ignore_progress
) -> tuple[bytes, CanaryRecord] | None:
    """Open the engine once more, and let it answer the images that its parity was checked on; keep a few of them.

    Those are kept whose SQNR is nearest to the median: where values near the middle between two codes go the other way,
    which another order of sums is enough for, an image with little noise by luck has more, and would be refused.

    Where this machine cannot open it, its graph's answers stand in for its own, and the record says so: whoever opens
    the bundle first answers the canary in any case.

    Returns:
        The bytes of ``canary.npz`` and the manifest's record; ``None`` where nothing can be compared: an output of the
        float model is zero everywhere, or an answer at the build is no finite number.

    Raises:
        DeviceError: The engine, which was measured here, does not open any more.
    """
    progress("canary", 0, 1)
    runtime = get_runtime(engine.backend)
    place = None
    if runtime.find_mismatch(engine) is None:
        with open_engine(engine) as session:
            answers = session.run_outputs(evidence.pixels)
            place = runtime.describe_place(engine, session.settings)
    else:
        answers = evidence.graph_outputs.get(engine.precision, evidence.outputs)
    progress("canary", 1, 1)
    rows = _choose_images(evidence, answers)
    pixels = evidence.pixels[rows]
    reference, answers = (tuple(values[rows] for values in found) for found in (evidence.outputs, answers))
    sqnr_db = measure_sqnr(reference, answers)
    if math.isnan(sqnr_db) or not all(values.any() for values in reference):
        return None
    quantized = engine.precision in QUANTIZED_PRECISIONS
    ceiling = QUANTIZED_CEILING_DB if quantized else CEILING_DB
    if place is None and not quantized:
        ceiling = UNSEEN_DB.get(engine.precision, OTHER_UNSEEN_DB)
    seen = round(sqnr_db, 2) if math.isfinite(sqnr_db) else None
    record = CanaryRecord(
        images=len(rows),
        least_db=choose_least_db(seen, ceiling),
        sqnr_db=seen,
        answers="engine" if place is not None else "graph",
        place=place,
    )
    names = tuple(spec.name for spec in engine.outputs)
    return dump_canary(Canary(pixels, reference, answers), names), record


def _choose_images(evidence: Evidence, answers: Outputs) -> list[int]:
    """Rows of the most usual images: as many as keep the file small, and one at least."""
    each = int(evidence.pixels[0].nbytes + 2 * sum(values[0].nbytes for values in evidence.outputs))
    count = max(1, min(MOST_IMAGES, len(evidence.pixels), MOST_BYTES // each))
    alone = []
    for row in range(len(evidence.pixels)):
        found = measure_sqnr(*([values[row : row + 1] for values in arrays] for arrays in (evidence.outputs, answers)))
        alone.append(float(np.nan_to_num(found, nan=_WORST_DB, posinf=_EXACT_DB, neginf=_WORST_DB)))
    order = np.argsort(np.abs(np.array(alone) - np.median(alone)), kind="stable")
    return sorted(int(row) for row in order[:count])
