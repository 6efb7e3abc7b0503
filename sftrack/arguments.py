"""What our command lines share: how they speak, converters of values, and commands with commands below them (`bench`, `weights`)."""

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def say(text: str, *, stdout: bool = False) -> None:
    """The one place that writes to the user: a line on stderr, or on stdout for the result of the run."""
    stream = sys.stdout if stdout else sys.stderr
    with contextlib.suppress(BrokenPipeError):
        stream.write(text + "\n")
        stream.flush()


def a_text(text: str) -> str:
    """Converter for argparse: not empty, as what a script passes for an unset variable would be."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a value, got an empty text")
    return text


def a_path(text: str) -> Path:
    """Converter for argparse: a path on this machine, not empty; `~` is the user's folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    if "://" in text:
        raise argparse.ArgumentTypeError(f"expected a path on this machine, got the address '{text}'; copy what is there to a folder first")
    return Path(text).expanduser()


def at_least(least: int) -> Callable[[str], int]:
    """Converter for argparse: a whole number of at least `least`."""

    def convert(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got '{text}'")
        return int(text)

    return convert


class Subcommands:
    """Adds a command to the parser of `sftrack`, and then those below it."""

    def __init__(self, commands: "argparse._SubParsersAction[Any]", name: str, *, text: str, description: str, examples: str) -> None:
        """`text` is the line in the list of commands; `examples` stands below the help as it is written."""
        command = commands.add_parser(
            name,
            help=text,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._actions = command.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=type(command))

    def add(self, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        """One of them, whose flags are still to be added; `run` gets the parsed flags and returns the exit code."""
        description = text[0].upper() + text[1:] + "."
        parser: argparse.ArgumentParser = self._actions.add_parser(name, help=text, description=description, allow_abbrev=False)
        parser.add_argument("--debug", action="store_true", help="say everything, with the traceback of an error")
        parser.set_defaults(run=run, verbose=False)
        return parser
