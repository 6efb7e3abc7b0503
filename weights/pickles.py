"""What a pickle names, found by reading its instructions without following them: nothing is looked up, imported or called.

A pickle is a program for a machine with a stack. Here its stack is followed with labels in place of values, just far enough to tell which
names are called and which of the results are then filled with items. A pickle may be written to mislead this; whoever reads it afterwards
must not trust what is found.
"""

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

MOST_NAMES = 1000
"""More are refused: training states name some tens, and PyTorch takes longer for each the more there are."""


@dataclass
class Survey:
    """What is in a pickle.

    Attributes:
        protocol: the pickle protocol that it says it is written with, or that its instructions need.
        names: every `module.name`, and what its results are filled as: a `dict`, a `list`, or nothing (None). What Python 3 calls otherwise
            than Python 2, whose names PyTorch writes, is there under both names.
    """

    protocol: int = 0
    names: dict[str, type | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Label:
    """On the stack: what has a name, or what calling it gave."""

    names: tuple[str, ...]
    called: bool = False


_MARK = _Label(("(mark)",))
_REMEMBER, _RECALL = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
_CALL = ("REDUCE", "NEWOBJ")
_CHANGE = {"SETITEM": dict, "SETITEMS": dict, "APPEND": list, "APPENDS": list, "BUILD": None}
"""Instructions that leave the object on the stack that they change, and what those that put items into it take it for."""


def survey(file: IO[bytes], count: int = 1) -> Survey:
    """Read `count` pickles that follow each other.

    Raises:
        Exception: damaged pickles; `pickletools` has many ways to say so.
    """
    found = Survey()
    for _ in range(count):
        _read_one(file, found)
    return found


def _read_one(file: IO[bytes], found: Survey) -> None:
    stack: list[_Label | None] = []
    memo: dict[int, _Label | None] = {}
    argument: Any  # a number or a text, as the instruction has it
    for instruction, argument, _place in pickletools.genops(file):
        found.protocol = max(found.protocol, argument if instruction.name == "PROTO" else instruction.proto)
        if instruction.name in _REMEMBER:
            memo[argument] = stack[-1]
            continue
        if instruction.name in _RECALL:
            stack.append(memo.get(argument))  # protocol 4 remembers by an instruction that is not followed here
            continue
        target = _take(stack, instruction.stack_before)
        if instruction.name == "GLOBAL":
            label = _Label(_names_of(argument))
            found.names.update((name, found.names.get(name)) for name in label.names)
            if len(found.names) > MOST_NAMES:
                raise ValueError(f"it names more than {MOST_NAMES} classes and functions")
            stack.append(label)
        elif instruction.name in _CALL:
            stack.append(_Label(target.names, called=True) if target else None)
        elif instruction.name in _CHANGE:
            filled_as = _CHANGE[instruction.name]
            if filled_as and target and target.called:
                found.names.update((name, filled_as) for name in target.names)
            stack.append(target)
        else:
            stack.extend(_MARK if item is pickletools.markobject else None for item in instruction.stack_after)


def _take(stack: list[_Label | None], wanted: Sequence[pickletools.StackObject]) -> _Label | None:
    """Remove what an instruction uses up; the lowest of it is what the instruction calls or changes."""
    below_mark = len(wanted)
    if pickletools.markobject in wanted:
        below_mark = wanted.index(pickletools.markobject)
        while stack.pop() is not _MARK:
            pass
    target = None
    for _ in range(below_mark):
        target = stack.pop()
    return target


def _names_of(argument: str) -> tuple[str, ...]:
    """`module.name` as it is written, and in Python 3 where that differs: PyTorch translates fewer names than Python does."""
    if not argument.isprintable():
        raise ValueError(f"no name in Python: {argument!r:.60}")
    module, name = argument.split(" ", 1)
    translated = NAME_MAPPING.get((module, name)) or (IMPORT_MAPPING.get(module, module), name)
    return tuple({f"{module}.{name}": None, ".".join(translated): None})


__all__ = ["MOST_NAMES", "Survey", "survey"]
