"""Plans of sweeps whose cells are really built, as cheaply as that goes."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

from edgevit.cli.demo_models import MODELS, write_digits

TARGETS = ("cpu", "jetson-orin-nano", "raspberry-pi-5")
"""In two steps, and two that are left to the device, in one: in one precision each, no latency chooses."""

CHEAP = """
choice_images = 20
parity_images = 2
latency_runs = 5
latency_seconds = 0.05
tune_settings = false
[quantization]
images = 20
observer = "minmax"
rounding = "nearest"
"""
"""A recipe with which a small model is really built in seconds of one core."""


def write_plan(folder: Path, cells: int, recipe: str = "") -> Path:
    """So many cells of the demo's models, in two precisions for three targets, of which one is measured here.

    After the first twelve they differ only in their budgets, and share their stages with one of these.

    Args:
        folder: For the plan and the digits.
        cells: How many.
        recipe: Its text; by default that of a build without one.
    """
    digits = write_digits(folder / "digits")
    for left in list(digits.validation.glob("*/*.png")):
        if int(hashlib.sha256(left.name.encode()).hexdigest(), 16) % 8:  # few are enough to tell two engines apart
            left.unlink()
    if recipe:
        (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    cases = list(itertools.product(("fp32", "int8"), TARGETS, MODELS.values()))
    lines = [f'calibration = "{digits.calibration}"', f'validation = "{digits.validation}"']
    for number in range(cells):
        precision, target, model = cases[number % len(cases)]
        changes = [f'precision = "{precision}"', f"budget = {{max_drop_points = {50 + number // len(cases)}}}"]
        changes += [f'recipe = "{folder / "recipe.toml"}"'] if recipe else []
        lines += ["[[include]]", f'source = "{model}"', f'target = "{target}"', f"set = {{{', '.join(changes)}}}"]
    plan = folder / "plan.toml"
    plan.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return plan
