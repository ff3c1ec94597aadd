"""The endpoint's routes over nothing: what they declare can be read, none can be called."""

from typing import Any, cast

from fastapi import APIRouter

from attune.schemas import ModelAnswer
from serving.authentication import RouteScopes
from serving.ingestion import IngestionService
from serving.items import ItemService
from serving.lookups import LookupService
from serving.recommendation import RecommendationService
from serving.routes import item_routes, operator_routes, user_routes


async def model() -> ModelAnswer:
    raise NotImplementedError


def bare_routers() -> list[APIRouter]:
    """All routers; classes stand in for the services, whose methods say what the routes take."""
    recommendation, ingestion = cast(Any, RecommendationService), cast(Any, IngestionService)
    items, lookups = cast(Any, ItemService), cast(Any, LookupService)
    return [
        user_routes(recommendation, ingestion, lookups),
        item_routes(items, lookups),
        operator_routes(model, cast(Any, None), bytes),
    ]


def route_scopes() -> RouteScopes:
    """The scopes that the routes declare."""
    return RouteScopes(route for router in bare_routers() for route in router.routes)
