"""The OpenAPI page, made from the same types that decode the bodies: what each route takes and answers."""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from serving import schemas
from serving.authentication import OPEN
from serving.error_responses import JSON

REFERENCE = "#/components/schemas/{name}"
KEYS = "An API key, where the installation asks for one: `attune keys create NAME --scope recommend`."

TURNED_AWAY = {
    "401": "No key was sent, or one that is not known or was revoked.",
    "403": "The key lacks the scope.",
    "429": "More requests than the limit allows.",
}
"""What every route that a key may be needed for answers to those whom the door turns away."""

_STRUCTS = (
    schemas.RecommendRequest,
    schemas.RecommendAnswer,
    schemas.FeedbackRow,
    schemas.FeedbackAnswer,
    schemas.EventsDocumented,
    schemas.EventsAnswer,
    schemas.ModelAnswer,
    schemas.BatchDocumented,
    schemas.BatchAnswer,
    schemas.SimilarAnswer,
    schemas.PopularAnswer,
    schemas.StateAnswer,
    schemas.ItemBody,
    schemas.ItemAnswer,
    schemas.ItemKnown,
    schemas.ErrorAnswer,
)

_REQUEST = "9f86d081884c7d659a2feaa0"
_SLATE = "kXw1b0m3TkqU5p7y2Q9cVg.0fJm6mYw3bqj8vH1sZk2xA"
_SHOWN = {"item_id": "318", "title": "The Shawshank Redemption", "position": 1, "score": 4.21, "propensity": 0.083}

_EXAMPLES: dict[str, dict[str, Any]] = {
    "RecommendRequest": {"user_id": "15", "k": 1, "exclude": ["1"], "seed": 7, "context": {"device": "phone"}},
    "RecommendAnswer": {
        "slate_id": _SLATE,
        "user_id": "15",
        "items": [_SHOWN],
        "model_version": "3",
        "served_by": "champion",
        "state_position": 100_020,
        "policy": {"name": "plackett-luce", "temperature": 0.2, "candidates": 100, "seed": 7},
        "degraded": [],
    },
    "FeedbackRow": {"slate_id": _SLATE, "user_id": "15", "item_id": "318", "kind": "like"},
    "FeedbackAnswer": {"event_id": "0b5e3a52f1c94d2c9a56d1a0f8f2c7aa", "position": 100_021, "status": "accepted"},
    "EventsDocumented": {
        "events": [
            {
                "user_id": "15",
                "item_id": "47",
                "kind": "rating",
                "value": 4.5,
                "event_timestamp": "2026-01-31T12:00:00Z",
            }
        ]
    },
    "EventsAnswer": {
        "accepted": 1,
        "repeated": 0,
        "rejected": [],
        "position": 100_022,
        "event_ids": ["5d0c6f6e3d0b4b0f8a5c7a0f7f2b9d11"],
    },
    "ModelAnswer": {
        "endpoint": "default",
        "log_id": "2f1c6b9c7f0e4d0bb7b1a4d2f3e5a697",
        "served_by": "champion",
        "version": "3",
        "previous": "2",
        "fence": 5,
        "promoted_at": "2026-01-31T11:58:00+00:00",
        "loaded_at": "2026-01-31T11:58:01.250000+00:00",
        "items": 9_066,
        "config": {"format": "attune-bundle/1"},
    },
    "ErrorAnswer": {"error": {"message": "k: Expected `int` <= 100", "field": "k", "request_id": _REQUEST}},
}

