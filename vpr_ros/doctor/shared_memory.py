"""What Fast DDS left in /dev/shm: a process that is killed leaves its segment, 35 MB with config/fastdds.xml, and nothing removes it."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from vpr_ros.machine import Machine

_NAME = re.compile(r"(?:sem\.)?(fast(?:rtps|dds)_(?:port)?[0-9a-f]+)(?:_el|_sl|_mutex)?")
"""A segment or port of Fast DDS, its locks and its semaphore: they share what is between."""
_SETTLED_S = 5.0
"""A process that starts makes its files before it maps and locks them."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """The files of a segment or port that nobody uses."""

    files: tuple[Path, ...]
    size: int
    """What they take, in bytes."""


def leftovers(machine: Machine) -> list[Leftover]:
    """What was left by processes of this user (of every user, for root) that no process maps, nor holds a lock of.

    Files of other users are not judged, for who maps them cannot be seen. A process in another container that shares
    this memory cannot be seen either, but its locks can.
    """
    groups = _groups(machine)
    mapped = _mapped_groups(machine) if groups else set()
    return [
        Leftover(tuple(files), sum(file.lstat().st_blocks * 512 for file in files))
        for name, files in groups.items()
        if name not in mapped and all(map(_is_ours_and_settled, files)) and _is_unlocked(files)
    ]


def other_users(machine: Machine) -> list[str]:
    """The names of other users whose processes use Fast DDS here, as far as the locks of their files show."""
    owners = set()
    for files in _groups(machine).values():
        with suppress(OSError):
            owner = files[0].lstat().st_uid
            if owner != os.geteuid() and _is_in_use(files):
                owners.add(owner)
    return [_user_name(owner) for owner in sorted(owners)]


def remove(found: Sequence[Leftover]) -> int:
    """Remove what nobody has begun to use meanwhile; how many bytes."""
    freed = 0
    for leftover in found:
        if (locks := _locked(leftover.files)) is None:
            continue
        with locks:  # while they are held, no process takes the files for its own
            for file in leftover.files:
                with suppress(FileNotFoundError):
                    file.unlink()
        freed += leftover.size
    return freed


def _groups(machine: Machine) -> dict[str, list[Path]]:
    """The files of each segment or port, by its name."""
    groups: dict[str, list[Path]] = defaultdict(list)
    with suppress(OSError):
        for path in sorted(machine.at("dev/shm").iterdir()):
            if found := _NAME.fullmatch(path.name):
                groups[found[1]].append(path)
    return groups


def _is_in_use(files: Sequence[Path]) -> bool:
    """Whether a process holds a lock of one of them; what cannot be opened counts as unused."""
    for file in files:
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            continue
        finally:
            os.close(descriptor)
    return False


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _is_ours_and_settled(file: Path) -> bool:
    try:
        found = file.lstat()
    except OSError:
        return False
    is_ours = os.geteuid() in (0, found.st_uid)
    return is_ours and time.time() - found.st_mtime > _SETTLED_S


def _mapped_groups(machine: Machine) -> set[str]:
    """Of all processes that can be looked at, which are those of this user (all, for root)."""
    return {
        found[1]
        for maps in machine.at("proc").glob("[0-9]*/maps")
        for line in machine.read(maps).splitlines()
        if (found := _NAME.fullmatch(_file_name(line)))
    }


def _file_name(line: str) -> str:
    """Of `7f... rw-s 00000000 00:19 42   /dev/shm/fastdds_0123456789abcdef`."""
    return line.rpartition("/")[2].removesuffix(" (deleted)")


def _is_unlocked(files: Sequence[Path]) -> bool:
    locks = _locked(files)
    if locks is not None:
        locks.close()
    return locks is not None


def _locked(files: Sequence[Path]) -> ExitStack | None:
    """All of the files' locks, to be given back by closing it; None where a process holds one, or a file has gone."""
    with ExitStack() as stack:
        for file in files:
            try:
                descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return None
        return stack.pop_all()
    return None
