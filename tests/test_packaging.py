"""What the wheel and a fresh install depend on, checked on the files of the checkout."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = ["sftrack", "gui", "trackers", "weights"]
IMPORT_NAMES = {"opencv-contrib-python-headless": "cv2", "scikit-image": "skimage", "pillow": "PIL", "PyQt5": "PyQt5", "vot-trax": "trax"}


def distribution_name(requirement: str) -> str:
    return Requirement(requirement).name


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {normal(name): version for name, version in pairs}


def test_every_folder_with_an_init_file_is_packaged() -> None:
    folders = (path.parent.relative_to(ROOT) for source in SOURCES for path in (ROOT / source).rglob("__init__.py"))
    found = {".".join(folder.parts) if folder.parts[0] == "sftrack" else ".".join(("sftrack", *folder.parts)) for folder in folders}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_every_python_file_lies_in_a_package() -> None:
    orphans = [path for source in SOURCES for path in (ROOT / source).rglob("*.py") if not (path.parent / "__init__.py").exists()]
    assert orphans == []


def test_every_data_file_is_packaged() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    kept = {path for package, globs in patterns.items() for glob in globs for path in (ROOT / package_folder(package)).glob(glob)}
    ignored = {".py", ".pyc"}
    data = [
        path
        for source in SOURCES
        for path in (ROOT / source).rglob("*")
        if path.is_file() and path.suffix not in ignored and "__pycache__" not in path.parts
    ]
    assert [str(path.relative_to(ROOT)) for path in data if path not in kept] == []


def package_folder(package: str) -> Path:
    parts = package.split(".")
    return Path(*parts) if parts[1:2] == [] or (ROOT / Path(*parts)).is_dir() else Path(*parts[1:])


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    required = {distribution_name(text) for text in PROJECT["project"]["dependencies"]}
    extras = PROJECT["project"]["optional-dependencies"]
    optional = {distribution_name(text) for text in (*extras["gui"], *extras["distributed"])}
    declared = {IMPORT_NAMES.get(name, name) for name in required | optional}
    used: set[str] = set()
    for path in (path for source in SOURCES for path in (ROOT / source).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                used |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                used.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("find_spec") and isinstance(node.args[0], ast.Constant):
                used.add(str(node.args[0].value).split(".")[0])  # its files are read without importing it
    third_party = used - set(sys.stdlib_module_names) - {"sftrack"}
    texts = [text for extra in ("bench", "toolkits") for text in PROJECT["project"]["optional-dependencies"][extra]]
    assert declared <= third_party <= declared | {IMPORT_NAMES.get(name, name) for name in map(distribution_name, texts)}


@pytest.mark.parametrize("extra", ["", "gui", "bench", "test", "dev"])
def test_every_dependency_is_pinned_for_a_fresh_install(extra: str) -> None:
    texts = PROJECT["project"]["optional-dependencies"][extra] if extra else PROJECT["project"]["dependencies"]
    names = {normal(distribution_name(text)) for text in texts} - {"sftrack"}
    assert names - set(pins()) == set()


def test_dependencies_of_dependencies_are_pinned_too() -> None:
    pinned = pins()
    loose = set()
    for name in pinned:
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # an extra that is not installed here
            continue
        loose |= {normal(distribution_name(text)) for text in requirements if ";" not in text}
    assert loose - set(pinned) == set()


def test_pins_lie_within_the_stated_ranges() -> None:
    pinned = pins()
    extras = PROJECT["project"]["optional-dependencies"]
    for text in [*PROJECT["project"]["dependencies"], *extras["gui"], *extras["test"], *extras["dev"]]:
        requirement = Requirement(text)
        if requirement.name != "sftrack":
            assert requirement.specifier.contains(pinned[normal(requirement.name)]), text


def test_torch_is_pinned_to_the_release_that_installs_without_a_gpu() -> None:
    assert pins()["torch"] == "2.13.0"
