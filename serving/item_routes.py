"""The routes of items: what is known of one, and its changes."""

import msgspec
from fastapi import APIRouter, Request, Response

from serving.documentation import documented
from serving.errors import JSON, answer
from serving.items import Items
from serving.reading_routes import asked
from serving.routes import read_body
from serving.schemas import ItemBody, ItemRequest, RetireRequest, decode

_BODY = msgspec.json.Decoder(ItemBody)

ITEM = "/v1/items/{item_id:path}"


def item_routes(items: Items) -> APIRouter:
    """What whoever keeps the catalogue asks; an id may have anything in it that an id may have, slashes too."""
    router = APIRouter(default_response_class=JSON)

    @router.put(ITEM, **documented("replace_item"))
    async def replace_item(request: Request) -> Response:
        body = decode(await read_body(request), _BODY)
        return answer(await items.replace(asked(request, ItemRequest).item_id, body))

    @router.patch(ITEM, **documented("change_item"))
    async def change_item(request: Request) -> Response:
        body = decode(await read_body(request), _BODY)
        return answer(await items.change(asked(request, ItemRequest).item_id, body))

    @router.delete(ITEM, **documented("retire_item"))
    async def retire_item(request: Request) -> Response:
        which = asked(request, RetireRequest)
        return answer(await items.retire(which.item_id, which.event_id))

    @router.get(ITEM, **documented("item"))
    async def item(request: Request) -> Response:
        return answer(await items.known(asked(request, ItemRequest).item_id))

    return router
