"""Makes the virtual environment with the locked versions; needs nothing but Python's standard library.

    python3 infra/install.py .venv

Whatever pip is told about where packages lie (``pip config``: find-links, index addresses) is passed on to uv,
which installs the lock in seconds; where uv cannot be had or fails, pip itself does the work.
A stamp makes a second call free as long as neither the lock nor pyproject.toml changed.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
IN_PLACE = ["--no-deps", "--no-build-isolation", "--editable", ROOT]


def main() -> int:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        here = sys.version.split()[0]
        return fail(f"attune runs on Python 3.11 to 3.13, this is {here}; try `make PYTHON=python3.11`")
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".venv").absolute()
    stamp = folder / "installed"
    wanted = hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet"]  # slower than uv, and at home everywhere
    if not install_with_uv(python) and not (run([*pip, "-r", LOCK]) and run([*pip, *IN_PLACE])):
        return fail("the packages could not be installed; see the messages above")
    stamp.write_text(wanted)
    return 0


def install_with_uv(python: Path) -> bool:
    """Install the lock, then this repository in place; False when any step failed."""
    uv = python.with_name("uv")
    if not uv.exists() and not run([python, "-m", "pip", "install", "--quiet", "uv"]):
        return False
    # Whatever is compiled once here starts faster in every process, also where Python may not write bytecode.
    install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
    environment = dict(os.environ, UV_LINK_MODE="copy", **uv_environment(python))
    return run([*install, "-r", LOCK], environment) and run([*install, *IN_PLACE], environment)


def uv_environment(python: Path) -> dict[str, str]:
    """pip's settings under uv's names: the environment wins over pip's files; what the user set for uv itself stays."""
    names = {"find-links": "UV_FIND_LINKS", "index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}
    listing = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    options = {}
    for line in sorted(listing.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        options[name.split(".")[-1]] = value.strip("'\"")
    variables = {names[option]: value for option, value in options.items() if option in names and value}
    if "UV_FIND_LINKS" in variables:
        variables["UV_FIND_LINKS"] = ",".join(variables["UV_FIND_LINKS"].split())
    return {name: value for name, value in variables.items() if name not in os.environ}


def run(command: list[object], environment: dict[str, str] | None = None) -> bool:
    return subprocess.run([str(part) for part in command], env=environment, check=False).returncode == 0


def fail(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
