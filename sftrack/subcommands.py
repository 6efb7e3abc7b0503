"""A command of `sftrack` with commands below it, as `bench` and `weights` are."""

import argparse
from collections.abc import Callable
from typing import Any


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
