"""The command `vpr_node`."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the node. Ctrl-C during the imports ends it like any program; afterwards rclpy handles it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from vpr_ros.ros.vpr_node import main as run

    run()


if __name__ == "__main__":
    main()