_EXAMPLES |= {
    "BatchDocumented": {"requests": [{"user_id": "15", "k": 1}, {"user_id": "16", "k": 1_000}]},
    "BatchAnswer": {
        "answers": [
            {"slate": _EXAMPLES["RecommendAnswer"], "error": None},
            {"slate": None, "error": _EXAMPLES["ErrorAnswer"]["error"]},
        ]
    },
    "SimilarAnswer": {
        "item_id": "318",
        "title": "The Shawshank Redemption",
        "model_version": "3",
        "items": [{"item_id": "527", "title": "Schindler's List", "similarity": 0.93}],
    },
    "PopularAnswer": {
        "counted_by": "champion",
        "model_version": "3",
        "items": [{"item_id": "318", "title": "The Shawshank Redemption", "score": 1.0}],
    },
    "StateAnswer": {
        "user_id": "15",
        "position": 100_021,
        "events": 1,
        "first_event_at": "2026-01-31T12:00:00+00:00",
        "last_event_at": "2026-01-31T12:00:00+00:00",
        "recent": [
            {
                "event_id": "0b5e3a52f1c94d2c9a56d1a0f8f2c7aa",
                "item_id": "318",
                "title": "The Shawshank Redemption",
                "kind": "like",
                "value": None,
                "event_timestamp": "2026-01-31T12:00:00+00:00",
                "position": 100_021,
                "retracted": False,
            }
        ],
        "seen": 1,
        "counts": {"like": 1},
        "attributes": {"language": "en"},
        "snapshot_position": 0,
        "snapshot_from": None,
        "tail": 1,
        "degraded": [],
    },
}

_ATTRIBUTES = {"title": "The Shawshank Redemption", "year": 1994, "genres": ["Crime", "Drama"], "available": True}
_EXAMPLES |= {
    "ItemBody": {"attributes": _ATTRIBUTES},
    "ItemAnswer": {
        "item_id": "318",
        "attributes": _ATTRIBUTES,
        "event_id": "7d1f2e0b3c4a4f65a1c7e9d80b6a5f43",
        "position": 100_023,
        "status": "accepted",
    },
    "ItemKnown": {
        "item_id": "318",
        "attributes": _ATTRIBUTES,
        "position": 100_023,
        "shown": True,
        "learned": True,
    },
}

_UNKNOWN = "Nothing is known of the item."
_TAKEN = {
    409: "The event id is taken by other content.",
    422: "A field is wrong.",
    503: "The event log is busy: nothing was acknowledged, send the same request again.",
}
_TOO_LARGE = {413: "The body is larger than 1 MiB."}

_WHAT: dict[str, dict[str, Any]] = {
    "recommend": {
        "summary": "A slate of items for a user, reflecting all that was acknowledged before",
        "body": "RecommendRequest",
        "answer": "RecommendAnswer",
        "errors": {413: "The body is larger than 1 MiB.", 422: "A field is wrong.", 503: "Ask again in a moment."},
    },
    "feedback": {
        "summary": "A reaction to an item of a slate; acknowledged once it is durable",
        "body": "FeedbackRow",
        "answer": "FeedbackAnswer",
        "errors": {
            409: "The event id is taken by other content.",
            413: "The body is larger than 1 MiB.",
            422: "A field is wrong; an invented slate is refused here.",
            503: "The event log is busy: nothing was acknowledged, send the same event again.",
        },
    },
    "events": {
        "summary": "Behaviour outside slates, up to 1,000 rows; acknowledged once it is durable",
        "body": "EventsDocumented",
        "answer": "EventsAnswer",
        "errors": {
            409: "A single row whose event id is taken by other content.",
            413: "The body is larger than 1 MiB.",
            422: "The body or a single row is wrong.",
            503: "The event log is busy: nothing was acknowledged, send the same events again.",
        },
    },
    "recommend_batch": {
        "summary": "Slates for up to 100 users; one request that is wrong is refused in its place and costs no other",
        "body": "BatchDocumented",
        "answer": "BatchAnswer",
        "errors": {413: "The body is larger than 1 MiB.", 422: "The body is wrong.", 503: "Ask again in a moment."},
    },
    "similar": {
        "summary": "The items nearest to one by the champion's vectors, compared with all",
        "asked": schemas.SimilarRequest,
        "answer": "SimilarAnswer",
        "errors": {
            404: "The champion does not know the item.",
            422: "A field is wrong.",
            503: "No champion answers, or ask again in a moment.",
        },
    },
    "state": {
        "summary": "What is known of a user as of now, and where it was read",
        "asked": schemas.StateRequest,
        "answer": "StateAnswer",
        "errors": {422: "A field is wrong.", 503: "Ask again in a moment."},
    },
    "popular": {
        "summary": "What is popular now: by the champion, or by the log's counts without one",
        "asked": schemas.PopularRequest,
        "answer": "PopularAnswer",
        "errors": {422: "A field is wrong.", 503: "Nothing is loaded yet, or ask again in a moment."},
    },
    "item": {
        "summary": "What is known of an item, and whether it is shown",
        "asked": schemas.ItemRequest,
        "answer": "ItemKnown",
        "errors": {404: _UNKNOWN, 422: "A field is wrong.", 503: "Ask again in a moment."},
    },
    "replace_item": {
        "summary": "All that is known of an item from now on; a new one may be recommended at the next request",
        "asked": schemas.ItemRequest,
        "body": "ItemBody",
        "answer": "ItemAnswer",
        "errors": {404: "No item can have such an id."} | _TAKEN | _TOO_LARGE,
    },
    "change_item": {
        "summary": "Other values for some of an item's attributes; null takes one away",
        "asked": schemas.ItemRequest,
        "body": "ItemBody",
        "answer": "ItemAnswer",
        "errors": {404: _UNKNOWN} | _TAKEN | _TOO_LARGE,
    },
    "retire_item": {
        "summary": "An item is shown to nobody from now on; what was known of it is kept, with `retired: true`",
        "asked": schemas.RetireRequest,
        "answer": "ItemAnswer",
        "errors": {404: _UNKNOWN} | _TAKEN,
    },
    "model": {"summary": "What answers now", "answer": "ModelAnswer"},
    "healthz": {"summary": "200 while the process lives"},
    "readyz": {
        "summary": "200 when the event log answers and a model, or the popularity fallback, is loaded",
        "errors": {503: "What is missing."},
    },
    "metrics": {"summary": "Prometheus' text format", "media": "text/plain", "schema": {"type": "string"}},
}


