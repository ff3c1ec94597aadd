"""The whole loop on the planted world, over real servers: each test goes on where the one before it ended.

The flows are imported inside, once the servers are up: Prefect reads its environment when it is imported.
"""

import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attune.clock import system_clock
from attune.errors import DataContractError
from attune.event_log import EventLog
from attune.promotions import Promotions
from features.importer import import_source
from features.sources import tabular
from infra.demo import Endpoint, react, spoil
from infra.local_stack import Stack

ROOT = Path(__file__).parents[2]
ATTUNE = str(Path(sys.executable).with_name("attune"))


@pytest.fixture(scope="module")
def story() -> dict[str, Any]:
    """What the tests tell each other."""
    return {}


@pytest.fixture(scope="module")
def take_in(platform: Stack, planted, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], int]:
    """Import one of the planted tables, then ingest, validate and materialize; gives the accepted rows."""
    files = planted.write(tmp_path_factory.mktemp("tables"))

    def run(name: str) -> int:
        from flows.ingest import ingest
        from flows.materialize import materialize
        from flows.validate import validate

        frames = tabular.read(
            files[name],
            items=files["items"],
            mapping="user_id=who,item_id=sku,event_timestamp=at,kind=what",
            items_map="item_id=sku,title=name,genres=genre",
        )
        with closing(EventLog(platform.settings.log_url)) as log:
            report = import_source(log, frames, system_clock, name)
        ingest()
        assert validate()["ok"]
        materialize()
        return report.accepted

    return run


def test_nothing_is_trained_on_what_broke_its_contract(platform: Stack, planted, take_in) -> None:
    from flows.train import train
    from flows.validate import validate

    assert take_in("early") == len(planted.early)
    file = next(platform.settings.lake_folder.glob("day=*/*.parquet"))
    whole = file.read_bytes()
    table = pq.read_table(file, partitioning=None)
    kinds = ["smuggled" if kind == "click" else kind for kind in table["kind"].to_pylist()]
    place = table.schema.get_field_index("kind")
    pq.write_table(table.set_column(place, "kind", pa.array(kinds, table.schema.field("kind").type)), file)
    assert not validate(after=0)["ok"]
    with pytest.raises(DataContractError, match=r"training is stopped.*smuggled"):
        train()
    file.write_bytes(whole)
    assert validate()["ok"]


def test_a_first_version_is_trained_and_registered(story, platform: Stack) -> None:
    from flows.train import train

    story["first"] = train(recipe="tiny")
    assert story["first"]["version"] == "1"


def test_the_same_window_gives_the_same_version(story, platform: Stack) -> None:
    from flows.train import train

    assert train(recipe="tiny")["version"] == story["first"]["version"]


def test_before_a_champion_popularity_answers(endpoint: Endpoint) -> None:
    slate = endpoint.recommend("p0")
    assert (slate.served_by, slate.model_version, len(slate.items)) == ("popularity", None, 10)


def test_a_spoiled_challenger_is_refused_and_its_twin_passes(story, platform: Stack, endpoint: Endpoint) -> None:
    from flows import resources
    from flows.promote import promote
    from models import training_job

    spoiled = spoil(Path(story["first"]["bundle"]), platform.settings.bundles_folder / "spoiled")
    registry = resources.registry(platform.settings)
    version = training_job.register(registry, spoiled, None)["version"]
    refused = promote(version=version, accept_undecided=True)
    assert refused["decision"] == "refused"
    assert "beats_popularity" in {
        gate["name"] for gate in refused["gates"] if gate["verdict"] == "fail" or gate["adverse"]
    }
    accepted = promote(version=story["first"]["version"], accept_undecided=True)
    assert accepted["accepted"], accepted["gates"]
    assert registry.aliases()["champion"] == story["first"]["version"]
    endpoint.wait_for(story["first"]["version"])


def test_undecided_gates_do_not_promote_by_default(story, platform: Stack) -> None:
    from flows.promote import promote

    judged = promote(version=story["first"]["version"])
    assert "undecided" in {gate["verdict"] for gate in judged["gates"]}
    assert judged["decision"] == "undecided"


def test_feedback_changes_the_next_slate_and_nobody_elses(endpoint: Endpoint) -> None:
    felt = react(endpoint, "p0", "p1")
    assert felt["state_position"] >= felt["acknowledged_position"]
    assert [item["item_id"] for item in felt["before"]] != [item["item_id"] for item in felt["after"]]
    assert felt["control"]["unchanged"]


