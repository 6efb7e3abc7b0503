"""`python run_tracker.py ...` is `sftrack track ...`, from a plain clone, whatever the current folder is."""

import sys

from sftrack.cli import main

if __name__ == "__main__":
    sys.exit(main(["track", *sys.argv[1:]], prog="python run_tracker.py"))
