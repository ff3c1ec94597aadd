"""The only caller of Great Expectations: holds a batch of the lake against its suites and writes its Data Docs.

The row rules turned bad rows away; what is checked here is that nothing got past them (another writer, a damaged file,
a broken migration), and that the batch is what one expects of it. Critical expectations stop training, warnings are
reported.
"""

import gc
import math
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
import pyarrow as pa
from great_expectations import expectations as gxe
from great_expectations.core import ExpectationSuite, ValidationDefinition
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context import EphemeralDataContext
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.row_conditions import Column

from attune.clock import DAY, to_datetime, to_iso
from attune.columns import Columns
from attune.event_types import KINDS, RETRACT
from attune.events import TYPES
from attune.row_rules import EARLIEST, FUTURE_LIMIT, ID_LIMIT
from features import data_docs
from features.lake import BEHAVIOUR, SCHEMA

CRITICAL, WARNING = FailureSeverity.CRITICAL, FailureSeverity.WARNING
SITE = "data_docs"
UNKNOWN_ITEM = "unknown_item"
"""The column of the items that the catalogue lacks."""
EXPECTED_ROWS = 100
"""A batch of fewer events is worth a warning: figures over it say little."""
FRESH = DAY
"""How old the latest event of a batch may be, by the time at which it was logged."""
EXAMPLES = 5

COLUMNS = tuple(name for name in SCHEMA.names if name not in (Columns.PAYLOAD, Columns.SLATE_ID))
"""What the suites look at: the columns of ``features.lake.SCHEMA`` that a batch needs."""


@dataclass(frozen=True)
class Finding:
    """An expectation that did not hold: ``unexpected`` counts the rows at fault (None: a property of the whole)."""

    name: str
    column: str | None
    message: str
    unexpected: int | None = None
    examples: tuple[Any, ...] = ()

    def __str__(self) -> str:
        where = f" of {self.unexpected} rows" if self.unexpected else ""
        shown = f", such as {', '.join(map(repr, self.examples))}" if self.examples else ""
        return f"{self.column or 'the batch'}: {self.message}{where and f', not true{where}'}{shown} ({self.name})"


