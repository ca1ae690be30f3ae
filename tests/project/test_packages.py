"""pyproject.toml declares every package that somebody may expect here, and docs/packages.md says what each is for.

The fuzzer, which is compiled apart, is locked to the same packages as our crates.
"""

from __future__ import annotations

import re
import tomllib

import pytest
from fixtures.processes import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[Requirement]] = {
    "": [Requirement(each) for each in PROJECT["dependencies"]],
    **{name: [Requirement(each) for each in some] for name, some in PROJECT["optional-dependencies"].items()},
}
NAMED = {
    "grpcio": "",
    "protobuf": "",
    "kazoo": "zookeeper",
    "torch": "torch",
    "seldon-core": "seldon",
    "tensorflow": "tensorflow",
    "tensorflow-serving-api": "tensorflow-serving",
}
PAGE = (ROOT / "docs" / "packages.md").read_text()
ROWS = dict(re.findall(r"^\| (?:`([a-z-]+)`|\(none\)) \| (.+?) \|$", PAGE, re.MULTILINE))


def wanted(extra: str, package: str) -> SpecifierSet:
    return next(each.specifier for each in EXTRAS[extra] if each.name == package)


@pytest.mark.parametrize("package", NAMED)
def test_every_package_that_was_asked_for_is_declared(package: str) -> None:
    assert [extra for extra, some in EXTRAS.items() if package in [each.name for each in some]] == [NAMED[package]]


def test_the_page_has_a_row_for_each_extra_with_its_packages() -> None:
    listed = {extra: re.findall(r"`([a-z-]+)`", row.split(" | ")[0]) for extra, row in ROWS.items()}
    assert listed == {extra: [each.name for each in some] for extra, some in EXTRAS.items()}


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_versions_on_the_page_are_ones_that_the_extra_takes(extra: str) -> None:
    got = re.findall(r"([a-z-]+) (\d[\d.]*\d)", ROWS[extra].split(" | ")[2])
    assert got
    for package, version in got:
        asked = [each.specifier for each in (*EXTRAS[""], *EXTRAS[extra]) if each.name == package]
        assert all(version in each for each in asked), package


def test_an_extra_never_goes_back_to_a_release_that_is_not_tested() -> None:
    assert not [each.name for some in EXTRAS.values() for each in some if not each.specifier]
    assert "0.5.0.2" not in wanted("seldon", "seldon-core")  # what an extra without bounds became


@pytest.mark.parametrize("licensed_otherwise", ["1.18.2", "1.19.0"])
def test_the_extra_brings_no_seldon_core_under_another_licence(licensed_otherwise: str) -> None:
    assert licensed_otherwise not in wanted("seldon", "seldon-core")


@pytest.mark.parametrize(
    ("file", "extras"), [("component", ("seldon", "torch")), ("seldon", ("seldon",)), ("tfs", ("tensorflow-serving",))]
)
def test_what_is_tested_is_what_the_extra_brings(file: str, extras: tuple[str, ...]) -> None:
    lines = (ROOT / "tests" / "peers" / f"{file}.txt").read_text().splitlines()
    pins = {each.name: each.specifier for each in (Requirement(line) for line in lines if line and line[0] != "#")}
    for extra in extras:
        for each in EXTRAS[extra]:
            exact = [pin.version for pin in pins[each.name] if pin.operator == "=="]
            assert all(version in each.specifier for version in exact), each.name


FUZZER = ROOT / "dataplane" / "crates" / "fuzz" / "libfuzzer"
LOCKED = {each["name"]: each for each in tomllib.loads((FUZZER / "Cargo.lock").read_text())["package"]}
OURS = [name for name, each in LOCKED.items() if "source" not in each]


@pytest.mark.parametrize("name", OURS)
def test_the_fuzzer_is_locked_to_what_each_crate_needs(name: str) -> None:
    """Otherwise `make fuzz` does not compile; mended by `cargo update --workspace` in its folder."""
    apart = {"dl-inference-libfuzzer": FUZZER}
    folder = apart.get(name, ROOT / "dataplane" / "crates" / name.removeprefix("dl-inference-"))
    manifest = tomllib.loads((folder / "Cargo.toml").read_text())
    needed = manifest.get("dependencies", {}) | manifest.get("build-dependencies", {})
    assert {each.split()[0] for each in LOCKED[name].get("dependencies", [])} == set(needed)
