"""What a model is: frozen dataclasses and the named recipes ``tiny``, ``mini``, ``small`` and ``base``.

A recipe is written whole into the bundle and into the registry, and read back by ``from_dict``.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from attune.errors import ConfigError


@dataclass(frozen=True)
class SequenceConfig:
    """The shape of the sequence network, which reads the ``context`` latest events; ``heads`` divides ``width``.

    ``target_time`` tells it how long after each event the next one came, after the latest one the question. With
    ``item_vectors`` it reads the vectors of items (``models.item_vectors``). ``id_dropout`` is, where there are any,
    the share of a step's items whose ids it is not told, so that it learns to place an item that nobody used.
    """

    width: int = 64
    blocks: int = 2
    heads: int = 2
    context: int = 32
    dropout: float = 0.2
    user_stats: bool = True
    item_stats: bool = True
    target_time: bool = True
    item_vectors: bool = False
    id_dropout: float = 0.0

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "SequenceConfig":
        """What ``dataclasses.asdict`` gave; what an older one lacks is off."""
        return SequenceConfig(**{"item_vectors": False, "id_dropout": 0.0, **values})


@dataclass(frozen=True)
class KnnGrid:
    """What item-kNN is chosen from, on validation.

    ``windows``: events of a user up to this far apart count as one co-occurrence; ``histories``: how many of the
    latest events vote; ``decays``: the vote of an event over that of the next; ``slopes``: how much a vote depends
    on the reward.
    """

    windows: tuple[int, ...] = (50,)
    shrinkages: tuple[float, ...] = (5.0, 20.0)
    histories: tuple[int, ...] = (10, 30)
    decays: tuple[float, ...] = (1.0, 0.8)
    slopes: tuple[float, ...] = (0.25, 0.5)
    neighbours: int = 200


@dataclass(frozen=True)
class EaseGrid:
    """What EASE (``models.ease``) is chosen from, on validation; ``KnnGrid`` says what the votes' settings mean.

    It inverts a dense matrix over the ``items`` most used items: 2,500 take half a second, 5,000 four, and 0.5 GiB.
    """

    penalties: tuple[float, ...] = (300.0, 1000.0)
    histories: tuple[int, ...] = (30, 10)
    decays: tuple[float, ...] = (0.9, 0.8)
    slopes: tuple[float, ...] = (0.25, 0.5)
    neighbours: int = 200
    items: int = 5_000


@dataclass(frozen=True)
class OnlineWeights:
    """The sources that move a slate between two trainings; a weight of 0 leaves one out. Stored as ``felt``.

    Like the mix of the parts both lie in [-1, 1] before they are weighed. Those of ``models.ranking.preference`` cost
    no accuracy on validation (docs/lab-notes.md). The live weight (``attune.item_profile``) cannot be judged offline:
    at 0.2 one reaction moves an item by less than 0.01, a fifth of the policy's temperature, and a hit that everybody
    likes overtakes what stood 0.2 above it, four temperatures.
    """

    preference_step: float = 0.1
    preference_weight: float = 0.05
    live_weight: float = 0.2


WITHOUT_ONLINE = OnlineWeights(preference_weight=0.0, live_weight=0.0)
"""Of a recipe that was stored before there were any."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a hybrid is trained, but the data and the seed.

    ``reward_floor`` is the weight of a target that is worth nothing beside one that is worth all; ``finetune_pull``
    how strongly fine-tuning is drawn back to the champion; ``replay_share`` how many old events it sees for a new
    one; ``validation_groups`` how many questions choices are made on, each ``validate_every_batch``-th batch of
    them after each epoch; ``popularity_days`` the half-lives that popularity and the latest items are chosen from, none
    for those of the data's own scale; ``threads`` torch's, 0 for as many as there are cores. Raises ConfigError for a
    ``loss`` that is not one of ``models.learning.fit.LOSSES``.
    """

    name: str
    network: SequenceConfig = field(default_factory=SequenceConfig)
    epochs: int = 8
    batch: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    loss: str = "sampled"
    negatives: int = 512
    reward_floor: float = 0.5
    finetune_epochs: int = 3
    finetune_rate: float = 3e-3
    finetune_pull: float = 0.1
    replay_share: float = 1.0
    knn: KnnGrid = field(default_factory=KnnGrid)
    ease: EaseGrid = field(default_factory=EaseGrid)
    popularity_days: tuple[float, ...] = ()
    mix_step: float = 0.1
    online: OnlineWeights = field(default_factory=OnlineWeights)
    validation_groups: int = 2000
    validate_every_batch: int = 2
    threads: int = 1

    def __post_init__(self) -> None:
        from models.learning.fit import LOSSES  # torch, which a list of the recipes' names needs not

        if self.loss not in LOSSES:
            raise ConfigError(f"there is no loss {self.loss!r}: choose one of {', '.join(LOSSES)}")

    def as_dict(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        values["felt"] = values.pop("online")
        return values

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Recipe":
        """The recipe that ``as_dict`` wrote. Raises ConfigError for a field that no recipe has."""
        stored = dict(values)
        online = stored.pop("felt", None)

        def grid(name: str) -> dict[str, Any]:
            return {key: tuple(value) if isinstance(value, list) else value for key, value in values[name].items()}

        try:
            return Recipe(
                **{
                    **stored,
                    "network": SequenceConfig.from_dict(values["network"]),
                    "knn": KnnGrid(**grid("knn")),
                    "ease": EaseGrid(**grid("ease")) if "ease" in values else EaseGrid(),
                    "popularity_days": tuple(values["popularity_days"]),
                    "online": WITHOUT_ONLINE if online is None else OnlineWeights(**online),
                }
            )
        except (TypeError, KeyError) as error:
            raise ConfigError(f"no recipe of this version of attune: {error}") from error


def tiny() -> Recipe:
    """For a demo: 80,000 events in a minute of one core."""
    return Recipe("tiny", ease=EaseGrid(items=2_500))


def mini() -> Recipe:
    """For few events: 80,000 in four minutes of one core."""
    shape = SequenceConfig(width=128, heads=4, context=96, dropout=0.3)
    return Recipe("mini", shape, epochs=16, batch=6, learning_rate=1.5e-3)


def small() -> Recipe:
    """For a machine without an accelerator: a million events in 36 minutes of one core."""
    return Recipe("small", SequenceConfig(width=128, heads=4, context=200), epochs=20, batch=8, threads=0)


def base() -> Recipe:
    """For one accelerator."""
    return Recipe(
        "base",
        SequenceConfig(width=256, blocks=4, heads=4, context=200),
        epochs=40,
        batch=128,
        negatives=4096,
        threads=0,
    )


AUTO = "auto"
"""In place of a recipe's name: the one that fits the data, see ``recipe_for``."""

MINI_UPTO, BASE_FROM = 300_000, 1_000_000
"""Events up to which ``mini`` is taken, and from which ``base`` is, where there is an accelerator."""

EVENTS_AN_HOUR = 30_000_000  # ``small`` learns about so many on one core


def recipe_for(events: int, length: int, has_accelerator: bool) -> Recipe:
    """The recipe that fits so many events, where most histories are no longer than ``length``.

    Its context is as long, but no longer than the named recipe's, and a step has as many places as there; without an
    accelerator the epochs end within about an hour of one core.
    """
    if events <= MINI_UPTO:
        chosen = mini()
    elif has_accelerator and events >= BASE_FROM:
        chosen = base()
    else:
        chosen = replace(small(), epochs=max(2, min(small().epochs, EVENTS_AN_HOUR // events)))
    longest = chosen.network.context
    context = min(longest, 16 * max(1, math.ceil(length / 16)))
    batch = math.ceil(chosen.batch * longest / context)
    return replace(chosen, network=replace(chosen.network, context=context), batch=batch)


RECIPES: dict[str, Callable[[], Recipe]] = {"tiny": tiny, "mini": mini, "small": small, "base": base}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name. Raises ConfigError for an unknown one."""
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]()
