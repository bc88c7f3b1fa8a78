"""A shop with a room and a host, on a real ledger; what the room would be told is written down."""

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.clock import SystemClock
from gateway.domain.caller import Caller, Role
from gateway.domain.drafts import Effect, ItemDraft, RoomDraft, SaleDraft, fingerprint
from gateway.domain.ids import IdMint
from gateway.domain.live import RoomChange
from gateway.domain.room import Room
from gateway.domain.sale import Sale
from gateway.errors import HotUnavailable, NotFound
from gateway.flows.acts import Acts
from gateway.flows.moderate import Moderate
from gateway.flows.room_book import RoomBook
from gateway.flows.room_telling import RoomTelling
from gateway.flows.rooms import Rooms
from gateway.flows.steer_room import SteerRoom
from gateway.ledger.comments import LedgerComments
from gateway.ledger.moderation import LedgerModeration
from gateway.ledger.pool import Ledger
from gateway.ledger.room_acts import LedgerActs
from gateway.ledger.rooms import LedgerRooms
from gateway.ledger.sales import LedgerSales
from gateway.ledger.shards import LedgerShards
from gateway.ledger.shops import Shops

HOST = Caller(shop="tins", sub="host", role=Role.HOST, expires_at_s=0)
VIEWER, OTHER_VIEWER = "vw_" + "a1" * 9, "vw_" + "b2" * 9


@dataclass
class Told:
    """In the place of what tells rooms over Valkey."""

    changes: list[tuple[str, RoomChange]] = field(default_factory=list)
    is_away: bool = False
    meanwhile: Coroutine[Any, Any, object] | None = None
    """Happens while the next change is on its way."""

    async def change(self, room: Room, change: RoomChange) -> None:
        if self.is_away:
            raise HotUnavailable("away")
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile
        self.changes.append((room.room, change))

    async def tell(self, room: str, events: Any, *, at_once: bool = False) -> None:
        self.changes.append((room, RoomChange(events=list(events), at_once=at_once)))

    async def viewers(self, room_no: int) -> int:
        return 0

    def take(self) -> list[RoomChange]:
        """What was told since the last time."""
        taken = [change for _, change in self.changes]
        self.changes.clear()
        return taken


class FoundSales:
    """In the place of `gateway.flows.sales.Sales`, which also asks Valkey."""

    def __init__(self, sales: LedgerSales, mint: IdMint) -> None:
        self._sales = sales
        self._mint = mint

    async def find(self, caller: Caller, sale_id: str) -> Sale:
        number = self._mint.read_sale(sale_id)
        sale = None if number is None else await self._sales.find(number)
        if sale is None or sale.shop != caller.shop:
            raise NotFound("There is no such sale in this shop.")
        return sale


class Unpublished:
    async def publish(self, message: bytes) -> None:
        pass


@dataclass
class Floor:
    ledger: Ledger
    mint: IdMint
    ledger_rooms: LedgerRooms
    ledger_sales: LedgerSales
    moderation: LedgerModeration
    told: Told
    rooms: Rooms
    steer: SteerRoom
    moderate: Moderate
    acts: Acts
    room: Room

    async def make_room(self, title: str, *, shop: str = "tins") -> Room:
        draft = RoomDraft(title=title)
        return (await self.ledger_rooms.create(shop, draft, Effect("host", "room", title, fingerprint(draft)))).room

    async def make_sale(self, room: Room) -> Sale:
        item = ItemDraft(sku="tin", title="A tin", price_minor=1900, stock=5, limit_per_viewer=2)
        draft = SaleDraft(
            title="Tins",
            currency="CNY",
            opens_at_ms=1_500_000_000_000,
            closes_at_ms=4_000_000_000_000,
            items=(item,),
            room=room.room,
        )
        effect = Effect("host", "sale", room.title, fingerprint(draft))
        return (await self.ledger_sales.create(room.shop, draft, effect)).sale

    async def say(
        self,
        text: str,
        *,
        n: int,
        viewer: str = VIEWER,
        name: str = "Ann",
        at_ms: int = 1_000,
        epoch: int = 70_000,
    ) -> str:
        """Puts a comment into the archive; its id."""
        await self.ledger.execute(
            "INSERT INTO comments (room_no, epoch, n, at_ms, viewer, sub, name, text) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)",
            *(self.room.room_no, epoch, n, at_ms, viewer, "ann", name, text),
        )
        return self.mint.comment(at_ms, self.room.room_no, epoch, n)

    async def log(self, *, of: Room | None = None) -> list[tuple[str, Any, Any]]:
        """(act, before, after) of the room, oldest first."""
        acts, _ = await self.acts.of_room(HOST, (of or self.room).room, limit=200, after=None)
        return [(act.act, act.before, act.after) for act in reversed(acts)]


@asynccontextmanager
async def moderating(database_url: str) -> AsyncIterator[Floor]:
    ledger = await Ledger.connect(database_url, size=8)
    try:
        await LedgerShards(ledger).ensure(1)
        async with Shops.connect(database_url) as shops:
            for shop in ("tins", "cups"):
                await shops.create(shop)
        mint = IdMint(await LedgerShards(ledger).id_key())
        clock, told = SystemClock(), Told()
        ledger_rooms, ledger_sales = LedgerRooms(ledger, mint), LedgerSales(ledger, mint)
        rooms = Rooms(
            ledger=ledger_rooms,
            sales=ledger_sales,
            book=RoomBook(rooms=ledger_rooms, mint=mint, clock=clock),
            publisher=Unpublished(),
            news=told,
            crowd=told,
            mint=mint,
            clock=clock,
        )
        moderation = LedgerModeration(ledger)
        telling = RoomTelling(ledger=moderation, rooms=rooms, news=told)
        draft = RoomDraft(title="Show")
        made = await ledger_rooms.create("tins", draft, Effect("host", "room", "Show", fingerprint(draft)))
        yield Floor(
            ledger=ledger,
            mint=mint,
            ledger_rooms=ledger_rooms,
            ledger_sales=ledger_sales,
            moderation=moderation,
            told=told,
            rooms=rooms,
            steer=SteerRoom(
                ledger=moderation,
                rooms=rooms,
                sales=FoundSales(ledger_sales, mint),
                comments=LedgerComments(ledger),
                telling=telling,
                mint=mint,
                clock=clock,
            ),
            moderate=Moderate(ledger=moderation, rooms=rooms, telling=telling, mint=mint),
            acts=Acts(ledger=LedgerActs(ledger), rooms=rooms),
            room=made.room,
        )
    finally:
        await ledger.close()
