"""The acts of hosts on a sale; the words are those of `lua/control_sale.lua`."""

from enum import StrEnum


class Act(StrEnum):
    OPEN = "open"
    PAUSE = "pause"
    RESUME = "resume"
    CLOSE = "close"
    STOCK = "stock"
    PRICE = "price"