def test_the_fine_tuned_version_takes_over_without_a_failed_request(
    story, platform: Stack, endpoint: Endpoint, planted, take_in
) -> None:
    from flows.finetune import finetune
    from flows.promote import promote

    take_in("later")
    take_in("latest")
    newer = len(planted.latest) / (len(planted.later) + len(planted.latest))
    tuned = finetune(hold_back=newer)
    with Customers(endpoint.client.url, [f"r{number}" for number in range(20)]) as customers:
        judged = promote(version=tuned["version"], accept_undecided=True)
        assert judged["accepted"], judged["gates"]
        endpoint.wait_for(tuned["version"])
        customers.see(tuned["version"])
    assert customers.failures == []
    gain = judged["intervals"]["against champion"]["ndcg@10"]
    assert gain["low"] > 0, "the planted order of the new items can only be known from the later events"
    story["second"] = tuned


def test_an_alias_moved_by_hand_goes_back(story, platform: Stack) -> None:
    from flows import resources
    from flows.promote import promote

    registry = resources.registry(platform.settings)
    first, second = story["first"]["version"], story["second"]["version"]
    registry.client.set_registered_model_alias("attune-recommender", "champion", first)
    judged = promote(version=second)
    assert any("champion" in line for line in judged["corrected"])
    assert registry.aliases()["champion"] == second
    assert registry.aliases()["challenger"] == first
    with closing(Promotions(platform.settings.log_url)) as table:
        assert table.champion("default").version == second


@pytest.mark.long
def test_ids_alone_are_enough(platform: Stack, planted, tmp_path: Path) -> None:
    """`attune train` after an import of ids without items, names or times, with nothing running."""
    file = tmp_path / "ids.csv"
    planted.early[["who", "sku"]].to_csv(file, index=False)
    alone = {"ATTUNE_VAR": str(tmp_path / "var"), "ATTUNE_PREFECT_URL": "", "ATTUNE_MLFLOW_URL": ""}
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("ATTUNE_", "PREFECT_API"))}
    for command in (
        f"import tabular --interactions {file} --map user_id=who,item_id=sku --kind click --order row",
        "train --json",
    ):
        done = subprocess.run(
            [ATTUNE, *shlex.split(command)], env={**outside, **alone}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert '"version": "1"' in done.stdout


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/own-data.md", "docs/how-to/catalogue.md"])
def test_a_page_tells_the_truth_about_http(endpoint: Endpoint, page: str) -> None:
    """Each curl line of the page runs as it stands; a slate's id is handed from one to the next."""
    text = (ROOT / page).read_text().replace("\n> ", "\n")
    lines = re.findall(r"^(?:\$ )?(curl .*?)(?<!\\)$", text, re.MULTILINE | re.DOTALL)
    assert lines
    slate = endpoint.recommend("p2")
    for line in lines:
        command = line.replace("http://127.0.0.1:8000", endpoint.client.url).replace("SLATE_ID", str(slate.slate_id))
        command = command.replace("ITEM_ID", slate.items[0].item_id).replace("USER_ID", "p2")
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        assert '"error"' not in done.stdout, (command, done.stdout)


class Customers:
    """Somebody who asks for slates all the time, and notes every answer that is not a slate."""

    def __init__(self, url: str, users: list[str]) -> None:
        self.url, self.users = url, users
        self.failures: list[str] = []
        self.versions: set[str] = set()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.ask)

    def __enter__(self) -> "Customers":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        self.thread.join()

    def ask(self) -> None:
        with httpx.Client(timeout=10.0) as http:
            while not self.stopping.is_set():
                for user in self.users:
                    answer = http.post(f"{self.url}/v1/recommend", json={"user_id": user})
                    if answer.status_code == 200:
                        self.versions.add(answer.json()["model_version"])
                    else:
                        self.failures.append(answer.text)

    def see(self, version: str) -> None:
        """Wait until somebody was answered by the version."""
        deadline = threading.Event()
        for _ in range(200):
            if version in self.versions:
                return
            deadline.wait(0.05)
        raise AssertionError(f"nobody was answered by version {version}, only by {self.versions}")
