"""Every deployment, automation and event of ours stands in docs/reference/deployments.md, as the code has it."""

from typing import Any

import pytest
import yaml

from flows import automations

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def deployments(root) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((root / "prefect.yaml").read_text())["deployments"]
    return found


def row(one: dict[str, Any]) -> str:
    """The row that the page must have."""
    when = ", ".join(_when(schedule) for schedule in one.get("schedules", [])) or "when asked for"
    given = ", ".join(f"{name} = {_plain(value)}" for name, value in one.get("parameters", {}).items())
    return f"| `{one['name']}` | {when} | {one['description']} | {f'`{given}`' if given else '-'} |"


def _when(schedule: dict[str, Any]) -> str:
    if "cron" in schedule:
        return f"`{schedule['cron']}` ({schedule['slug']})"
    unit, seconds = next(pair for pair in UNITS if schedule["interval"] % pair[1] == 0)
    return f"every {schedule['interval'] // seconds} {unit}"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.fixture
def root(pytestconfig: pytest.Config):
    return pytestconfig.rootpath


def test_every_deployment_is_documented(page, root) -> None:
    page("reference/deployments.md").section("Deployments").holds(map(row, deployments(root)))


def test_every_automation_is_documented(page) -> None:
    names = {value for value in vars(automations).values() if str(value).startswith(automations.PREFIX)}
    documented = set(page("reference/deployments.md").section("Automations").rows())
    assert documented == names - {automations.PREFIX}


def test_every_event_is_documented(page) -> None:
    names = {value for value in vars(automations).values() if isinstance(value, str) and value.startswith("attune.")}
    resources = {automations.LOG, automations.MODEL}
    assert set(page("reference/deployments.md").section("Events").rows()) == names - resources
    text = "\n".join(page("reference/deployments.md").section("Events").lines)
    assert all(f"`{one}`" in text for one in resources)
