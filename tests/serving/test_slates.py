"""Slate ids that nobody else can make, and what the latest slates showed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune.errors import DataContractError
from attune.events import Candidate, Shown, Slate
from attune.row_rules import ID_LIMIT
from serving.slates import RecentSlates, SlateSigner

SIGNER = SlateSigner(b"key")


def slate(number: int) -> Slate:
    return Slate(
        event_id=f"s{number}",
        event_timestamp=number,
        user_id="u",
        model_version="1",
        served_by="champion",
        policy={},
        shown=[Shown("i", 1.0, 0.5)],
        candidates=[Candidate("i", 1.0)],
        context={},
        state_position=0,
    )


@given(st.text(), st.text())
def test_an_id_verifies_for_its_user_alone(user_id: str, other: str) -> None:
    slate_id = SIGNER.new_id(user_id)
    SIGNER.verify(slate_id, user_id)
    if other != user_id:
        with pytest.raises(DataContractError):
            SIGNER.verify(slate_id, other)


def test_ids_are_url_safe_short_and_new() -> None:
    ids = {SIGNER.new_id("u") for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(len(slate_id) <= ID_LIMIT and slate_id.replace(".", "").replace("-", "").replace("_", "").isalnum()
               for slate_id in ids)  # fmt: skip


@pytest.mark.parametrize("mangle", [
    lambda i: "", lambda i: ".", lambda i: "invented", lambda i: i.partition(".")[0], lambda i: i + "x",
    lambda i: i[:-1], lambda i: "A" + i, lambda i: i.partition(".")[2], lambda i: i.replace(".", ".."), lambda i: "é.é",
])  # fmt: skip
def test_an_altered_id_is_refused_by_name(mangle) -> None:
    with pytest.raises(DataContractError) as caught:
        SIGNER.verify(mangle(SIGNER.new_id("u")), "u")
    assert caught.value.field == "slate_id"


def test_another_key_signs_otherwise() -> None:
    with pytest.raises(DataContractError):
        SlateSigner(b"other").verify(SIGNER.new_id("u"), "u")


def test_the_latest_slates_are_remembered() -> None:
    recent = RecentSlates(capacity=2)
    for number in range(3):
        recent.keep(slate(number))
    assert recent.items("s0") is None
    assert recent.items("s2") == ("i",)