def documented(name: str) -> dict[str, Any]:
    """The keyword arguments that make FastAPI's route decorator document the route of that name."""
    what = _WHAT[name]
    media = what.get("media", "application/json")
    answered = (
        _content(what["answer"]) if "answer" in what else {"content": {media: {"schema": what.get("schema", {})}}}
    )
    responses: dict[int | str, dict[str, Any]] = {200: {"description": "The answer.", **answered}}
    for status, meaning in what.get("errors", {}).items():
        responses[status] = _error(meaning)
    extra: dict[str, Any] = {}
    if "body" in what:
        extra["requestBody"] = {"required": True, **_content(what["body"])}
    if "asked" in what:
        extra["parameters"] = _parameters(what["asked"])
    return {
        "name": name,
        "response_class": PlainTextResponse if media == "text/plain" else JSON,
        "operation_id": name,
        "summary": what["summary"],
        "responses": responses,
        "openapi_extra": extra or None,
    }


def install(app: FastAPI) -> None:
    """Add the types' schemas to the app's OpenAPI page."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        fresh = app.openapi_schema is None
        page = generate()
        if fresh:
            _, components = msgspec.json.schema_components(_STRUCTS, ref_template=REFERENCE)
            page.setdefault("components", {}).setdefault("schemas", {}).update(components)
            _say_who_needs_a_key(page)
        return page

    app.openapi = openapi  # type: ignore[method-assign]


def _say_who_needs_a_key(page: dict[str, Any]) -> None:
    """A key may be given with each request, except where none is looked at; an installation may do without."""
    page["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": KEYS}}
    page["security"] = [{"key": []}, {}]
    for path, ways in page["paths"].items():
        for operation in ways.values():
            if path in OPEN:
                operation["security"] = []
            else:
                refusals = {status: _error(meaning) for status, meaning in TURNED_AWAY.items()}
                operation["responses"] = {**refusals, **operation["responses"]}


def _parameters(asked: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """A struct's fields as parameters: those that are needed stand in the path, the others behind it."""
    schema = msgspec.json.schema(asked)["$defs"][asked.__name__]
    return [
        {
            "name": name,
            "in": "path" if name in schema.get("required", []) else "query",
            "required": name in schema.get("required", []),
            "description": what["description"],
            "schema": {key: value for key, value in what.items() if key != "description"},
        }
        for name, what in schema["properties"].items()
    ]


def _error(meaning: str) -> dict[str, Any]:
    return {"description": meaning, **_content("ErrorAnswer")}


def _content(name: str) -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(name=name)}
    return {"content": {"application/json": {"schema": schema, "example": _EXAMPLES[name]}}}
