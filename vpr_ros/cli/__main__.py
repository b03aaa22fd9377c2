"""`python -m vpr_ros.cli`."""

from vpr_ros.cli import main

if __name__ == "__main__":
    main()
