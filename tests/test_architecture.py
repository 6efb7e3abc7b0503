"""The arrows between the parts: who may import whom, and what a library does not do."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

CORE = sorted((ROOT / "sftrack").rglob("*.py"))
EVERYTHING = sorted(path for folder in ("sftrack", "gui", "trackers", "weights") for path in (ROOT / folder).rglob("*.py"))
MEETING_PLACES = {"sftrack/cli.py", "sftrack/presets.py", "sftrack/training", "sftrack/benchmark"}
"""The only files of the core that may know trackers (inside functions); cli.py also knows the viewer."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> Iterator[str]:
    """Absolute names of the modules and objects that the nodes below import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_level(tree: ast.Module) -> ast.Module:
    """The module without its functions' bodies and without what only type checkers read."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.dump(node.test) else self.generic_visit(node)

    return Strip().visit(tree)


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_knows_no_qt_and_no_tracker(path: Path) -> None:
    tree = ast.parse(path.read_text())
    everywhere = set(imports(tree))
    assert not [name for name in everywhere if re.match(r"PyQt|PySide|qtpy", name)]
    outer = [name for name in everywhere if name.startswith(("sftrack.trackers", "sftrack.gui"))]
    if outer:
        assert any(name_of(path).startswith(place) for place in MEETING_PLACES), f"imports {outer}"
    at_import = set(imports(module_level(ast.parse(path.read_text()))))
    if not name_of(path).startswith("sftrack/training"):
        assert not [name for name in at_import if name.startswith(("sftrack.trackers", "sftrack.gui"))]


@pytest.mark.parametrize("path", [path for path in EVERYTHING if not name_of(path).startswith("sftrack/")], ids=name_of)
def test_gui_and_trackers_know_only_the_core(path: Path) -> None:
    own = name_of(path).split("/")[0]
    others = {"gui", "trackers"} - {own}
    bad = [name for name in imports(ast.parse(path.read_text())) if name.split(".")[0] in (own, *others)]
    bad += [name for name in imports(ast.parse(path.read_text())) if re.match(rf"sftrack\.({'|'.join(others)}|cli)\b", name)]
    assert bad == []


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_no_device_is_chosen_behind_the_users_back(path: Path) -> None:
    assert not re.search(r"\.cuda\(|current_device\(|set_device\(", path.read_text())


@pytest.mark.parametrize("path", [path for path in EVERYTHING if path.name != "__main__.py"], ids=name_of)
def test_the_library_prints_nothing_and_never_ends_the_process(path: Path) -> None:
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    assert calls & {"print", "sys.exit", "exit", "quit", "os.system", "os._exit"} == set()


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_no_file_grows_too_long_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_the_command_line_loads_nothing_heavy_before_it_is_needed() -> None:
    code = (
        "import sys; from sftrack.cli import main; main(['track', '--help']); main(['track', '--video']);"
        "sys.exit(sorted({'torch', 'cv2', 'PyQt5', 'av', 'skimage', 'scipy', 'numpy'} & set(sys.modules)).__repr__().strip('[]'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[1:] == [""], done.stderr
