"""`python -m benchmarks NAME --out FILE`: measures, and writes what it found."""

import typer

from benchmarks.command import bench

if __name__ == "__main__":
    typer.run(bench)
