"""``edgevit targets``: the profiles, or one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.output import Output, output_options

if TYPE_CHECKING:
    from edgevit.core.target import Target
    from edgevit.engines.availability import Status


@click.command("targets", short_help="List the target profiles, or show one.")
@click.argument("name", required=False)
@output_options
def command(output: Output, name: str | None) -> None:
    """List the target profiles, or show one.

    NAME is a profile's name, one of its aliases, or a TOML file of your own.

    \b
    Examples:
      edgevit targets
      edgevit targets intel-cpu
      edgevit targets ./my-board.toml
    """
    from edgevit.core.target import list_targets, load_target
    from edgevit.engines.availability import target_status

    if name is not None:
        target = load_target(name)
        status = target_status(target)
        output.document(describe_target(target, status))
        _show_target(output, target, status)
        return
    pairs = [(target, target_status(target)) for target in list_targets()]
    output.document([describe_target(target, status) for target, status in pairs])
    _show_targets(output, pairs)


def describe_target(target: Target, status: Status) -> dict[str, Any]:
    """The profile and what this machine can do with it, as plain data."""
    from edgevit.core.schema import to_data

    return {**to_data(target), "here": to_data(status)}


def summarize_status(status: Status) -> str:
    """What this machine can do for a target, in two words."""
    if status.buildable:
        return "build and run" if status.runnable else "build"
    return "run" if status.runnable else "portable bundle"


def _show_targets(output: Output, pairs: list[tuple[Target, Status]]) -> None:
    from edgevit.cli.tables import make_table

    table = make_table(["target", "device", "here"])
    for target, status in pairs:
        table.add_row(target.name, target.title, summarize_status(status))
    output.show(table)
    for target, _ in pairs:
        for alias in target.aliases:
            output.line(f"{alias} is another name for {target.name}")
    if any(not status.buildable for _, status in pairs):
        output.line()
        output.line("What a target lacks here: edgevit targets NAME, or edgevit doctor")


def _name_tiers(target: Target) -> str:
    """Those that engines are judged under, and what stands in for those that are not here."""
    from edgevit.build.tiers import plan_tiers
    from edgevit.core.isa import TIERS

    names = ", ".join(TIERS[tier].title for tier in target.isa)
    plan = plan_tiers(target)
    if not plan.absent or plan.ranked is None:
        return names
    absent = ", ".join(TIERS[tier].title for tier in plan.absent)
    return f"{names}; not here: {absent}, judged under {TIERS[plan.ranked].title}"


def _show_target(output: Output, target: Target, status: Status) -> None:
    from dataclasses import fields

    from edgevit.cli.tables import format_bytes, make_pairs

    switches = {f.name: getattr(target.export, f.name) for f in fields(target.export)}
    libraries = " or ".join((target.backend, *target.also))
    off = [name for name, value in switches.items() if value is False]
    pairs = {
        "target": ", ".join((target.name, *target.aliases)),
        "device": target.title,
        "engine": f"{libraries}, device {target.device}, compiled on the {target.build_on}",
        "precisions": ", ".join(target.precisions),
        "instruction sets": _name_tiers(target),
        "memory": format_bytes(target.memory_bytes) if target.memory_bytes else "",
        "compute capability": target.compute_capability or "",
        "engine version": f"{target.runtime_version} or later" if target.runtime_version else "",
        "architecture": target.architecture or "",
        "batch": "one size, or a range" if target.dynamic_batch else "one size",
        "opset": str(target.opset),
        "settings": ", ".join(f"{key} = {value}" for key, value in target.settings.items()),
        "export form": f"q/k/v {target.export.qkv}" + "".join(f", without {name}" for name in off),
        "here": summarize_status(status),
        "missing here": "\n".join(status.missing),
    }
    output.show(make_pairs(pairs))
