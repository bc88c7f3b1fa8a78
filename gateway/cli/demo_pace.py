"""How often what happens in the show of `peakgate demo --keep`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """In seconds."""

    sale_s: float = 3300.0
    """A sale lasts less than the hour that its host's token does; the next one follows."""
    between_sales_s: float = 5.0
    looks_every_s: float = 3.0
    """At the room and the sale, as a host does."""
    order_every_s: float = 1.4
    pays_after_s: tuple[float, float] = (4.0, 45.0)
    pay_within_s: int = 120
    collects_after_s: tuple[float, float] = (20.0, 90.0)
    price_step_s: float = 180.0
    pin_every_s: float = 60.0
    coupon_every_s: float = 90.0
    coupon_for_s: int = 40
    coupon_valid_s: float = 600.0
    announces_every_s: float = 110.0
    comes_within_s: float = 4.0
    stay_s: tuple[float, float] = (90.0, 600.0)
    away_s: float = 25.0
