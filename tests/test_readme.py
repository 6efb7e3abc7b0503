"""The README's promises: its commands parse, its loop runs, its links lead somewhere."""

import re
import shlex
import subprocess

import pytest

from sftrack.cli import build_parser
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
SHELL = [text for language, text in BLOCKS if language == "bash"]
PYTHON = [text for language, text in BLOCKS if language == "python"]


def test_the_first_two_blocks_are_the_two_commands() -> None:
    install, tests = SHELL[0].strip(), SHELL[1].strip()
    for command in (install, tests):
        assert "\n" not in command
        assert command.startswith("python3 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt -e ")
    assert install.endswith("&& python run_tracker.py --demo")
    assert tests.endswith("&& pytest")


@pytest.mark.parametrize("text", SHELL)
def test_shell_blocks_are_shell(text: str) -> None:
    subprocess.run(["bash", "-n", "-c", text], check=True)


@pytest.mark.parametrize(
    "line",
    [line for text in [*SHELL, (ROOT / "docs" / "cli.md").read_text()] for line in re.findall(r"python run_tracker\.py -[^\n`]*", text)],
)
def test_every_command_line_shown_is_accepted(line: str) -> None:
    words = shlex.split(line, comments=True)[2:]
    if "--help" not in words:
        build_parser().parse_args(["track", *words])


def test_the_library_loop_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (loop,) = PYTHON
    assert len(loop.strip().splitlines()) <= 12
    short = loop.replace("open_source(demo=True)", "open_source(demo=True, max_frames=4)")
    assert short != loop
    exec(compile(short, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert all(line.endswith(("tracking", "uncertain", "lost")) for line in lines)


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_links_lead_to_files(path) -> None:  # noqa: ANN001
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []
