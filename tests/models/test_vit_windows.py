"""A ViT in windows against ViTs without them: attention cares for no order, and a window is an image of its own."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from edgevit.core.errors import EdgevitError
from edgevit.core.task import Layout, Task
from edgevit.models.pixels import copy_structure
from edgevit.models.select_task import select_task
from edgevit.models.vit import ViT
from tests.support.small_models import VIT, make_model, relative_error

PLAIN = dataclasses.replace(VIT, classes=0, class_token=False, pool="mean", block_positions=False)
GRID, WINDOWS = (4, 6), (2, 3)


def make_pair(window_blocks: tuple[int, ...]) -> tuple[ViT, ViT]:
    """A ViT, and one of the same weights in windows."""
    plain = make_model(PLAIN).module
    windowed = ViT(dataclasses.replace(PLAIN, windows=WINDOWS, window_blocks=window_blocks)).eval()
    windowed.load_state_dict(plain.state_dict())
    assert isinstance(plain, ViT)
    return plain, windowed


def make_pixels() -> torch.Tensor:
    return torch.randn(2, 3, *VIT.image_size, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("layout", ["map", "tokens"])
def test_features_of_blocks_that_are_all_global_are_those_without_windows(layout: Layout) -> None:
    plain, windowed = (
        select_task(
            dataclasses.replace(make_model(PLAIN), module=module), Task("features", levels=(0, 2), layout=layout)
        ).module
        for module in make_pair(())
    )
    with torch.inference_mode():
        for ours, theirs in zip(windowed(make_pixels()), plain(make_pixels()), strict=True):
            assert relative_error(ours, theirs) <= 1e-5


def test_embedding_of_blocks_that_are_all_global_is_that_without_windows() -> None:
    plain, windowed = make_pair(())
    with torch.inference_mode():
        assert relative_error(windowed(make_pixels()), plain(make_pixels())) <= 1e-5


def test_windows_whose_blocks_are_all_their_own_are_images_of_their_own() -> None:
    plain, windowed = make_pair((0, 1, 2))
    ph, pw = VIT.patch_size
    rows, columns = GRID[0] // WINDOWS[0], GRID[1] // WINDOWS[1]
    small = ViT(dataclasses.replace(PLAIN, image_size=(rows * ph, columns * pw))).eval()
    positions = plain.pos_embed
    assert positions is not None
    table = positions.reshape(1, *GRID, -1)
    count = rows * columns
    with torch.inference_mode():
        stream = windowed.encode(make_pixels())
        for number in range(WINDOWS[0] * WINDOWS[1]):
            down, across = divmod(number, WINDOWS[1])
            top, left = down * rows, across * columns
            state = {name: value for name, value in plain.state_dict().items() if name != "pos_embed"}
            own = table[:, top : top + rows, left : left + columns].reshape(1, count, -1)
            small.load_state_dict({**state, "pos_embed": own})
            crop = make_pixels()[:, :, top * ph : (top + rows) * ph, left * pw : (left + columns) * pw]
            wanted = copy_structure(small).encode(crop)  # type: ignore[operator]
            assert relative_error(stream[:, number * count : (number + 1) * count], wanted) <= 1e-5


def test_window_blocks_behind_the_last_level_are_left_out() -> None:
    config = dataclasses.replace(VIT, classes=0, windows=WINDOWS, window_blocks=(0, 2))
    model = select_task(make_model(config), Task("features", levels=(1,)))
    assert model.config.window_blocks == (0,)
    with torch.inference_mode():
        (features,) = model.module(make_pixels())
    assert features.shape == (2, VIT.width, *GRID)


@pytest.mark.parametrize(
    "changes",
    [{"windows": (3, 3)}, {"windows": (2, 3), "pool": "token_mean"}, {"window_blocks": (0,)}, {"windows": (0, 1)}],
    ids=["uneven", "token_mean", "no_windows", "none_down"],
)
def test_windows_that_are_no_windows_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises((ValueError, EdgevitError)):
        dataclasses.replace(VIT, classes=0, **changes)  # type: ignore[arg-type]
