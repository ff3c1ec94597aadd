"""Roll-back to a version that was champion before: no gates, since it has answered requests already.

The promotions table is the truth: a roll-back is a row in it, written under the endpoint's lease, and MLflow's aliases
follow, by the next projection where MLflow does not answer now. Without a named version, "before" means *under* the
champion on the stack of champions: a promotion pushes its version, a roll-back pops all above the version it goes to.
So two roll-backs go two champions back, never to the faulty version just left; to return to that one, name it.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from attune.errors import ModelError
from attune.promotions import Promotion, Promotions

ALL = 1_000_000  # more promotions than an endpoint will ever have

log = logging.getLogger(__name__)


class Aliases(Protocol):
    """The part of ``models.registry.Registry`` that a roll-back needs."""

    def versions(self) -> list[dict[str, Any]]: ...
    def project(self, promotion: Promotion | None) -> list[str]: ...


def rollback(
    table: Promotions,
    registry: Aliases,
    endpoint: str,
    version: str | None,
    actor: str,
    say: Callable[[str], None] = log.warning,
) -> Promotion:
    """Make the champion before (or the named one, which was champion once) the champion again.

    Returns the promotion that holds now: the standing one when the named version is champion already. ``say`` is told
    what MLflow could not do, and which aliases somebody had moved by hand. Raises ModelError when there is nothing to
    go back to. It does not wait for a promotion that is being judged: that one is refused when it comes to its end.
    """
    with table.hold_lease(endpoint, actor, overtake=True) as lease:
        version = target(table, endpoint, version)
        known = next(row for row in table.history(endpoint, ALL) if row.version == version)
        _check_kept(registry, known, say)
        left = table.champion(endpoint)
        reason = f"rolled back from version {left.version}" if left else ""
        promotion = table.append(lease, version, "rollback", reason, actor, known.bundle_digest)
    try:
        for line in registry.project(promotion):
            say(line)
    except ModelError as error:
        say(f"version {promotion.version} is champion, but MLflow's aliases do not say so yet: {error}")
    return promotion


def target(table: Promotions, endpoint: str, version: str | None) -> str:
    """The version that a roll-back would go to now; raises ModelError as ``rollback`` does."""
    history = table.history(endpoint, ALL)
    names = ", ".join(sorted({row.version for row in history} - {row.version for row in history[:1]}))
    others = f"; name one that was champion: {names}" if names else ""
    if version:
        if any(row.version == version for row in history):
            return version
        raise ModelError(
            f"version {version} was never champion of endpoint {endpoint!r}"
            f"{others if history else '; it never had any'}; "
            f"a version that has not answered yet goes through the gates: attune promote {version}"
        )
    champions = stack(history)
    if not champions:
        raise ModelError(f"endpoint {endpoint!r} has no champion yet, so there is nothing to roll back: promote one")
    if len(champions) == 1:
        raise ModelError(
            f"version {champions[-1]} has no champion before it to roll back to{others}; "
            "or promote another version: attune promote VERSION"
        )
    return champions[-2]


def stack(history: Iterable[Promotion]) -> list[str]:
    """The champions that a roll-back would go through, the present one last, from the promotions latest first."""
    versions: list[str] = []
    for row in reversed(list(history)):
        if row.action == "rollback" and row.version in versions:
            while versions[-1] != row.version:
                versions.pop()
        else:
            versions.append(row.version)
    return versions


def _check_kept(registry: Aliases, known: Promotion, say: Callable[[str], None]) -> None:
    """Refuse a version that the registry has no more, or has another bundle under its number: nobody could load it."""
    try:
        kept = {row["version"]: row["tags"].get("bundle_digest") for row in registry.versions()}
    except ModelError as error:
        say(f"nobody looked whether the registry still has version {known.version}: {error}")
        return
    if known.version not in kept or not known.is_of(known.version, kept[known.version]):
        raise ModelError(
            f"version {known.version} was champion, but the registry has it no more (it was removed, or the registry "
            "was lost and gave its number to another); see `attune versions` and name another one"
        )
