"""What `attune keys create`, `list` and `revoke` do."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from attune import event_log
from attune.api_keys import REVOKED_WITHIN_SECONDS, ApiKey, ApiKeys
from attune.clock import system_clock, to_iso
from attune.settings import Settings
from infra.commands import output


def create(name: str, scopes: Sequence[str], rate: float | None, burst: int | None, as_json: bool) -> None:
    """Make a key and print it. Raises ConfigError for a name in use and for what is no scope or limit."""
    settings = Settings()
    with _table(settings) as table:
        text, made = table.create(name, scopes, rate, burst)
    if as_json:
        output.print_json({"key": text, **_described(made)})
        return
    output.facts(f"key {name}", {"scopes": sorted(made.scopes), "limit": _limit(made)})
    output.console().print(text, soft_wrap=True)
    output.note("this is the only time that it is shown: put it where secrets are kept")
    if not settings.asks_for_keys:
        output.note("the endpoint of these settings asks for no keys: ATTUNE_API_KEYS=on makes it ask")


def show(revoked: bool, as_json: bool) -> None:
    """The keys that hold, or all there ever were."""
    with _table(Settings()) as table:
        found = table.every() if revoked else table.active()
    if as_json:
        output.print_json({"keys": [_described(one) for one in found]})
        return
    if not found:
        output.say_next("no key yet: `attune keys create NAME --scope recommend --scope feedback`")
        return
    now = system_clock()
    rows = [
        [one.name, one.key_id, " ".join(sorted(one.scopes)), _limit(one), f"{output.ago(one.created_at, now)} ago"]
        + ([f"{output.ago(one.revoked_at, now)} ago" if one.revoked_at else ""] if revoked else [])
        for one in found
    ]
    head = ["name", "id", "opens", "limit", "made", *(["revoked"] if revoked else [])]
    output.table(head, rows, title="API keys", unbroken=[0, 1])


def revoke(name: str, as_json: bool) -> None:
    """End a key. Raises ConfigError where none bears the name."""
    with _table(Settings()) as table:
        ended = table.revoke(name)
    if as_json:
        output.print_json({**_described(ended), "ends_within_seconds": REVOKED_WITHIN_SECONDS})
        return
    output.console().print(
        f"revoked: {name} ({ended.key_id}); no endpoint takes it after {REVOKED_WITHIN_SECONDS:g} seconds", markup=False
    )


def _described(key: ApiKey) -> dict[str, Any]:
    """What may be known of a key."""
    return {
        "name": key.name,
        "id": key.key_id,
        "scopes": sorted(key.scopes),
        "rate": key.rate,
        "burst": key.burst,
        "created_at": to_iso(key.created_at),
        "revoked_at": None if key.revoked_at is None else to_iso(key.revoked_at),
    }


def _limit(key: ApiKey) -> str:
    if key.rate is None:
        return "as set"
    if not key.rate:
        return "none"
    return f"{key.rate:g} a second" + (f", {key.burst} at once" if key.burst else "")


def _table(settings: Settings) -> "closing[ApiKeys]":
    event_log.prepare(settings.log_url)
    return closing(ApiKeys(settings.log_url))
