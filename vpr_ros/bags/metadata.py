"""What a bag's `metadata.yaml` announces: names and counts, of any version that has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vpr_ros.bags.compressed import is_compressed
from vpr_ros.errors import SourceError
from vpr_ros.parameter_files import MAX_BYTES, parse_yaml
from vpr_ros.printable import on_one_line


@dataclass(frozen=True, slots=True)
class Metadata:
    files: tuple[str, ...]
    """Names of the bag's files without the suffix of compression, in their order."""
    messages: int | None
    """Of all files; None where it is not known."""

    @classmethod
    def read(cls, path: Path) -> Metadata:
        """Raises SourceError where it names no files."""
        try:
            if not path.is_file() or path.stat().st_size > MAX_BYTES:
                raise ValueError("is no regular file of a sensible size")
            information = parse_yaml(path.read_bytes())["rosbag2_bagfile_information"]
            names = [_plain_name(name) for name in information["relative_file_paths"]]
        except Exception as error:  # whatever broken YAML and foreign structures cause
            reason = on_one_line(error).rstrip(".:")
            raise SourceError(f"metadata.yaml cannot be read ({type(error).__name__}: {reason})") from None
        messages = information.get("message_count")
        return cls(tuple(dict.fromkeys(names)), messages if isinstance(messages, int) else None)

    def missing(self, present: Sequence[Path]) -> list[str]:
        names = {_plain_name(path.name) for path in present}
        return [name for name in self.files if name not in names]

    def lists(self, present: Sequence[Path]) -> bool:
        """Whether all of `present` are named in it."""
        return {_plain_name(path.name) for path in present} <= set(self.files)

    def ordered(self, present: Sequence[Path]) -> list[Path]:
        """Those of `present` that are named in it, in its order."""
        by_name = {_plain_name(path.name): path for path in present}
        return [by_name[name] for name in self.files if name in by_name]


def _plain_name(name: Any) -> str:
    """Of a file that may be named with a folder, which is not where it is now, and may be compressed meanwhile."""
    base = PurePosixPath(str(name)).name
    return base.removesuffix(PurePosixPath(base).suffix) if is_compressed(Path(base)) else base
