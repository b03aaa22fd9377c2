"""The command `vpr_node`."""

from __future__ import annotations

import signal
import sys

from vpr_ros.imports import IMPORT_FAILURES, import_failure


def main() -> None:
    """Run the node. Ctrl-C during the imports ends it like any program; afterwards rclpy handles it.

    What does not import is one line, and exit status 1.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from vpr_ros.ros.vpr_node import main as run
    except IMPORT_FAILURES as error:
        sys.exit(f"vpr_node: {import_failure(error)}")
    run()


if __name__ == "__main__":
    main()
