"""The sales this process knows."""

from typing import Protocol

from gateway.clock import Clock
from gateway.domain.ids import IdMint
from gateway.domain.sale import Sale
from gateway.flows.book import Book


class Sales(Protocol):
    async def find(self, sale_no: int) -> Sale | None: ...


class SaleBook(Book[Sale]):
    def __init__(self, *, sales: Sales, mint: IdMint, clock: Clock) -> None:
        super().__init__(
            find=sales.find,
            read_id=mint.read_sale,
            id_of=lambda sale: sale.sale,
            missing="There is no such sale in this shop.",
            clock=clock,
        )
