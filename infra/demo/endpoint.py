"""The demo's requests to the endpoint: slates, feedback, behaviour, and load."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from attune.client import Client
from attune.errors import AttuneError
from attune.schemas import RecommendAnswer
from infra.child_processes import ChildProcess, log_end
from infra.local_stack import Stack

SEED = 7  # the policy's seed: two slates drawn with it differ only by what the model thinks


@dataclass(frozen=True)
class Endpoint:
    """The endpoint, asked for slates that are all drawn with one seed."""

    client: Client

    def recommend(self, user_id: str) -> RecommendAnswer:
        return self.client.recommend(user_id, seed=SEED)

    def send(self, events: Sequence[dict[str, Any]]) -> dict[str, int]:
        """Send behaviour; returns the endpoint's counts."""
        answer = self.client.events(events)
        return {"accepted": answer.accepted, "repeated": answer.repeated, "rejected": len(answer.rejected)}

    def wait_for(self, version: str, seconds: float = 60.0) -> float:
        """Wait until the version answers; returns the seconds that it took."""
        start = time.monotonic()
        while self.client.model().version != version:
            if time.monotonic() - start > seconds:
                raise AttuneError(f"the endpoint did not load the promoted version {version} in {seconds:.0f} s")
            time.sleep(0.1)
        return time.monotonic() - start


SHARED = 0.02
"""What one person's reactions may do to the scores of others, through what everybody says of the items: one reaction
moves an item by less than 0.01 (``models.network.config.OnlineWeights``)."""


def react(endpoint: Endpoint, user_id: str, control_id: str) -> dict[str, Any]:
    """Like one item of the user's slate, dislike two others, look at the next slate; a control user reacts to nothing.

    ``effect_ms`` runs from sending the first reaction to holding the slate that knows all three. The control's slate is
    ``unchanged`` where it is of the same state, and no score is another one but for what everybody says.
    """
    before, control_before = endpoint.recommend(user_id), endpoint.recommend(control_id)
    slate_id, shown = str(before.slate_id), [item.item_id for item in before.items]
    reactions = {shown[0]: "like", shown[1]: "dislike", shown[2]: "dislike"}
    start = time.perf_counter()
    taken = [endpoint.client.feedback(slate_id, user_id, item_id, kind) for item_id, kind in reactions.items()]
    after = endpoint.recommend(user_id)
    effect_ms = (time.perf_counter() - start) * 1000
    control_after = endpoint.recommend(control_id)
    scores = {item.item_id: item.score for item in control_before.items}
    moved = [abs(item.score - scores[item.item_id]) for item in control_after.items if item.item_id in scores]
    same_state = control_before.state_position == control_after.state_position
    unchanged = same_state and bool(moved) and max(moved) < SHARED
    return {
        "user_id": user_id,
        "reactions": reactions,
        "before": msgspec.to_builtins(before.items),
        "after": msgspec.to_builtins(after.items),
        "effect_ms": round(effect_ms, 2),
        "acknowledged_position": max(answer.position for answer in taken),
        "state_position": after.state_position,
        "control": {"user_id": control_id, "unchanged": unchanged},
    }


def start_load(stack: Stack, users: Sequence[str], requests: int) -> ChildProcess:
    """Ask for slates from a process of its own; ``load_result`` waits for its figures."""
    file = stack.settings.var / "load-users.txt"
    file.write_text("\n".join(users))
    command = [sys.executable, "-m", "infra.load", "--url", stack.endpoint_url, "--users", str(file)]
    return stack.processes.start("load", [*command, "--requests", str(requests), "--concurrency", "2"])


def load_result(load: ChildProcess) -> dict[str, Any]:
    """The figures of a load (requests, errors, p50_ms, p99_ms), which it prints last."""
    if load.reaper.wait(timeout=300) != 0:
        raise AttuneError(f"the load generator failed; {log_end(load.log)}")
    return dict(json.loads(load.log.read_text().splitlines()[-1]))
