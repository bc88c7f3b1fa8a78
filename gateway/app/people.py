"""Links, bookings and pickups."""

from gateway.admission.limiter import Limiter
from gateway.app.edge import Edge
from gateway.domain.links import LinkSeal
from gateway.flows.bookings import Bookings
from gateway.flows.links import Links
from gateway.flows.order_people import OrderPeople
from gateway.flows.pickups import RedeemPickup
from gateway.ledger.bookings import LedgerBookings
from gateway.ledger.customers import LedgerCustomers
from gateway.ledger.links import LedgerLinks
from gateway.ledger.pickups import LedgerPickups

# A tap on the page of a show, now and then taken back.
BOOKINGS_PER_S, BOOKINGS_BURST = 2.0, 10
# A till reads a code a second at most, and somebody mistypes one.
REDEEMS_PER_S, REDEEMS_BURST = 5.0, 20
FAILED_REDEEMS_PER_S, FAILED_REDEEMS_BURST = 0.2, 10
# Of all tills of a shop at one process. A code is one of 2^50: who guesses at this rate all year, while 10,000 codes
# wait to be redeemed, hits one with a chance of 1 in 3,500; a single caller, with a fifth of the rate, of 1 in 18,000.
FAILED_OF_SHOP_PER_S, FAILED_OF_SHOP_BURST = 1.0, 50


class People:
    """Who brings viewers, who waits for a show, who comes for what was paid: a part of the HTTP edge alone."""

    def __init__(self, edge: Edge) -> None:
        base = edge.base
        links, pickups = LedgerLinks(base.ledger, LinkSeal(base.id_key)), LedgerPickups(base.ledger)
        self.of_orders = OrderPeople(links=links, pickups=pickups, customers=LedgerCustomers(base.ledger))
        self.links = Links(ledger=links, rooms=edge.rooms)
        self.bookings = Bookings(
            ledger=LedgerBookings(base.ledger),
            rooms=edge.rooms,
            limiter=Limiter(rate=BOOKINGS_PER_S, burst=BOOKINGS_BURST),
            clock=base.clock,
        )
        self.redeeming = RedeemPickup(
            ledger=pickups,
            reader=edge.reader,
            attempts=Limiter(rate=REDEEMS_PER_S, burst=REDEEMS_BURST),
            failures=Limiter(rate=FAILED_REDEEMS_PER_S, burst=FAILED_REDEEMS_BURST),
            shop_failures=Limiter(rate=FAILED_OF_SHOP_PER_S, burst=FAILED_OF_SHOP_BURST),
            clock=base.clock,
        )
