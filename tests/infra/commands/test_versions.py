"""`attune versions`, `compare`, `rollback` over a real MLflow; what `train`, `finetune`, `promote` say of a result."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attune.errors import AttuneError
from attune.event_log import EventLog, prepare
from attune.events import Interaction
from attune.promotions import Promotions
from attune.settings import Settings
from evaluation.case import Evidence
from evaluation.gate import Verdict, not_applicable
from evaluation.gates.coverage import Coverage
from evaluation.gates.lineage import Lineage
from evaluation.gates.popularity import BeatsPopularity
from evaluation.intervals import Interval
from evaluation.judge import gate_limits
from evaluation.report import Judgement
from infra.commands import execution, options
from infra.local_stack import Stack
from models.metrics import EVENT_METRICS, GROUP_METRICS, SLICES
from models.registry import CHALLENGER, CHAMPION, MODEL, PREVIOUS, UNJUDGED, Registry

FIGURES = dict.fromkeys((*EVENT_METRICS, *GROUP_METRICS), 0.05) | {"ndcg@10": 0.06, "hr@10": 0.11, "coverage@10": 0.4}
SUMMARY = dict.fromkeys(SLICES, FIGURES)


def report(ndcg: float, rate: float) -> dict[str, Any]:
    """A training report as far as the registry keeps figures of it."""
    return {"learning_rate": rate, "validation": {"hybrid": {"ndcg@10": ndcg}, "item-knn": {"ndcg@10": 0.1}}}


def judged(accept_undecided: bool = False, users: int = 10, gain: float = 0.02) -> Judgement:
    """A judgement of few or many users, from the real gates."""
    interval = Interval(gain, gain - 0.01, gain + 0.01)
    return Judgement(
        verdicts=(
            BeatsPopularity().verdict(interval, Evidence(users, 50_000, float(users))),
            not_applicable("not_worse_than_champion", "there is no champion"),
            Coverage().verdict(0.4, None, 1.0),
            Lineage().verdict(300, 301, 0),
        ),
        metrics=SUMMARY,
        baselines={"popularity": SUMMARY, "item-knn alone": SUMMARY},
        panel=SUMMARY,
        intervals={},
        hold_out={"after_time": 300, "upto_time": 400, "late": 0, "events": 50_000, "users": users}
        | dict.fromkeys(("groups", "repeated", "unmarked", "unknown"), 0),
        cost={},
        limits=gate_limits(),
        accept_undecided=accept_undecided,
    )


@pytest.fixture(scope="module")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[[Path, int], Path]) -> Iterator[str]:
    """MLflow with three versions: 1 from nothing and judged, 2 from 1 and not judged, 3 the challenger."""
    folder = tmp_path_factory.mktemp("registry")
    before = dict(os.environ)
    with Stack(Settings(var=folder)) as stack:
        stack.start("mlflow")
        stack.wait()
        url = stack.settings.mlflow_url
        os.environ.clear()
        os.environ.update(before)
        registry = Registry(url)
        registry.register(make_bundle(folder / "a", 1), report(0.2, 0.01))
        registry.register(make_bundle(folder / "b", 2), report(0.25, 0.02), parent="1")
        registry.register(make_bundle(folder / "c", 3), report(0.3, 0.02), parent="2")
        registry.record_gates("1", judged())
        registry.point_challenger("3")
        yield url


@pytest.fixture
def promotions(attune, mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Promotions]:
    """An empty table of the test's own, beside the registry of all tests."""
    monkeypatch.setenv("ATTUNE_MLFLOW_URL", mlflow_url)
    settings = Settings()
    prepare(settings.log_url)
    with closing(Promotions(settings.log_url)) as table:
        yield table


@pytest.fixture
def promote(promotions: Promotions, mlflow_url: str) -> Callable[..., None]:
    """Makes versions champion one after the other, without gates."""

    def run(*versions: str) -> None:
        for version in versions:
            with promotions.lease("default", "test", 60) as lease:
                Registry(mlflow_url).project(promotions.append(lease, version, "promote", "a test", "test"))

    return run


def champion(promotions: Promotions) -> str:
    answer = promotions.champion("default")
    assert answer is not None
    return answer.version


