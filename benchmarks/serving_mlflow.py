"""The endpoint against ``mlflow models serve`` with the same model, at equal connections and one worker each."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from attune.columns import Columns
from attune.settings import Settings
from attune.user_state import UserState
from benchmarks import serving_load, serving_world
from benchmarks.record import Figure, at_least, at_most, just
from benchmarks.serving_load import Load
from features.feature_store import FeatureStore
from infra.local_stack import Stack
from infra.platform.addresses import free_port
from infra.platform.parts import answers
from models.pyfunc import HISTORY
from models.registry import Registry

CONNECTIONS, SECONDS = 16, 20.0
FASTER, FASTER_KNOWN = 5.0, 10.0
WARM = 50
USERS = 2_000
READ = 100


def measure(seed: int) -> list[Figure]:
    """4.2: MLflow's server is sent each user's history, the endpoint finds it itself, and logs the slate."""
    with TemporaryDirectory(prefix="attune-mlflow-") as folder:
        settings = serving_load.free_settings(Path(folder), cached_users=0)
        serving_world.build(settings, serving_world.Size(users=USERS), seed)
        users = [f"u{user}" for user in range(USERS)]
        bodies = [json.dumps({"user_id": user}) for user in users]
        with served_by_mlflow(settings, saved(settings)) as (url, server):
            theirs = _loaded(url, invocations(settings, users), server, WARM)
        figures = [
            just(f"4.2 requests/s of mlflow models serve at {CONNECTIONS} connections", theirs.per_second),
            just("4.2 p50 ms of mlflow models serve", theirs.p50, theirs.failed),
            just("4.2 p99 ms of mlflow models serve", theirs.p99),
        ]
        for name, cached, limit in (("", 0, FASTER), (", known users", 10_000, FASTER_KNOWN)):
            asked = settings.model_copy(update={"cached_users": cached})
            with serving_load.endpoint(asked) as server:
                url = f"http://127.0.0.1:{asked.serving_port}/v1/recommend"
                ours = _loaded(url, bodies, server, len(bodies) if cached else WARM)
            figures += _compared(ours, theirs, limit, name)
    return figures


def _compared(ours: Load, theirs: Load, limit: float, name: str) -> list[Figure]:
    return [
        just(f"4.2 requests/s of the endpoint at {CONNECTIONS} connections{name}", ours.per_second),
        just(f"4.2 p50 ms of the endpoint{name}", ours.p50, ours.failed),
        just(f"4.2 p99 ms of the endpoint{name}", ours.p99),
        at_least(
            f"4.2 requests/s against mlflow models serve, times{name}", ours.per_second / theirs.per_second, limit
        ),
        at_most(f"4.2 p99 against mlflow models serve, times{name}", ours.p99 / theirs.p99, 1.0),
    ]


def _loaded(url: str, bodies: Sequence[str], server: psutil.Process, warm: int) -> Load:
    serving_load.ask(url, bodies[:warm])
    return serving_load.wrk(url, bodies, server, CONNECTIONS, SECONDS)


def saved(settings: Settings) -> Path:
    """The champion's bundle as MLflow keeps it, registered with a server of ours as ever; the model's folder."""
    (bundle,) = (one for one in settings.bundles_folder.iterdir() if one.name != "made")
    with Stack(settings) as stack:
        stack.start("mlflow")
        stack.wait()
        Registry(stack.settings.mlflow_url).register(bundle, {})
    (model,) = settings.mlflow_folder.rglob("MLmodel")
    return model.parent


@contextmanager
def served_by_mlflow(settings: Settings, model: Path) -> Iterator[tuple[str, psutil.Process]]:
    """MLflow's scoring server on a free port, as MLflow starts it by itself: its address and its process."""
    port, programs = free_port(), str(Path(sys.executable).parent)
    told = {"PATH": os.pathsep.join((programs, os.environ["PATH"])), "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model), "--env-manager", "local"]
    with serving_load.running(settings.logs_folder) as children:
        child = children.start(
            "mlflow-models", [*command, "--workers", "1", "--host", "127.0.0.1", "--port", str(port)], told
        )
        child.wait_until(partial(answers, f"http://127.0.0.1:{port}/ping"))
        yield f"http://127.0.0.1:{port}/invocations", psutil.Process(child.reaper.pid).children(recursive=True)[-1]


def invocations(settings: Settings, users: Sequence[str]) -> list[str]:
    """Bodies for MLflow's server: of each user the history that Feast holds."""
    store, found = FeatureStore(settings), dict[str, UserState]()
    for start in range(0, len(users), READ):
        found |= store.states(users[start : start + READ])
    return [
        json.dumps({"dataframe_split": {"columns": [HISTORY], "data": [[_history(found[user])]]}}) for user in users
    ]


def _history(state: UserState) -> str:
    return json.dumps(
        [
            {Columns.ITEM_ID: one.item_id, Columns.KIND: one.kind, Columns.EVENT_TIMESTAMP: one.time}
            for one in state.recent
        ]
    )
