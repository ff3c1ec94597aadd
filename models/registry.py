"""The model registry; with ``models.tracking`` (a version's run) the only caller of MLflow here.

A version is a run of the experiment ``attune`` with the bundle as a pyfunc under ``model``. What is champion is
the promotions table's to say; the aliases ``champion`` and ``previous`` follow it, ``challenger`` names what waits.
"""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode

from attune.clock import DAY, Clock, system_clock
from attune.errors import BundleError, ModelError, VersionLost
from attune.promotions import Promotion, bundle_name
from models import model_card
from models.bundle import CONFIG, FILES, FORMAT, MANIFEST, digest_of, git_commit, open_sealed
from models.figures import flat
from models.metrics import Rolling
from models.tracking import ARTIFACT, BENCHES, CARD, EXPERIMENT, NOTE, Runs, verdicts

MODEL = "attune-recommender"
CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
DESCRIPTION = """Made by attune: each version is a recommender that attune trained or fine-tuned.

`champion` is served, `previous` was served before it, `challenger` waits to be judged. The aliases follow attune's
table of promotions: to change the champion use `attune promote` or `attune rollback`. One moved here is put back."""
UNJUDGED = "cannot_be_judged"
"""The tag that says why a version could not be held against the gates."""
BATCH_RUNS, PAGE, TAG_LIMIT = 50, 1_000, 5_000
_PROJECTED = "attune.projected."
_ANOTHER = (
    "version {version} of the registry at {url} is not the bundle that was promoted under this number: the registry "
    "was lost or replaced. Restore its backup (`attune restore`), or start anew under another ATTUNE_ENDPOINT"
)
_GONE = (
    "the registry at {url} has no bundle of version {version} any more: its artifacts were removed or lost. "
    "Restore its backup (`attune restore`)"
)

log = logging.getLogger(__name__)


def expired(versions: Iterable[Mapping[str, Any]], keep: Set[str], now: int, days: int, latest: int) -> list[str]:
    """The versions to remove, the oldest first; ``versions`` as ``Registry.versions`` gives them.

    A version stays that is in ``keep``, not older than so many ``days``, or among the ``latest``. So does one that
    shares its run with a version that stays: the artifacts are the run's.
    """
    by_age = sorted(versions, key=lambda row: int(row["version"]))
    spared = keep | {row["version"] for row in by_age[max(len(by_age) - latest, 0) :]}
    since = now - days * DAY
    runs = {row["run_id"] for row in by_age if row["version"] in spared or row["created_at"] >= since}
    return [row["version"] for row in by_age if row["run_id"] not in runs]


class Judged(Protocol):
    """What the registry records of a judgement (``evaluation.judge.Judgement`` has it)."""

    @property
    def rolling(self) -> Rolling | None: ...
    def as_dict(self) -> dict[str, Any]: ...
    def markdown(self) -> str: ...


