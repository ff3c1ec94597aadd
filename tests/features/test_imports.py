import subprocess
import sys
from pathlib import Path

LIGHT = "importer, labels, lake, logged_slates, stats, training_set, export, sources.movielens, sources.tabular"


def test_what_needs_no_feast_does_not_pay_for_it() -> None:
    modules = ", ".join(f"features.{name.strip()}" for name in LIGHT.split(","))
    program = f"import sys, {modules}; print(*(set(sys.modules) & {{'feast', 'great_expectations', 'torch'}}))"
    spoken = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert spoken.stdout.strip() == ""
