"""How much each token of each Linear's output moves the logits, for ranges that are weighted by it.

PTQ4ViT (Yuan et al., 2022, arXiv:2111.12293, section 3.3) weighs an error of a Linear's output by the square of the
loss's gradient there, the diagonal of a Fisher information. Here the loss is a random ±1 combination of the logits: the
expectation of (gradient · error)² is then the error's own square at the logits, to first order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgevit.core.progress import Progress, ignore_progress

if TYPE_CHECKING:
    from edgevit.core.target import ExportForm
    from edgevit.models.model import Model

Importance = Mapping[str, npt.NDArray[np.float32]]
"""By site: ``(items, T)``, of each token of what a call with one item gives; larger is more."""


def measure_importance(
    model: Model,
    form: ExportForm,
    pixels: Sequence[npt.NDArray[np.uint8]],
    *,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> Importance:
    """One forward and one backward pass of the folded module in torch for every item.

    Args:
        model: Not changed.
        form: The export form, whose sites the result names.
        pixels: ``(B, H, W, 3) uint8`` each.
        seed: Of the combination of the logits.
        progress: Told about every item.
    """
    import torch
    from torch import nn

    from edgevit.models.export import fold_model
    from edgevit.models.model import WholeGraph

    if isinstance(model.module, WholeGraph):  # what it carries does not run in torch: all that it reads counts alike
        model = model.module.encoder_model(model.preprocess)
    folded, _ = fold_model(model, form)
    linears = {
        name.removeprefix("model."): part for name, part in folded.named_modules() if isinstance(part, nn.Linear)
    }
    seen: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            output = output if output.requires_grad else output.detach().requires_grad_()
            output.retain_grad()
            seen[name] = output
            return output

        return hook

    for name, part in linears.items():
        part.register_forward_hook(keep(name))
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in linears}
    for done, item in enumerate(pixels):
        progress("importance", done, len(pixels))
        seen.clear()
        with torch.enable_grad():
            result = folded(torch.from_numpy(np.ascontiguousarray(item)))
            answers = result if isinstance(result, tuple) else (result,)
            combined = torch.zeros(())
            for values in answers:
                signs = torch.randint(0, 2, values.shape, generator=generator) * 2 - 1
                # Of several outputs every one counts alike, however large its numbers are.
                weight = values.detach().square().sum().rsqrt() if len(answers) > 1 else 1.0
                combined = combined + (values * signs).sum() * weight
            combined.backward()  # type: ignore[no-untyped-call]
        for name, output in seen.items():
            found[name].append(output.grad.square().mean(dim=-1).flatten().numpy())
    progress("importance", len(pixels), len(pixels))
    return {name: np.stack(rows) for name, rows in found.items() if rows}
