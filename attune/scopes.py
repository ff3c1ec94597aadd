"""The scopes of API keys: what a key may open. Which route needs which stands in ``serving.keys``."""

ADMIN = "admin"

SCOPES = {
    "recommend": "ask for recommendations, and read what stands behind them",
    "feedback": "report what people did",
    "items": "describe items, change them and take them out",
    "metrics": "read the figures at /metrics",
    ADMIN: "everything",
}
"""Every scope with what it opens."""
