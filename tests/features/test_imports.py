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


def test_feast_comes_without_torch_and_as_it_was_written() -> None:
    """Rewritten by typeguard, its methods would name ``check_argument_types_internal``; tensors still work."""
    program = (
        "import sys, features.state_keeper, feast; "
        "print('torch' in sys.modules, feast.Entity.__init__.__code__.co_names); "
        "from feast.online_response import get_torch; print(get_torch().ones(2).tolist())"
    )
    spoken = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    first, second = spoken.stdout.splitlines()
    assert first.startswith("False (")
    assert "check_argument_types" not in first
    assert second == "[1.0, 1.0]"
