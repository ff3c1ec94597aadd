"""API keys on SQLite and on PostgreSQL: made once, shown once, found by their id, ended by their name."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from attune.api_keys import SCOPES, ApiKeys, digest_of, id_within
from attune.clock import SECOND
from attune.database import Database
from attune.errors import ConfigError, EventLogError
from attune.tables import api_keys

START = 1_700_000_000_000_000


class Hands:
    """A clock that moves by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.now = START - SECOND

    def __call__(self) -> int:
        self.now += SECOND
        return self.now


@pytest.fixture
def keys(url: str) -> Iterator[ApiKeys]:
    keys = ApiKeys(url, Hands())
    yield keys
    keys.close()


def test_nobody_has_a_key_yet(keys: ApiKeys) -> None:
    assert (keys.active(), keys.every()) == ([], [])


def test_a_key_is_found_by_its_id_and_compared_by_its_digest(keys: ApiKeys) -> None:
    text, made = keys.create("shop", ["recommend", "feedback"], rate=50, burst=100)
    assert text.startswith(f"attune_{made.key_id}_")
    assert id_within(text) == made.key_id
    assert made.is_of(text)
    assert not made.is_of(text[:-1] + ("0" if text[-1] != "0" else "1"))
    assert (made.scopes, made.rate, made.burst) == ({"recommend", "feedback"}, 50.0, 100)
    assert (made.created_at, made.revoked_at) == (START, None)
    assert keys.active() == [made]


@pytest.mark.parametrize(
    "text", ["", "attune_", "hush", "attune_0123456789ab_", "attune_0123456789AB_" + 64 * "0", "Ω" * 84]
)
def test_what_is_no_key_has_no_id(text: str) -> None:
    assert id_within(text) is None
    assert len(digest_of(text)) == 32


def test_the_key_itself_is_nowhere(keys: ApiKeys, url: str, tmp_path: Path) -> None:
    text, made = keys.create("shop", ["recommend"])
    secret = text.rpartition("_")[2]
    database = Database(url)
    with database.reading() as connection:
        rows: list[Any] = [dict(row) for row in connection.execute(api_keys.select()).mappings()]
    database.close()
    assert secret not in repr(rows) + repr(made)
    assert bytes.fromhex(secret) not in rows[0]["digest"]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(secret.encode() in content for content in files)


def test_no_two_keys_are_alike(keys: ApiKeys) -> None:
    made = [keys.create(f"k{number}", ["recommend"]) for number in range(20)]
    assert len({text for text, _ in made}) == len({key.key_id for _, key in made}) == 20
    assert [key.name for key in keys.active()] == sorted(key.name for _, key in made)


def test_admin_opens_everything_and_others_what_they_name(keys: ApiKeys) -> None:
    _, narrow = keys.create("narrow", ["items"])
    _, wide = keys.create("wide", ["admin"])
    assert [scope for scope in SCOPES if narrow.opens(scope)] == ["items"]
    assert all(wide.opens(scope) for scope in SCOPES)


def test_a_name_is_free_again_once_its_key_is_revoked(keys: ApiKeys) -> None:
    _, first = keys.create("shop", ["recommend"])
    with pytest.raises(ConfigError, match="there is a key 'shop' already"):
        keys.create("shop", ["recommend"])
    ended = keys.revoke("shop")
    assert (ended.key_id, ended.revoked_at) == (first.key_id, START + 2 * SECOND)
    _, second = keys.create("shop", ["feedback"])
    assert keys.active() == [second]
    assert keys.every() == [second, ended]


def test_revoking_what_is_not_there_names_what_is(keys: ApiKeys) -> None:
    with pytest.raises(ConfigError, match="there is none at all"):
        keys.revoke("shop")
    keys.create("shop", ["recommend"])
    with pytest.raises(ConfigError, match="did you mean 'shop'"):
        keys.revoke("shops")
    with pytest.raises(ConfigError, match="there are shop"):
        keys.revoke("x")
    keys.revoke("shop")
    with pytest.raises(ConfigError, match="no key 'shop'"):
        keys.revoke("shop")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": ""}, "no name for a key"),
        ({"name": "a b"}, "no name for a key"),
        ({"name": "x" * 65}, "no name for a key"),
        ({"scopes": []}, "would open nothing"),
        ({"scopes": ["recomend"]}, "did you mean 'recommend'"),
        ({"scopes": ["recommend", "all"]}, "there are recommend, feedback"),
        ({"rate": -1.0}, "cannot be kept"),
        ({"rate": float("nan")}, "cannot be kept"),
        ({"rate": float("inf")}, "cannot be kept"),
        ({"rate": 1.0, "burst": 0}, "at least 1"),
        ({"burst": 5}, "belongs to a rate"),
        ({"rate": 0.0, "burst": 5}, "belongs to a rate"),
    ],
)
def test_what_cannot_be_meant_makes_no_key(keys: ApiKeys, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        keys.create(**{"name": "shop", "scopes": ["recommend"], **given})
    assert keys.every() == []


def test_of_many_who_take_a_name_at_once_one_gets_it(url: str) -> None:
    tables = [ApiKeys(url, lock_seconds=30) for _ in range(4)]

    def make(table: ApiKeys) -> bool:
        try:
            table.create("shop", ["recommend"])
        except ConfigError:
            return False
        return True

    with ThreadPoolExecutor(len(tables)) as pool:
        assert sorted(pool.map(make, tables)) == [False, False, False, True]
    assert len(tables[0].every()) == 1
    for table in tables:
        table.close()


def test_without_tables(bare_url: str) -> None:
    with pytest.raises(EventLogError, match="create"):
        ApiKeys(bare_url)
