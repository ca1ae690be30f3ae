"""A model folder's requirements.txt: no server installs it, so what it asks for must be there already."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from dl_inference.problem import Problem

if TYPE_CHECKING:
    from packaging.requirements import Requirement

FILE = "requirements.txt"


def problems(place: Path) -> list[Problem]:
    """Return the packages that a folder's requirements.txt asks for, and that are not here, or in other versions.

    Options (``-r``, ``-e``, ``--hash``) and addresses are passed over: what they ask for is not known without pip.
    """
    # A model process checks nothing, and its interpreter may not have the package.
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415

    file = place / FILE
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        return [Problem(str(file), f"cannot be read: {error}", "correct or remove it: no server needs it")]
    found = []
    for number, line in enumerate(lines, 1):
        text = line.partition(" #")[0].partition(" --")[0].strip().removesuffix("\\").strip()
        if not text or text.startswith(("#", "-")) or "://" in text:
            continue
        try:
            message = _fault(Requirement(text))
        except InvalidRequirement as error:
            found.append(
                Problem(f"{file}:{number}", f"is no requirement: {str(error).splitlines()[0]}", "correct this line")
            )
            continue
        if message:
            remedy = (
                f"the server installs nothing: pip install -r {file} where it runs, or dl-inference serve"
                " --make-environments"
            )
            found.append(Problem(f"{file}:{number}", message, remedy))
    return found


def _fault(requirement: Requirement) -> str | None:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return None
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"asks for {requirement.name}, which is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"asks for {requirement.name}{requirement.specifier}, and {version} is installed"
    return None
