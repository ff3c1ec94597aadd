#!/usr/bin/env bash
# typer 0.29.2 beside click 8.5.1: a mistyped option is no error of click's.
#
# Guess before looking: a typer application is a click command, so a caller that runs it with standalone_mode=False gets
# click's exceptions, and `except click.ClickException` catches a mistyped option.
# Seen: typer carries a click of its own. The error is of typer._click.exceptions, which shares no class with the click
# that is installed beside it, and goes past the handler.
# Why it matters: whoever wraps a typer command, for tests or for a shell of their own, and handles click's errors shows
# a traceback for a typing error.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet typer==0.29.2 click==8.5.1
"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

import click
import typer

app = typer.Typer()


@app.command()
def greet(name: str = "you") -> None:
    print(name)


try:
    app(["--nmae", "me"], standalone_mode=False)
except Exception as error:
    kind, caught = type(error), isinstance(error, click.ClickException)
print(f"typer {version('typer')}, click {version('click')}: {kind.__module__}.{kind.__name__}, click's own: {caught}")
assert kind.__name__ == "NoSuchOption" and not caught, "typer raises click's own errors again: look again"
assert not any(one.__module__.startswith("click.") for one in kind.__mro__)
PY
# Output seen: typer 0.29.2, click 8.5.1: typer._click.exceptions.NoSuchOption, click's own: False
