"""The panel: a fixed tenth of the users whose events never train anything, so that they can judge every model."""

import hashlib
from collections.abc import Sequence

import numpy as np

PANEL_SHARE = 0.1


def is_panel(user_ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """For each user id whether it belongs to the panel: by a hash of the id alone, for ever the same."""
    edge = int(PANEL_SHARE * 2**64)
    digests = (hashlib.blake2b(b"attune-panel:" + str(one).encode(), digest_size=8).digest() for one in user_ids)
    return np.fromiter((int.from_bytes(digest, "big") < edge for digest in digests), bool, len(user_ids))
