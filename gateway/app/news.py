"""What tells shops of what happened: the keeper's followers of the news, and the sender of its events."""

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from gateway.app.base import Base, room_live_url
from gateway.domain.links import LinkSeal
from gateway.flows.order_people import OrderPeople
from gateway.hot.server_state import ServerState
from gateway.keeper.clocks import Clocks
from gateway.ledger.customers import LedgerCustomers
from gateway.ledger.links import LedgerLinks
from gateway.ledger.news import LedgerNews
from gateway.ledger.orders import LedgerOrders
from gateway.ledger.pickups import LedgerPickups
from gateway.ledger.rooms import LedgerRooms
from gateway.ledger.sales import LedgerSales
from gateway.ledger.webhooks import LedgerDeliveries
from gateway.webhooks.follower import Follower
from gateway.webhooks.object_follower import ObjectFollower
from gateway.webhooks.post import poster
from gateway.webhooks.sender import Sender


class Telling(NamedTuple):
    sender: Sender
    follower: Follower
    objects: ObjectFollower

    def works(self) -> list[Coroutine[Any, Any, None]]:
        return [self.follower.run(), self.objects.run(), self.sender.run(), self.sender.measure()]


@asynccontextmanager
async def telling_shops(base: Base, *, server: ServerState, clocks: Clocks) -> AsyncIterator[Telling]:
    settings = base.settings
    news, sales = LedgerNews(base.ledger), LedgerSales(base.ledger, mint=base.mint)
    people = OrderPeople(
        links=LedgerLinks(base.ledger, LinkSeal(base.id_key)),
        pickups=LedgerPickups(base.ledger),
        customers=LedgerCustomers(base.ledger),
    )
    async with poster(clock=base.clock, private=settings.webhook_private, dev=settings.dev) as post:
        sender = Sender(deliveries=LedgerDeliveries(base.ledger), post=post, clock=base.clock)
        follower = Follower(
            news=news,
            orders=LedgerOrders(base.ledger),
            sales=sales,
            people=people,
            shards=sorted(base.hot),
            wake=sender.wake,
        )
        objects = ObjectFollower(
            news=news,
            rooms=LedgerRooms(base.ledger, mint=base.mint),
            sales=sales,
            hot=base.hot,
            server=server,
            clocks=clocks,
            live_url=room_live_url(settings),
            wake=sender.wake,
        )
        yield Telling(sender, follower, objects)
