"""What `attune export` does: the files, and what they hold."""

from contextlib import closing
from pathlib import Path

from attune import event_log
from attune.event_log import EventLog
from attune.settings import Settings
from features import export as exporting
from infra.commands import output
from infra.commands.output import Progress


def export(
    folder: Path, format: exporting.Format, after: int, upto: int | None, types: list[str], as_json: bool
) -> None:
    """Write the files and show how many events of each type they hold."""
    settings = Settings()
    event_log.prepare(settings.log_url)
    with closing(EventLog(settings.log_url)) as log, Progress(quiet=as_json).stage(f"export to {folder}"):
        counts = exporting.export(log, folder, format, after, upto, types or None)
    if as_json:
        output.print_json({"folder": str(folder.resolve()), "format": format, "events": counts})
        return
    if not counts:
        output.console().print(f"no event lies there: {folder} is empty", markup=False)
        return
    rows = [[f"{folder / name}.{format}", count] for name, count in counts.items()]
    output.table(["file", "events"], rows, numbers=[1])
    if "interaction" in counts and format != "jsonl":
        file = folder / f"interaction.{format}"
        output.say_next(f"`attune import tabular --interactions {file}` reads it into another ATTUNE_VAR")
