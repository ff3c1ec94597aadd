"""The routes of what is read: slates for many users at once, neighbours of items, what is popular, states of users.

Ids stand in the address percent-encoded (a slash as ``%2F``, though a plain one is understood too).
"""

from typing import TypeVar

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.convertors import Convertor, register_url_convertor

from attune.errors import DataContractError
from serving.documentation import documented
from serving.errors import JSON, answer
from serving.reading import Reading
from serving.recommending import Recommending
from serving.routes import read_body
from serving.schemas import BatchRequest, PopularRequest, SimilarRequest, StateRequest, convert, decode
from serving.together import answer_together

Asked = TypeVar("Asked", bound=msgspec.Struct)

_BATCH = msgspec.json.Decoder(BatchRequest)


class Whole(Convertor[str]):
    """Whatever stands in an address: ids with slashes, and those that no id may be are refused by name."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


def reading_routes(recommending: Recommending, reading: Reading) -> APIRouter:
    """What services ask beside the slate of the user at hand."""
    register_url_convertor("id", Whole())
    router = APIRouter(default_response_class=JSON)

    @router.post("/v1/recommend/batch", **documented("recommend_batch"))
    async def recommend_batch(request: Request) -> Response:
        return answer(await answer_together(recommending, decode(await read_body(request), _BATCH)))

    @router.get("/v1/items/{item_id:id}/similar", **documented("similar"))
    async def similar(request: Request) -> Response:
        return answer(await reading.similar(asked(request, SimilarRequest)))

    @router.get("/v1/users/{user_id:id}/state", **documented("state"))
    async def state(request: Request) -> Response:
        return answer(await reading.state(asked(request, StateRequest)))

    @router.get("/v1/popular", **documented("popular"))
    async def popular(request: Request) -> Response:
        return answer(await reading.popular(asked(request, PopularRequest)))

    return router


def asked(request: Request, wanted: type[Asked]) -> Asked:
    """What the address asks for; raises DataContractError naming the field, for one that stands there twice too."""
    given: dict[str, str] = dict(request.path_params)
    for name, value in request.query_params.multi_items():
        if name in given:
            raise DataContractError(f"{name}: stands in the address twice; say it once", name)
        given[name] = value
    return convert(given, wanted)
