"""The demo's side of the HTTP conversation with the endpoint."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from attune.errors import AttuneError
from infra.children import Child
from infra.local import Stack

BATCH = 500
SEED = 7
"""The policy's seed: two slates drawn with it differ only by what the model thinks."""


@dataclass(frozen=True)
class Endpoint:
    """A client of the endpoint at ``url``."""

    url: str
    http: httpx.Client

    def recommend(self, user_id: str, count: int = 10) -> dict[str, Any]:
        """A slate for the user, drawn with the demo's seed."""
        return self._call("POST", "/v1/recommend", {"user_id": user_id, "k": count, "seed": SEED})

    def feedback(self, slate: dict[str, Any], item_id: str, kind: str) -> dict[str, Any]:
        """React to an item of a slate; returns once the reaction is durable."""
        body = {"slate_id": slate["slate_id"], "user_id": slate["user_id"], "item_id": item_id, "kind": kind}
        return self._call("POST", "/v1/feedback", body)

    def send(self, events: Sequence[dict[str, Any]]) -> dict[str, int]:
        """Send behaviour in batches; returns the endpoint's own counts added up."""
        counts = {"accepted": 0, "repeated": 0, "rejected": 0}
        for start in range(0, len(events), BATCH):
            answer = self._call("POST", "/v1/events", {"events": list(events[start : start + BATCH])})
            counts["accepted"] += answer["accepted"]
            counts["repeated"] += answer["repeated"]
            counts["rejected"] += len(answer["rejected"])
        return counts

    def model(self) -> dict[str, Any]:
        """Which version answers."""
        return self._call("GET", "/v1/model", None)

    def wait_for(self, version: str, seconds: float = 60.0) -> float:
        """Wait until the version answers; returns the seconds that it took."""
        start = time.monotonic()
        while self.model()["version"] != version:
            if time.monotonic() - start > seconds:
                raise AttuneError(
                    f"version {version} was promoted, but the endpoint did not load it in {seconds:.0f} s"
                )
            time.sleep(0.1)
        return time.monotonic() - start

    def _call(self, method: str, path: str, body: object) -> dict[str, Any]:
        answer = self.http.request(method, self.url + path, json=body)
        if not answer.is_success:
            raise AttuneError(f"{method} {path} was answered with {answer.status_code}: {answer.text}")
        return dict(answer.json())


def react(endpoint: Endpoint, user_id: str, control_id: str) -> dict[str, Any]:
    """Like one item of the user's slate, dislike two others, look at the next slate; a control user reacts to nothing.

    ``effect_ms`` runs from sending the first reaction to holding the slate that knows all three.
    """
    before, control_before = endpoint.recommend(user_id), endpoint.recommend(control_id)
    shown = [item["item_id"] for item in before["items"]]
    reactions = {shown[0]: "like", shown[1]: "dislike", shown[2]: "dislike"}
    start = time.perf_counter()
    positions = [endpoint.feedback(before, item_id, kind)["position"] for item_id, kind in reactions.items()]
    after = endpoint.recommend(user_id)
    effect_ms = (time.perf_counter() - start) * 1000
    control_after = endpoint.recommend(control_id)
    return {
        "user_id": user_id,
        "reactions": reactions,
        "before": before["items"],
        "after": after["items"],
        "effect_ms": round(effect_ms, 2),
        "acknowledged_position": max(positions),
        "state_position": after["state_position"],
        "control": {"user_id": control_id, "unchanged": control_before["items"] == control_after["items"]},
    }


def start_load(stack: Stack, url: str, users: Sequence[str], requests: int) -> Child:
    """Ask for slates from a process of its own; ``load_result`` waits for its figures."""
    file = stack.settings.var / "load-users.txt"
    file.write_text("\n".join(users))
    command = [sys.executable, "-m", "infra.load", "--url", url, "--users", str(file), "--requests", str(requests)]
    return stack.children.start("load", [*command, "--concurrency", "2"])


def load_result(load: Child) -> dict[str, Any]:
    """The figures of a load (requests, errors, p50_ms, p99_ms), which it prints last."""
    if load.guardian.wait(timeout=300) != 0:
        raise AttuneError(f"the load generator failed; {load.log} ends with:\n{load.last_words()}")
    return dict(json.loads(load.last_words(1)))
