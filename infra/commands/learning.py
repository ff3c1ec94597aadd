"""`attune train`, `finetune` and `promote`: from the log to a version, from a version to the champion."""

from contextlib import closing
from typing import TYPE_CHECKING, Any

from rich.text import Text

from attune import event_log
from attune.errors import ConfigError, ModelError, NoChampion
from attune.event_log import EventLog
from attune.promotions import Promotion, Promotions
from attune.settings import Settings
from infra.commands import execution, output
from infra.commands.output import Progress
from models.figures import short

if TYPE_CHECKING:  # `attune --help` and most commands do without numpy
    from models.ranking.policy_registry import Exploration

BEHAVIOUR = ("interaction", "feedback")
NDCG = " NDCG@10"
COMPARED = {
    "champion": "the champion",
    "anchor": "the first champion",
    "elder": "an earlier champion",
    "popularity": "popularity",
}
NO_VERSION = "no version waits to be judged: make one with `attune train`"
SIZES = ("events", "items", "parameters")


def train(recipe: str, seed: int, origins: int, exploration: "Exploration", as_json: bool) -> None:
    """A version from nothing; raises DataContractError before anything is started when there is too little."""
    settings = Settings()
    if origins == 1 or origins < 0:
        raise ConfigError(f"--origins {origins}: a spread needs at least 2 moments; 0 leaves it out")
    _demand_events(settings)
    with execution.runner(settings, Progress(quiet=as_json)) as runner:
        result = runner.run(
            "train",
            recipe=recipe,
            seed=seed,
            origins=origins,
            policy=exploration.policy,
            explore_budget=exploration.budget,
            explore_days=exploration.days,
            least_quality=exploration.least_quality,
        )
    if as_json:
        output.print_json(result)
    else:
        _show_version(result, f"trained from nothing by the recipe {recipe}")


def finetune(seed: int, as_json: bool) -> None:
    """A version from the champion; raises NoChampion before anything is started when there is none."""
    settings = Settings()
    _demand_events(settings)
    champion = standing(settings)
    if champion is None:
        raise NoChampion("there is no champion to fine-tune yet: `attune train` makes a version, `attune promote` it")
    with execution.runner(settings, Progress(quiet=as_json)) as runner:
        result = runner.run("finetune", seed=seed, at_least=1)
    if as_json:
        output.print_json(result)
    elif result["version"] is None:
        output.console().print("nothing new to learn from: no event has come since the latest version was made")
    else:
        _show_version(result, f"fine-tuned from version {champion.version}")


def promote(version: str | None, accept_undecided: bool, as_json: bool) -> bool:
    """Gates, then promotion; whether the version was accepted."""
    settings = Settings()
    if not execution.has_versions(settings):
        raise ModelError(NO_VERSION)
    with execution.runner(settings, Progress(quiet=as_json)) as runner:
        chosen = version or _challenger(runner.settings)
        result = runner.run("promote", version=chosen, accept_undecided=accept_undecided)
    if as_json:
        output.print_json(result)
    elif "cannot_be_judged" in result:
        _show_refusal(result)
    else:
        _show_judgement(result, standing(settings))
    return bool(result["accepted"])


def standing(settings: Settings) -> Promotion | None:
    """What is champion by the promotions table; the table is made where there was none."""
    event_log.prepare(settings.log_url)
    with closing(Promotions(settings.log_url)) as table:
        return table.champion(settings.endpoint)


def _demand_events(settings: Settings) -> None:
    from models.learning.dataset import demand_enough

    event_log.prepare(settings.log_url)
    with closing(EventLog(settings.log_url)) as log:
        counts = log.counts()
    demand_enough(sum(counts.get(name, 0) for name in BEHAVIOUR))


def _challenger(settings: Settings) -> str:
    """The version that waits to be judged. Raises ModelError that says what can be done when none does."""
    from models.registry import CHALLENGER, Registry

    waiting = Registry(settings.mlflow_url).aliases().get(CHALLENGER)
    if waiting is not None:
        return waiting
    champion = standing(settings)
    if champion is None:
        raise ModelError(NO_VERSION)
    raise ModelError(
        f"no version waits to be judged; version {champion.version} is champion. Make one with `attune finetune` or "
        "`attune train`, or name one that is there (`attune versions`): `attune promote VERSION`"
    )