class Registry:
    """Versions of ``attune-recommender`` on one MLflow server. Raises ModelError for whatever MLflow refuses."""

    def __init__(self, url: str, clock: Clock = system_clock) -> None:
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self.url, self.clock = url, clock
        self.client = MlflowClient(tracking_uri=url, registry_uri=url)
        self.runs = Runs(self.client, clock)

    def register(
        self,
        bundle_folder: Path,
        training_report: Mapping[str, Any],
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Make a version of a bundle with what is known of its training (``Runs.log_training``); returns its number."""
        config = json.loads((bundle_folder / CONFIG).read_bytes())
        card = model_card.render(config, training_report, parent)
        title = model_card.title(config, parent)
        window, commit = config["window"], config.get("git_commit") or "unknown"
        lineage = {  # in the order in which MLflow's pages show them
            "recipe": str(config["recipe"].get("name")),
            "parent": parent or "",
            "feature_service": config["feature_service"],
            "window": f"{window['first_position']}..{window['last_position']}",
            "trained_upto": str(config["trained_upto"]),
            "git_commit": config.get("git_commit") or git_commit() or "unknown",
            "window_digest": window["digest"],
            "bundle_digest": digest_of(bundle_folder),
        }
        lineage = {name: value for name, value in lineage.items() if value} | dict(tags or {})
        source = {  # by which MLflow's own pages show where a run comes from
            "mlflow.source.name": "attune finetune" if parent else "attune train",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": commit,
            "mlflow.user": "attune",
        }
        with self._wrapped(f"register {bundle_folder.name}"):
            run = self.runs.begin(title, lineage | source)
            run_id = run.info.run_id
            self.runs.log_training(run_id, config, training_report)
            self.client.log_text(run_id, card, CARD)
            self.runs.log_model(run_id, bundle_folder)
            page = model_card.render_page(card, run_id, self.runs.pictures(run_id))
            with _ignored(RESOURCE_ALREADY_EXISTS):
                self.client.create_registered_model(MODEL, description=DESCRIPTION)
            created = self.client.create_model_version(
                MODEL,
                source=f"{run.info.artifact_uri}/{ARTIFACT}",
                run_id=run_id,
                tags=lineage,
                description=page,
                await_creation_for=0,
            )
            version = str(created.version)
            self.runs.tag(run_id, {"version": version, NOTE: page})
            self.client.update_run(run_id, name=f"v{version} {title}")
            self.client.set_terminated(run_id)
        log.info("registered %s version %s from %s", MODEL, version, bundle_folder)
        return version

    def find(self, bundle_folder: Path) -> str | None:
        """The latest version whose artifact is this very bundle, None when there is none."""
        wanted = f"name='{MODEL}' and tags.bundle_digest='{digest_of(bundle_folder)}'"
        with self._wrapped(f"look for {bundle_folder.name}"):
            versions = self._search(wanted)
        return max((str(version.version) for version in versions), key=int, default=None)

    def download(self, version: str, folder: Path, bundle_digest: str | None = None) -> Path:
        """The bundle of a version in a folder of its own below ``folder`` (``attune.promotions.bundle_name``).

        Fetched once, and never seen half-fetched; a folder that is not whole is replaced. Where it is known which
        bundle is meant and it is there, MLflow is not asked. Raises VersionLost when the registry has it no more,
        BundleError when what it has is not what was registered.
        """
        if bundle_digest and _is_bundle(there := folder / bundle_name(version, bundle_digest), bundle_digest):
            return there
        with self._wrapped(f"fetch version {version}"):
            run_id, tags = self._version(version)
            wanted = tags["bundle_digest"]
            if wanted != (bundle_digest or wanted):
                raise VersionLost(_ANOTHER.format(version=version, url=self.url))
            target = folder / bundle_name(version, wanted)
            if _is_bundle(target, wanted):
                return target
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".version-{version}-", dir=folder) as draft:
                bundle = self._artifact(version, run_id, draft)
                if digest_of(bundle) != wanted:
                    raise BundleError(f"the artifact of version {version} is not the bundle that was registered")
                if target.exists():  # altered
                    shutil.rmtree(target)
                try:
                    bundle.rename(target)
                except OSError:  # if another process was first, its equal copy stays
                    if not target.exists():
                        raise
        return target

    def refuse(self, version: str, why: str) -> None:
        """Write on a version that it cannot be judged, and why; nothing on its run, which may be what was lost."""
        with self._wrapped(f"refuse version {version}"):
            self._version(version)
            for name, text in {"accepted": "false", "decision": "refused", UNJUDGED: why[:TAG_LIMIT]}.items():
                self.client.set_model_version_tag(MODEL, version, name, text)

    def record_gates(self, version: str, judgement: Judged) -> None:
        """Write a judgement on its version (a tag a gate, the page) and on its run (see ``Runs.log_judgement``)."""
        record = judgement.as_dict()
        with self._wrapped(f"record the gates of version {version}"):
            run_id, _ = self._version(version)
            for name, text in verdicts(record).items():
                self.client.set_model_version_tag(MODEL, version, name, text)
            self.client.delete_model_version_tag(MODEL, version, UNJUDGED)
            self.runs.log_judgement(run_id, record, judgement.markdown(), judgement.rolling)
            page = model_card.render_page(self.runs.card(run_id), run_id, self.runs.pictures(run_id), record)
            self.client.update_model_version(MODEL, version, page)
            self.runs.tag(run_id, {NOTE: page})

    def record_bench(self, record: Mapping[str, Any], pictures: Sequence[Path]) -> str:
        """A benchmark's record (``benchmarks.record``), figures and pictures as a run of its own; returns its id."""
        with self._wrapped(f"record the benchmark {record['bench']}"):
            source = {"mlflow.source.name": record["command"], "mlflow.source.git.commit": record["commit"]}
            run_id = str(self.runs.begin(record["bench"], source, BENCHES).info.run_id)
            self.client.log_text(run_id, json.dumps(record, indent=1), "record.json")
            self.runs.log_metrics(run_id, flat({figure["name"]: figure["value"] for figure in record["figures"]}))
            for picture in pictures:
                self.client.log_artifact(run_id, str(picture))
            self.client.set_terminated(run_id)
        return run_id

    def tag(self, version: str, name: str, text: str) -> None:
        with self._wrapped(f"tag version {version}"):
            self.client.set_model_version_tag(MODEL, version, name, text)

    def versions(self) -> list[dict[str, Any]]:
        """Every version, the latest first: ``version``, ``tags``, ``run_id``, ``created_at`` (microseconds)."""
        with self._wrapped("list the versions"):
            versions = self._search(f"name='{MODEL}'")
        rows = [
            {
                "version": str(version.version),
                "tags": dict(version.tags),
                "run_id": version.run_id,
                "created_at": int(version.creation_timestamp or 0) * 1_000,
            }
            for version in versions
        ]
        return sorted(rows, key=lambda row: -int(row["version"]))

    def recorded(self, run_ids: Sequence[str]) -> dict[str, tuple[dict[str, str], dict[str, float]]]:
        """The parameters and the last value of each metric of these runs; one that was removed is left out."""
        found: dict[str, tuple[dict[str, str], dict[str, float]]] = {}
        with self._wrapped("read what is recorded of the versions"):
            experiment = self.client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                return found
            for start in range(0, len(run_ids), BATCH_RUNS):
                named = ", ".join(f"'{run_id}'" for run_id in run_ids[start : start + BATCH_RUNS])
                runs = self.client.search_runs([experiment.experiment_id], f"attributes.run_id IN ({named})")
                found |= {run.info.run_id: (dict(run.data.params), dict(run.data.metrics)) for run in runs}
        return found

    def retire(self, keep: Set[str], younger_than_days: int, latest: int) -> list[str]:
        """Remove the versions that the policy keeps no longer (see ``models.registry.expired``); returns them.

        Of each its artifacts go first and the version last, so that a removal that was cut short is done by the next.
        A version that attune did not register stays, and one that an alias has come to name meanwhile.
        """
        ours = [row for row in self.versions() if row["run_id"] and "bundle_digest" in row["tags"]]
        removed = []
        for version in expired(ours, keep | set(self.aliases().values()), self.clock(), younger_than_days, latest):
            if version in self.aliases().values():
                continue
            with self._wrapped(f"remove version {version}"):
                run_id, _ = self._version(version)
                if len(self._search(f"run_id='{run_id}'")) == 1:  # no other version needs the run
                    self.runs.remove(run_id)
                self.client.delete_model_version(MODEL, version)
            log.info("removed %s version %s", MODEL, version)
            removed.append(version)
        return removed

    def aliases(self) -> dict[str, str]:
        """Which version each alias names; empty when nothing is registered."""
        return self._model()[0]

    def challenger(self) -> str:
        """The version that waits to be judged. Raises ModelError when none does."""
        version = self.aliases().get(CHALLENGER)
        if version is None:
            raise ModelError(f"no version of {MODEL} is the challenger: train or fine-tune one first")
        return version

    def point_challenger(self, version: str) -> None:
        with self._wrapped(f"make version {version} the challenger"):
            self.client.set_registered_model_alias(MODEL, CHALLENGER, version)

    def project(self, promotion: Promotion | None) -> list[str]:
        """Make the aliases say what the promotions table says; returns in words what somebody had moved by hand.

        What was last projected is kept as tags, so that an alias which merely lags behind a promotion is told
        from one that was moved: its version then becomes the challenger, to be judged like any other.
        """
        aliases, projected = self._model()
        corrected: list[str] = []
        with self._wrapped("put the aliases right"):
            truth: dict[str, str | None] = {CHAMPION: None, PREVIOUS: None}
            if promotion is not None:  # nothing is named that the registry lost
                if self._has(promotion.version, promotion.bundle_digest):
                    truth[CHAMPION] = promotion.version
                else:
                    corrected.append(_ANOTHER.format(version=promotion.version, url=self.url))
                if promotion.previous is not None and self._has(promotion.previous, None):
                    truth[PREVIOUS] = promotion.previous
            for alias in (PREVIOUS, CHAMPION):
                named, last, right = aliases.get(alias), projected.get(alias), truth[alias]
                if named not in (last, right):
                    moved = f"{alias} had been moved by hand to {named or 'nothing'}; it names {right or 'nothing'}"
                    corrected.append(moved)
                    if named is not None and named != truth[CHAMPION]:
                        aliases[CHALLENGER] = named
                        self.client.set_registered_model_alias(MODEL, CHALLENGER, named)
                if right is not None and named != right:
                    self.client.set_registered_model_alias(MODEL, alias, right)
                elif right is None and named is not None:
                    self.client.delete_registered_model_alias(MODEL, alias)
                if right is not None and last != right:
                    self.client.set_registered_model_tag(MODEL, _PROJECTED + alias, right)
                elif right is None and last is not None:
                    self.client.delete_registered_model_tag(MODEL, _PROJECTED + alias)
            if aliases.get(CHALLENGER) is not None and aliases[CHALLENGER] == truth[CHAMPION]:
                self.client.delete_registered_model_alias(MODEL, CHALLENGER)
        for line in corrected:
            log.warning(line)
        return corrected

    def _has(self, version: str, bundle_digest: str | None) -> bool:
        try:
            _, tags = self._version(version)
        except VersionLost:
            return False
        return bundle_digest in (None, tags["bundle_digest"])

    def _search(self, wanted: str) -> list[ModelVersion]:
        page = self.client.search_model_versions(wanted, max_results=PAGE)
        versions = list(page)
        while page.token:
            page = self.client.search_model_versions(wanted, max_results=PAGE, page_token=page.token)
            versions += page
        return versions

    def _version(self, version: str) -> tuple[str, dict[str, str]]:
        """The run and the tags of a version. Raises ModelError for one that attune did not register."""
        try:
            row = self.client.get_model_version(MODEL, version)
        except MlflowException as error:
            if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise VersionLost(
                    f"the registry at {self.url} has no version {version}: see `attune versions`"
                ) from error
            raise
        if not row.run_id or "bundle_digest" not in row.tags:
            raise ModelError(f"version {version} of {MODEL} was not registered by attune; it has no bundle to serve")
        return row.run_id, dict(row.tags)

    def _artifact(self, version: str, run_id: str, draft: str) -> Path:
        """The bundle among the artifacts of a version, fetched. Raises VersionLost when it lies there no more."""
        try:
            local = self.client.download_artifacts(run_id, f"{ARTIFACT}/data", draft)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
            raise VersionLost(_GONE.format(version=version, url=self.url)) from error
        bundle = next(Path(local).glob(f"*/{MANIFEST}"), None)
        if bundle is None:
            raise VersionLost(_GONE.format(version=version, url=self.url))
        return bundle.parent

    def _model(self) -> tuple[dict[str, str], dict[str, str]]:
        """The aliases, and what was last projected; both empty when nothing is registered."""
        with self._wrapped("read the aliases"), _ignored(RESOURCE_DOES_NOT_EXIST):
            model = self.client.get_registered_model(MODEL)
            last = {name.removeprefix(_PROJECTED): v for name, v in model.tags.items() if name.startswith(_PROJECTED)}
            return {alias: str(version) for alias, version in model.aliases.items()}, last
        return {}, {}

    @contextmanager
    def _wrapped(self, doing: str) -> Iterator[None]:
        """What MLflow raises, as a ModelError that says what was being done and where."""
        try:
            yield
        except (MlflowException, OSError) as error:
            raise ModelError(f"MLflow at {self.url} could not {doing}: {error}") from error


@contextmanager
def _ignored(code: int) -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(code):
            raise


def _is_bundle(folder: Path, bundle_digest: str) -> bool:
    """Whether the folder is the bundle of that digest, every byte of it."""
    try:
        open_sealed(folder, FORMAT, FILES)
        return digest_of(folder) == bundle_digest
    except BundleError:
        return False
