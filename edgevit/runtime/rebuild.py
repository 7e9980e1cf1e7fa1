"""What to do with a bundle that does not fit this machine, as a command."""

from __future__ import annotations

from pathlib import Path

from edgevit.core.command import write_command
from edgevit.core.errors import DeviceError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.target import list_targets, read_architecture
from edgevit.runtime.bundle import Bundle


def rebuild_command(bundle: Bundle, target: str | None = None) -> str:
    """The command line that builds the bundle again, for its own target or another."""
    manifest = bundle.manifest
    source = str(manifest.source.get("path", "SOURCE"))
    options = ["--target", target or manifest.target.name, "--precision", manifest.precision]
    return write_command("build", Path(source), *options, "--out", bundle.folder)


def suggest_rebuild(bundle: Bundle) -> str:
    """A hint for a bundle that does not open here: the command for this machine's own GPU, where it is for one."""
    target = bundle.manifest.target
    if not LIBRARIES[target.backend].nvidia:
        return f"build it again for this device: {rebuild_command(bundle)}"
    from edgevit.runtime.nvidia import read_gpus

    try:
        gpus = read_gpus()
    except DeviceError:
        gpus = ()
    if not gpus:
        return f"open it on {target.title}, or build one for this machine (edgevit targets lists what it can run)"
    here = [gpu.compute_capability for gpu in gpus]
    name = target.name
    if target.compute_capability not in (None, *here):
        alike = [t for t in list_targets() if t.backend == target.backend and t.compute_capability in (None, *here)]
        alike = [t for t in alike if t.architecture in (None, read_architecture())]
        fitting = sorted(alike, key=lambda t: t.compute_capability is None)  # the generic profile comes last
        if not fitting:
            return f"write a target file with compute_capability = {here[0]!r}, and build it again with --target FILE"
        name = fitting[0].name
    command = rebuild_command(bundle, name)
    if target.build_on == "host":
        built = bundle.engine.versions.get(target.backend)
        package = LIBRARIES[target.backend].distribution
        other = f', or install the version that it was built with: pip install "{package}=={built}"'
        return f"build it again for this GPU: {command}{other if built and name == target.name else ''}"
    return f"on this machine, run edgevit finish on its portable bundle, or build it again: {command}"