@dataclass(frozen=True)
class Validation:
    """What the suites said; ``docs`` is the page to open."""

    evaluated: int
    docs: Path
    failed: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every critical expectation held."""
        return not self.failed


def validate(
    batch: pa.Table | pd.DataFrame, known_items: Collection[str], now: int, docs_folder: Path, name: str = "batch"
) -> Validation:
    """Hold a batch of the lake (with the columns ``COLUMNS``) against its suites.

    ``known_items`` are the ids that the catalogue holds, ``now`` is the import clock in microseconds. Data Docs go to
    ``docs_folder``, where ``name`` tells the batch, and nothing is written elsewhere. A broken expectation is a
    finding, not an error.
    """
    events = batch.to_pandas() if isinstance(batch, pa.Table) else batch
    docs_folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=docs_folder))
    try:
        context, run = _context(draft), RunIdentifier(re.sub(r"[^\w-]+", "-", name), to_datetime(now))
        outcomes = _run(context, run, "events", events, _of_every_event(now))
        behaviour = events[events[Columns.TYPE].isin(BEHAVIOUR)] if Columns.TYPE in events else events
        if Columns.ITEM_ID in behaviour:
            unknown = ~behaviour[Columns.ITEM_ID].isin(known_items)
            behaviour = behaviour.assign(**{UNKNOWN_ITEM: behaviour[Columns.ITEM_ID].where(unknown, None)})
        if len(behaviour):
            outcomes += _run(context, run, "behaviour", behaviour, _of_behaviour(behaviour))
        context.build_data_docs(site_names=[SITE])
        failed: list[Finding] = []
        warnings: list[Finding] = []
        for outcome in (outcome for outcome in outcomes if not outcome.success):
            critical = FailureSeverity(outcome.expectation_config.severity) == CRITICAL
            (failed if critical else warnings).append(_finding(outcome))
        pages = sorted(page.relative_to(draft) for page in (draft / "validations").rglob("*.html"))
        links = [[page.parts[1], str(page)] for page in pages]
        result = data_docs.Result(name, now, len(events), [*map(str, failed)], [*map(str, warnings)], links)
        return Validation(len(outcomes), data_docs.publish(draft, docs_folder, result), failed, warnings)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        gc.collect()  # a context refers to itself and so outlives its use: batch after batch would stay in memory


def _critical(expectation: Any, column: str, notes: str, **limits: Any) -> gxe.Expectation:
    built: gxe.Expectation = expectation(column=column, severity=CRITICAL, notes=notes, **limits)
    return built


def _of_every_event(now: int) -> Iterator[gxe.Expectation]:
    latest, between = now + FUTURE_LIMIT, gxe.ExpectColumnValuesToBeBetween
    for column in (Columns.POSITION, Columns.EVENT_ID, Columns.TYPE, Columns.LOGGED_AT, Columns.EVENT_TIMESTAMP):
        yield _critical(gxe.ExpectColumnValuesToNotBeNull, column, "every event has one")
    for column in (Columns.POSITION, Columns.LOGGED_AT, Columns.EVENT_TIMESTAMP):
        yield _critical(gxe.ExpectColumnValuesToBeOfType, column, "a whole number", type_="int64")
    for column in (Columns.POSITION, Columns.EVENT_ID):
        yield _critical(gxe.ExpectColumnValuesToBeUnique, column, "no two events share one")
    types = list(TYPES.values())
    yield _critical(gxe.ExpectColumnValuesToBeInSet, Columns.TYPE, f"one of {', '.join(types)}", value_set=types)
    yield _critical(between, Columns.POSITION, "positions count from 1", min_value=1)
    yield _critical(between, Columns.LOGGED_AT, f"logged by {to_iso(latest)}", min_value=0, max_value=latest)
    happened = f"happened between {to_iso(EARLIEST)} and {to_iso(latest)}"
    yield _critical(between, Columns.EVENT_TIMESTAMP, happened, min_value=EARLIEST, max_value=latest)
    yield gxe.ExpectTableRowCountToBeBetween(
        min_value=EXPECTED_ROWS, severity=WARNING, notes=f"at least {EXPECTED_ROWS} events in a batch"
    )
    yield gxe.ExpectColumnMaxToBeBetween(
        column=Columns.LOGGED_AT, min_value=now - FRESH, severity=WARNING,
        notes=f"the latest event was logged after {to_iso(now - FRESH)}",
    )  # fmt: skip


def _of_behaviour(behaviour: pd.DataFrame) -> Iterator[gxe.Expectation]:
    not_null = gxe.ExpectColumnValuesToNotBeNull
    for column in (Columns.USER_ID, Columns.ITEM_ID):
        yield _critical(not_null, column, "all behaviour has one")
        lengths = gxe.ExpectColumnValueLengthsToBeBetween
        yield _critical(lengths, column, f"1 to {ID_LIMIT} characters", min_value=1, max_value=ID_LIMIT)
    yield _critical(not_null, Columns.KIND, "all behaviour has one")
    in_set = gxe.ExpectColumnValuesToBeInSet
    yield _critical(in_set, Columns.KIND, "a kind that the reward table knows", value_set=list(KINDS))
    present = set(behaviour[Columns.KIND].unique()) if Columns.KIND in behaviour else set()
    for kind in (KINDS[name] for name in KINDS if name in present):
        only: dict[str, Any] = {"row_condition": Column(Columns.KIND) == kind.name}
        if kind.needs_value:
            yield _critical(not_null, Columns.VALUE, f"every {kind.name} has one", **only)
        if math.isfinite(kind.low) or math.isfinite(kind.high):
            low, high = (bound if math.isfinite(bound) else None for bound in (kind.low, kind.high))
            of_kind = {"min_value": low, "max_value": high, **only}
            between = gxe.ExpectColumnValuesToBeBetween
            yield _critical(between, Columns.VALUE, f"of a {kind.name}: {kind.meaning}", **of_kind)
        if kind.name == RETRACT:
            yield _critical(not_null, Columns.RETRACTS, "a take-back names an event", **only)
    yield gxe.ExpectColumnValuesToBeNull(
        column=UNKNOWN_ITEM, severity=WARNING, notes="no behaviour with items that the catalogue lacks"
    )


def _context(folder: Path) -> EphemeralDataContext:
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        data_docs_sites={
            SITE: {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())},
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            }
        },
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _run(
    context: EphemeralDataContext, run: RunIdentifier, name: str, frame: pd.DataFrame, suite: Iterable[gxe.Expectation]
) -> list[Any]:
    source = context.data_sources.add_pandas(name)
    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
    expectations = context.suites.add(ExpectationSuite(name=name, expectations=list(suite)))
    definition = context.validation_definitions.add(ValidationDefinition(name=name, data=batch, suite=expectations))
    outcome = definition.run(batch_parameters={"dataframe": frame}, result_format="SUMMARY", run_id=run)
    return list(outcome.results)


def _finding(outcome: Any) -> Finding:
    config, result, info = outcome.expectation_config, outcome.result or {}, outcome.exception_info or {}
    observed = result.get("observed_value")
    notes = config.notes if isinstance(config.notes, str) else ""
    # the message of the exception that the expectation met, if any (a column that is absent)
    exceptions = info.values() if "exception_message" not in info else [info]
    messages = [raised.get("exception_message") for raised in exceptions if isinstance(raised, dict)]
    message = next((str(message).splitlines()[0] for message in messages if message), "")
    seen = f"found {observed}" if observed is not None else ""
    examples = [example for example in result.get("partial_unexpected_list") or [] if example is not None]
    plain = (example if isinstance(example, str | int | float) else repr(example) for example in examples)
    return Finding(
        config.type,
        config.kwargs.get("column"),
        "; ".join(part for part in (f"expected: {notes}", seen, message) if part),
        result.get("unexpected_count"),
        tuple(dict.fromkeys(plain))[:EXAMPLES],
    )