def _show_version(result: dict[str, Any], how: str) -> None:
    """What was made, how good it is on validation beside its parts and the baselines, and what comes next."""
    figures = dict(result["figures"])
    size = [f"{figures[name]:,} {name}" for name in SIZES if name in figures]
    output.console().print(Text(f"version {result['version']}", style="bold").append(f" {how}", style="not bold"))
    output.console().print(Text(f"{', '.join(size)}; it waits as challenger"))
    scores = {name.removesuffix(NDCG): value for name, value in figures.items() if name.endswith(NDCG)}
    rows = [
        [("the version (hybrid)" if name == "hybrid" else f"{name} alone"), value] for name, value in scores.items()
    ]
    if rows:
        rows.sort(key=lambda row: -float(row[1]))
        output.table(["on validation", "NDCG@10"], rows, numbers=[1])
    output.say_next("`attune promote` holds it against the gates; all figures: `attune versions`")


def _show_refusal(result: dict[str, Any]) -> None:
    """Why there are no gates to show."""
    for line in result["corrected"]:
        output.note(line)
    words = f"version {result['version']} was refused: it cannot be judged"
    output.console().print(Text(words, style="bold red").append(f"; {result['cannot_be_judged']}", style="not bold"))
    output.say_next("`attune train` or `attune finetune` makes another version")


def _show_judgement(result: dict[str, Any], champion: Promotion | None) -> None:
    """The gates and what they decided."""
    held = result["hold_out"]
    output.table(
        ["gate", "measured", "95 %", "limit", "verdict"],
        [_gate(gate) for gate in result["gates"]],
        title=f"version {result['version']} on {held['events']:,} later events of {held['users']:,} users",
        numbers=[1, 2, 3],
    )
    output.table(["recommender", "NDCG@10", "HR@10", "coverage@10"], _figures(result), numbers=[1, 2, 3])
    for line in result["corrected"]:
        output.note(line)
    output.console().print(_outcome(result, champion))
    advice = _advice(result, champion)
    if advice:
        output.say_next(advice)


def _gate(gate: dict[str, Any]) -> list[Any]:
    between = "" if gate["low"] is None else f"{short(gate['low'])} to {short(gate['high'])}"
    return [
        gate["name"].replace("_", " "),
        short(gate["measured"]),
        between,
        short(gate["limit"]),
        output.verdict(gate["verdict"]),
    ]


def _figures(result: dict[str, Any]) -> list[list[Any]]:
    """The version's own figures first, then those whom the gates compare it with."""
    compared = {title: result["baselines"].get(name) for name, title in COMPARED.items()}
    rows = {f"version {result['version']}": result["metrics"]} | {name: one for name, one in compared.items() if one}
    return [[name, *(found["all"][key] for key in ("ndcg@10", "hr@10", "coverage@10"))] for name, found in rows.items()]


def _outcome(result: dict[str, Any], champion: Promotion | None) -> Text:
    version, stays = result["version"], champion is not None and champion.version == result["version"]
    if result["promoted"]:
        before = f"; version {champion.previous} was it before" if champion and champion.previous else ""
        return Text(f"version {version} is champion now{before}", style="bold green")
    if result["accepted"]:
        return Text(f"version {version} is champion already and still meets its gates: nothing changed", style="bold")
    names = ", ".join(name.replace("_", " ") for name in result["refused_by"])
    words = Text(f"version {version} was refused by: {names}", style="bold red")
    if stays:
        words.append("; it is champion all the same, and goes on answering", style="not bold")
    return words


def _advice(result: dict[str, Any], champion: Promotion | None) -> str:
    """What to do next, '' when nothing suggests itself."""
    if result["accepted"]:
        return "`attune recommend USER` shows what it recommends; `attune rollback` goes back, without gates"
    refusing = [gate for gate in result["gates"] if gate["name"] in result["refused_by"]]
    notes = "; ".join(f"{gate['name'].replace('_', ' ')}: {gate['note']}" for gate in refusing)
    if all(gate["verdict"] == "undecided" and not gate["adverse"] for gate in refusing):
        command = f"`attune promote {result['version']} --accept-undecided`"
        limits = result["limits"]
        if any(gate["measured"] is None for gate in refusing):
            return f"{notes}. To take the risk: {command}"
        few = f"fewer than {limits['min_users']:,} users or {limits['min_events']:,} later events do not decide"
        return f"{few}; wait for more, or take the risk: {command}"
    if champion is not None and champion.version == result["version"]:
        return "`attune rollback` goes back to the champion before it"
    return f"{notes}. Its page in MLflow has everything; `attune train` or `attune finetune` makes another version"