def test_versions_say_what_each_is_and_which_one_answers(attune, promote) -> None:
    promote("1", "2")
    status, out, _ = attune("versions", "--json")
    answer = json.loads(out)
    assert (status, answer["champion"], answer["rollback_to"]) == (0, "2", "1")
    assert [(row["version"], row["champion"], row["parent"]) for row in answer["versions"]] == [
        ("3", False, "2"), ("2", True, "1"), ("1", False, None),
    ]  # fmt: skip
    last = answer["versions"][-1]
    assert (last["recipe"], last["accepted"], last["gates"]["beats_popularity"]) == ("by hand", False, "undecided")
    assert last["headline"] == {
        "hold-out NDCG@10": 0.06, "hold-out HR@10": 0.11, "hold-out coverage@10": 0.4, "validation NDCG@10": 0.2,
    }  # fmt: skip
    assert answer["versions"][0]["aliases"] == ["challenger"]


def test_versions_for_people_fit_a_terminal_and_say_what_comes_next(attune, promote, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    promote("1", "2")
    out = attune("versions")[1]
    assert max(len(line) for line in out.splitlines() if not line.startswith("next: ")) <= 80
    for words in (
        "★",
        "2 champion",
        "3 challenger",
        "by hand",
        "pass",
        "undecided",
        "not judged",
        "attune promote",
    ):
        assert words in out, words
    assert "3 challenger" not in attune("versions", "-n", "1", "--json")[1]


def test_versions_say_which_one_cannot_be_judged(attune, promote, mlflow_url) -> None:
    promote("1")
    registry = Registry(mlflow_url)
    registry.refuse("2", "its artifacts are gone")
    try:
        assert "cannot be" in attune("versions")[1]
        listed = {row["version"]: row for row in json.loads(attune("versions", "--json")[1])["versions"]}
        assert (listed["2"]["accepted"], listed["2"]["cannot_be_judged"]) == (False, "its artifacts are gone")
        assert listed["1"]["cannot_be_judged"] is None
    finally:
        for name in ("accepted", UNJUDGED):
            registry.client.delete_model_version_tag(MODEL, "2", name)


def test_without_any_version_the_first_step_is_told(attune) -> None:
    status, out, err = attune("versions")
    assert (status, err) == (0, "")
    assert "attune train" in out
    assert json.loads(attune("versions", "--json")[1]) == {"champion": None, "rollback_to": None, "versions": []}
    for command in (("compare", "1", "2"), ("promote",)):
        status, out, err = attune(*command)
        assert (status, out) == (1, "")
        assert "attune train" in err


def test_compare_shows_what_differs(attune, promote) -> None:
    promote("1", "2")
    status, out, _ = attune("compare", "previous", "champion", "--json")
    answer = json.loads(out)
    assert (status, answer["a"]["version"], answer["b"]["version"]) == (0, "1", "2")
    assert answer["params"]["learning_rate"] == ["0.01", "0.02"]
    assert answer["params"]["seed"] == ["1", "2"]
    assert "recipe.name" not in answer["params"]
    figure = answer["metrics"]["validation/hybrid/ndcg_at_10"]
    assert figure["difference"] == pytest.approx(0.05)
    assert answer["gates"]["beats_popularity"] == ["undecided", None]
    for words in ("learning_rate", "validation ndcg@10", "+0.0500", "undecided", "not judged"):
        assert words in attune("compare", "1", "2")[1]


def test_compare_with_a_version_that_there_is_not(attune, promotions) -> None:
    status, out, err = attune("compare", "1", "77")
    assert (status, out) == (1, "")
    assert "there is no version '77'" in err
    assert "challenger" in err
    assert attune("compare", "1")[0] == 2


def test_rollback_goes_back_and_says_how_to_undo_it(attune, promotions, promote, mlflow_url) -> None:
    promote("1", "2", "3")
    status, out, _ = attune("rollback")
    assert (status, champion(promotions)) == (0, "2")
    assert "attune rollback 3" in out
    answer = json.loads(attune("rollback", "--json")[1])
    assert (answer["version"], answer["previous"], answer["action"], answer["changed"]) == ("1", "2", "rollback", True)
    aliases = Registry(mlflow_url).aliases()
    assert (aliases["champion"], aliases["previous"]) == ("1", "2")
    status, _, err = attune("rollback")
    assert status == 1
    assert "attune promote" in err


def test_rollback_to_a_named_version(attune, promotions, promote) -> None:
    promote("1", "2")
    assert attune("rollback", "1")[0] == 0
    status, out, _ = attune("rollback", "1")
    assert (status, champion(promotions)) == (0, "1")
    assert "nothing changed" in out
    status, _, err = attune("rollback", "3")
    assert (status, champion(promotions)) == (1, "1")
    assert "never champion" in err
    assert "attune promote 3" in err


def test_rollback_holds_when_mlflow_is_away(attune, promotions, promote, monkeypatch) -> None:
    promote("1", "2")
    monkeypatch.setenv("ATTUNE_MLFLOW_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(execution, "MLFLOW_TIMEOUTS", {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    status, out, err = attune("rollback", "--json")
    assert (status, champion(promotions)) == (0, "1")
    assert "aliases do not say so yet" in " ".join(err.split())
    assert len(json.loads(out)["notes"]) == 2


def test_versions_that_were_fetched_are_completed(promotions, mlflow_url) -> None:
    """The registry itself writes the folders that the completion reads."""
    registry, folder = Registry(mlflow_url), Settings().bundles_folder
    for version in ("1", "3"):
        registry.download(version, folder)
    assert len(list(folder.iterdir())) == 2
    assert options.versions() == ["3", "1"]
    assert list(options.versions_and_aliases()) == [CHAMPION, PREVIOUS, CHALLENGER, "3", "1"]


def test_rollback_before_any_promotion(attune) -> None:
    status, _, err = attune("rollback")
    assert status == 1
    assert "no champion yet" in err


class FakeRunner:
    """A runner that records what it is asked to run, and gives one result."""

    def __init__(self, settings: Settings, result: dict[str, Any]) -> None:
        self.settings, self.result = settings, result
        self.ran: list[tuple[str, dict[str, Any]]] = []

    def run(self, name: str, **parameters: Any) -> dict[str, Any]:
        self.ran.append((name, parameters))
        return self.result


@pytest.fixture
def flows_give(monkeypatch: pytest.MonkeyPatch, promotions) -> Callable[[dict[str, Any]], FakeRunner]:
    """What the next flow results in, over this registry; that flows do so is for tests/e2e."""

    def give(result: dict[str, Any]) -> FakeRunner:
        fake = FakeRunner(Settings(), result)

        @contextmanager
        def runner(*_: object) -> Iterator[FakeRunner]:
            yield fake

        monkeypatch.setattr(execution, "runner", runner)
        return fake

    return give


def verdict(version: str, promoted: bool, judgement: Judgement) -> dict[str, Any]:
    return {"version": version, "promoted": promoted, "corrected": [], **judgement.as_dict()}


def test_promote_judges_the_challenger_and_shows_the_gates(attune, promote, flows_give) -> None:
    fake = flows_give(verdict("3", True, judged(accept_undecided=True)))
    promote("2", "3")
    Registry(Settings().mlflow_url).point_challenger("3")
    status, out, _ = attune("promote", "--accept-undecided")
    assert fake.ran == [("promote", {"version": "3", "accept_undecided": True})]
    assert status == 0
    for words in ("beats popularity", "0.0100 to 0.0300", "undecided", "version 3 is champion now", "attune rollback"):
        assert words in out, words
    assert "item-knn" not in out


@pytest.mark.parametrize(
    ("judgement", "advice"),
    [
        (judged(), "To take the risk that beats popularity may truly be 0.0100 (limit 0.0000): attune promote 1"),
        (judged(), "about 30 more users would likely decide"),
        (judged(gain=-0.05), "The figure lies on the wrong side, so --accept-undecided does not help"),
    ],
)
def test_what_is_undecided_is_status_3_with_what_to_do(attune, flows_give, judgement: Judgement, advice: str) -> None:
    flows_give(verdict("1", False, judgement))
    status, out, _ = attune("promote", "1")
    assert status == 3
    assert "version 1 is undecided: the evidence does not decide beats popularity" in " ".join(out.split())
    assert "refused" not in out
    assert advice in " ".join(out.split())
    status, out, _ = attune("promote", "1", "--json")
    assert status == 3
    said = json.loads(out)
    assert (said["decision"], said["refused_by"], said["undecided"]) == ("undecided", [], ["beats_popularity"])


def test_a_failed_gate_is_named_as_a_refusal(attune, flows_give) -> None:
    flows_give(verdict("1", False, judged(users=500, gain=-0.05)))
    status, out, _ = attune("promote", "1")
    assert status == 3
    assert "version 1 was refused by: beats popularity" in out
    assert "undecided" not in out.split("version 1 was refused")[1]


def test_a_version_that_cannot_be_judged_is_status_3_with_the_reason(attune, flows_give) -> None:
    result = {
        "version": "1",
        "promoted": False,
        "accepted": False,
        "corrected": [],
        "cannot_be_judged": "bytes are gone",
    }
    flows_give(result)
    status, out, _ = attune("promote", "1")
    assert status == 3
    for words in ("version 1 was refused: it cannot be judged", "bytes are gone", "attune finetune"):
        assert words in " ".join(out.split()), words
    assert json.loads(attune("promote", "1", "--json")[1]) == result


def test_a_lost_first_champion_is_told_beside_the_risk(attune, flows_give) -> None:
    gone = Verdict("not_worse_than_anchor", None, None, "undecided", "the first champion cannot be fetched any more")
    flows_give(verdict("1", False, replace(judged(users=500), verdicts=(gone,))))
    out = " ".join(attune("promote", "1")[1].split())
    assert "cannot be fetched any more. To take the risk: attune promote 1 --accept-undecided" in out


def test_promoting_the_champion_again_says_that_nothing_changed(attune, promote, flows_give) -> None:
    promote("1")
    flows_give(verdict("1", False, judged(users=500)))
    status, out, _ = attune("promote", "1")
    assert status == 0
    assert "champion already" in out


def test_promote_without_a_challenger_names_the_next_step(attune, promote, flows_give, mlflow_url) -> None:
    fake = flows_give({})
    registry = Registry(mlflow_url)
    registry.point_challenger("3")
    promote("1", "3")
    assert "challenger" not in registry.aliases()
    status, out, err = attune("promote")
    assert (status, out, fake.ran) == (1, "", [])
    for words in ("version 3 is champion", "attune finetune", "attune versions"):
        assert words in err
    registry.point_challenger("3")


@pytest.fixture
def enough(promotions, clicks: list[Interaction]) -> None:
    """Events to learn from."""
    with closing(EventLog(Settings().log_url)) as log:
        log.append(clicks)


def test_train_says_what_it_made_and_what_comes_next(attune, flows_give, enough) -> None:
    figures = {"version": "4", "events": 64_182, "items": 24, "hybrid NDCG@10": 0.054, "popularity NDCG@10": 0.0277}
    fake = flows_give({"version": "4", "bundle": "var/bundles/made/x", "figures": figures})
    status, out, _ = attune("train", "--seed", "5")
    drawn_by = {"policy": "plackett-luce", "explore_budget": None, "explore_days": 1.0, "least_quality": 0.0}
    assert (status, fake.ran) == (0, [("train", {"recipe": "auto", "seed": 5, "origins": 0, **drawn_by})])
    for words in ("version 4", "64,182 events", "0.0540", "popularity alone", "attune promote"):
        assert words in out, words
    assert json.loads(attune("train", "--json")[1])["figures"] == figures


def test_finetune_needs_a_champion_and_something_new(attune, promote, flows_give, enough) -> None:
    fake = flows_give({"version": None, "new_events": 0, "skipped": "fewer than 1 new events"})
    status, _, err = attune("finetune")
    assert (status, fake.ran) == (1, [])
    assert "attune promote" in err
    promote("1")
    status, out, _ = attune("finetune")
    assert status == 0
    assert "nothing new" in out


def test_a_flow_that_fails_is_one_line(attune, enough, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def runner(*_: object) -> Iterator[FakeRunner]:
        raise AttuneError("run brave-crow ended as Failed: training is stopped")
        yield

    monkeypatch.setattr(execution, "runner", runner)
    status, out, err = attune("train")
    assert (status, out, err) == (1, "", "attune: run brave-crow ended as Failed: training is stopped\n")
