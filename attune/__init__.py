"""attune, the shared vocabulary and the facts; and the name by which notebooks use the whole.

``from attune import Recommender`` is ``infra.library.Recommender``, imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.library import Recommender

__all__ = ["Recommender"]


def __getattr__(name: str) -> Any:
    if name == "Recommender":
        from infra.library import Recommender

        return Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
