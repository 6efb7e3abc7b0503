"""`sftrack weights list|fetch|verify|convert|add`."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sftrack.arguments import Subcommands, a_path, say
from sftrack.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from .registry import WeightsFile

_MIB = 2**20
_EXAMPLES = """\
examples:
  %(prog)s list                                 what there is, and what is here
  %(prog)s fetch nanotrack-v3                   or several names, or --preset nano
  %(prog)s add ~/Downloads/model.pth --name siamban
  %(prog)s verify                               hash every file that is here
  %(prog)s convert atom_default.pth             as safetensors, with the hash of the original

Files lie in the folder that SFTRACK_WEIGHTS names, else in the user's cache (docs/weights.md).
"""


def add_weights_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `weights` and its subcommands to the parser of `sftrack`; each sets `run`, which returns the exit code."""
    weights = Subcommands(
        commands,
        "weights",
        text="list, fetch and check the weights of trackers",
        description="List, fetch and check the weights of trackers.",
        examples=_EXAMPLES,
    )
    weights.add("list", _list, "show all registered weights and which are here")
    fetch = weights.add("fetch", _fetch, "download weights and check them; a broken transfer is taken up again")
    fetch.add_argument("names", nargs="*", metavar="NAME", help="see `sftrack weights list`")
    fetch.add_argument("--preset", metavar="PRESET", help="everything that this preset needs")
    fetch.add_argument("--again", action="store_true", help="replace files that are here")
    verify = weights.add("verify", _verify, "compare the hash of each file that is here with the published one, or with that on first use")
    verify.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all that are here)")
    convert = weights.add("convert", _convert, "write a checkpoint as safetensors, with the hash of the original in its metadata")
    convert.add_argument("file", metavar="FILE", type=a_path)
    convert.add_argument("--out", metavar="FILE", type=a_path, help="default: beside the original")
    add = weights.add("add", _add, "put a file that was downloaded by hand where trackers find it")
    add.add_argument("file", metavar="FILE", type=a_path)
    add.add_argument("--name", metavar="NAME", help="whose weights they are (default: by hash, file name or tensors)")


def _list(_args: argparse.Namespace) -> int:
    from . import registry

    rows = [("NAME", "HERE", "MiB", "PRESETS", "LICENCE", "FROM")]
    for entry in registry.entries().values():
        path = registry.path_of(entry)
        here = "no" if path is None else "yes" if path.name == entry.file else "converted"
        size = path.stat().st_size if path is not None else entry.size
        mib = "?" if size is None else f"{size / _MIB:.1f}"
        rows.append((entry.name, here, mib, " ".join(entry.presets) or "-", entry.licence, entry.page))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        say("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]), stdout=True)
    say(f"folder: {registry.folder()}", stdout=True)
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from . import registry
    from .fetch import fetch

    wanted = [registry.find(name) for name in args.names]
    if args.preset is not None:
        needed = registry.of_preset(args.preset)
        if not needed:
            known = ", ".join(sorted({preset for entry in registry.entries().values() for preset in entry.presets}))
            raise ConfigError(f"expected a preset that needs weights ({known}), got '{args.preset}'")
        wanted += needed
    if not wanted:
        raise ConfigError("expected names of weights to fetch (see `sftrack weights list`) or --preset, got none")

    def fetch_one(entry: "WeightsFile") -> str:
        there = registry.path_of(entry)
        if there is None or args.again:
            say(f"{entry.name}: fetching {entry.page}; licence: {entry.licence}")
        return f"{fetch(entry, again=args.again)}{' (was here)' if there and not args.again else ''}"

    return _for_each(list(dict.fromkeys(wanted)), fetch_one)


def _verify(args: argparse.Namespace) -> int:
    from . import registry

    wanted = [registry.find(name) for name in args.names] or [entry for entry in registry.entries().values() if registry.path_of(entry)]
    if not wanted:
        say(f"no weights in {registry.folder()}", stdout=True)

    def verify_one(entry: "WeightsFile") -> str:
        path = registry.locate(entry.name)
        digest = registry.verify(entry, path, again=True)
        compared = "as published" if digest == entry.sha256 else "as on first use"
        return f"{path} {compared}, sha256 {digest}"

    return _for_each(wanted, verify_one)


def _for_each(wanted: "list[WeightsFile]", act: "Callable[[WeightsFile], str]") -> int:
    """Do something with each, to the last, with a line each; the exit code is that of the worst."""
    worst = 0
    for entry in wanted:
        try:
            say(f"{entry.name}: {act(entry)}", stdout=True)
        except WeightsError as error:
            say("error: " + " ".join(str(error).split()))
            worst = error.exit_code
    return worst


def _convert(args: argparse.Namespace) -> int:
    from .convert import convert

    say(str(convert(args.file, args.out)), stdout=True)
    return 0


def _add(args: argparse.Namespace) -> int:
    from .convert import add

    entry, path = add(args.file, args.name)
    say(f"{entry.name}: {path}", stdout=True)
    return 0


__all__ = ["add_weights_command"]
