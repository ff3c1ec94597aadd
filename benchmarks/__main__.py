"""`python -m benchmarks`: see ``benchmarks.command``."""

import sys

from attune.errors import AttuneError
from benchmarks.command import app

if __name__ == "__main__":
    try:
        app(prog_name="python -m benchmarks")
    except AttuneError as error:
        sys.exit(f"benchmarks: {error}")
