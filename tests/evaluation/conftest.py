"""The worlds that these tests share."""

from model_worlds import *  # noqa: F403
