"""`attune keys create | list | revoke` on an event log of the test's own."""

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from attune.api_keys import ApiKeys
from attune.settings import Settings


def make(attune, *arguments: str) -> dict[str, object]:
    status, out, err = attune("keys", "create", *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def test_a_key_is_shown_once_and_holds(attune) -> None:
    status, out, err = attune("keys", "create", "shop", "--scope", "recommend", "--scope", "feedback", "--rate", "50")
    assert status == 0
    (key,) = [line for line in out.splitlines() if line.startswith("attune_")]
    for words in ("key shop", "feedback, recommend", "50 a second"):
        assert words in out, words
    assert "the only time that it is shown" in err
    assert "asks for no keys" in err
    assert key not in err
    with closing(ApiKeys(Settings().log_url)) as table:
        (made,) = table.active()
    assert made.is_of(key)
    assert (made.name, made.scopes, made.rate, made.burst) == ("shop", {"recommend", "feedback"}, 50.0, None)
    listed = attune("keys", "list")[1] + attune("keys", "list", "--json")[1] + attune("keys", "list", "--revoked")[1]
    assert made.key_id in listed
    assert key not in listed


def test_where_keys_are_asked_for_that_need_not_be_said(attune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_API_KEYS", "on")
    assert "asks for no keys" not in attune("keys", "create", "shop", "--scope", "recommend")[2]


def test_as_json_it_is_one_object(attune) -> None:
    made = make(attune, "shop", "--scope", "items", "--rate", "5", "--burst", "20")
    assert str(made["key"]).startswith(f"attune_{made['id']}_")
    wanted = {"name": "shop", "scopes": ["items"], "rate": 5.0, "burst": 20, "revoked_at": None}
    assert {name: made[name] for name in wanted} == wanted
    (listed,) = json.loads(attune("keys", "list", "--json")[1])["keys"]
    assert listed == {name: value for name, value in made.items() if name != "key"}


def test_a_revoked_key_is_listed_only_on_demand(attune) -> None:
    make(attune, "shop", "--scope", "recommend")
    assert "revoked: shop" in attune("keys", "revoke", "shop")[1]
    assert json.loads(attune("keys", "list", "--json")[1]) == {"keys": []}
    (ended,) = json.loads(attune("keys", "list", "--revoked", "--json")[1])["keys"]
    assert ended["revoked_at"] is not None
    again = make(attune, "shop", "--scope", "metrics")
    answer = json.loads(attune("keys", "revoke", "shop", "--json")[1])
    assert (answer["id"], answer["ends_within_seconds"]) == (again["id"], 5.0)


def test_without_a_key_the_list_names_the_first_step(attune) -> None:
    status, out, _ = attune("keys", "list")
    assert status == 0
    assert "attune keys create" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "shop", "--scope", "recomend"), "did you mean 'recommend'"),
        (("create", "a shop", "--scope", "recommend"), "no name for a key"),
        (("create", "shop", "--scope", "recommend", "--burst", "5"), "belongs to a rate"),
        (("revoke", "shop"), "there is no key 'shop'"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(attune, arguments: tuple[str, ...], words: str) -> None:
    status, out, err = attune("keys", *arguments)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert words in err


@pytest.mark.parametrize(
    "arguments", [("create", "shop"), ("create",), ("create", "shop", "--scope", "items", "--rate", "-1"), ("revoke",)]
)
def test_a_wrong_call_is_status_2(attune, arguments: tuple[str, ...]) -> None:
    status, out, err = attune("keys", *arguments)
    assert (status, out) == (2, "")
    assert "Usage: attune keys" in err


def test_the_commands_load_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys; from infra.cli import app\n"
        "app(['keys', 'create', 'shop', '--scope', 'recommend', '--json'], standalone_mode=False)\n"
        "print(sorted({'torch', 'feast', 'mlflow', 'prefect', 'pandas', 'fastapi'} & set(sys.modules)))"
    )
    environment = {**os.environ, "ATTUNE_VAR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    made, loaded = done.stdout.splitlines()
    assert json.loads(made)["name"] == "shop"
    assert loaded == "[]"
