"""The panel: a fixed tenth of the users whose events teach no model, so that they can judge every one.

An event of theirs is never a target and never part of a history in training, never counts for item-kNN or popularity
and never decides a choice. The items' statistics are counted over everybody: they are facts about the item,
computed before any model (``features.stats``), and serving has the same. So the panel is felt in one way: as a share
of the counts that stand beside an item.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

PANEL_SHARE = 0.1


def is_panel(user_ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """For each user id whether it belongs to the panel: by a hash of the id alone, for ever the same."""
    edge = int(PANEL_SHARE * 2**64)
    digests = (hashlib.blake2b(b"attune-panel:" + str(one).encode(), digest_size=8).digest() for one in user_ids)
    return np.fromiter((int.from_bytes(digest, "big") < edge for digest in digests), bool, len(user_ids))
