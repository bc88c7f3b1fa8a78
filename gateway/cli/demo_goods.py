"""What the show of `peakgate demo --keep` has to sell and to say: goods, price steps, coupons. No I/O, no clock."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

CURRENCY: Final = "CNY"
Language = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
Words = Mapping[Language, str]

ROOM_TITLE: Final[Words] = {"en": "Evening table", "zh": "晚安小餐桌"}
ROOM_NOTICE: Final[Words] = {
    "en": "Milk powder first, then all for the table. Payments are played here.",
    "zh": "先上奶粉，再上餐桌好物。这里的付款只是演示。",
}
SALE_TITLE: Final[Words] = {"en": "Around the table", "zh": "餐桌好物"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Good:
    """An item of the show's sale and how it is sold."""

    sku: str
    title: Words
    price_minor: int
    list_price_minor: int
    stock: int
    limit_per_viewer: int
    wanted: float
    """Its share of the orders, beside the others'."""
    add: int
    """Units in a box: what the host adds at once."""
    add_when_left: int
    add_after_s: float = 0.0
    """Between two boxes at least."""
    steps_minor: tuple[int, ...] = ()
    """Prices one after the other, over and over."""


BEAR: Final = "night-bear"
GOODS: Final = (
    Good(
        sku="spoons",
        title={"en": "Spoon set", "zh": "辅食勺四支装"},
        price_minor=3_900,
        list_price_minor=4_900,
        stock=80,
        limit_per_viewer=12,
        wanted=3.0,
        add=60,
        add_when_left=15,
    ),
    Good(
        sku="bowl",
        title={"en": "Suction bowl", "zh": "吸盘碗"},
        price_minor=6_900,
        list_price_minor=8_900,
        stock=60,
        limit_per_viewer=12,
        wanted=3.0,
        add=40,
        add_when_left=10,
        steps_minor=(6_400, 5_900, 5_400, 5_900, 6_400, 6_900),
    ),
    Good(
        sku="blanket",
        title={"en": "Muslin blanket", "zh": "纱布小被"},
        price_minor=12_800,
        list_price_minor=15_800,
        stock=50,
        limit_per_viewer=8,
        wanted=2.0,
        add=30,
        add_when_left=10,
    ),
    # So few that it is sold out most of the time, and back for moments.
    Good(
        sku=BEAR,
        title={"en": "Night bear", "zh": "小熊夜灯"},
        price_minor=26_800,
        list_price_minor=29_800,
        stock=8,
        limit_per_viewer=2,
        wanted=2.0,
        add=6,
        add_when_left=0,
        add_after_s=180.0,
    ),
)

ANNOUNCEMENTS: Final[Mapping[Language, tuple[str, ...]]] = {
    "en": (
        "Welcome! Spoons and bowls are in the bag.",
        "What is not paid for in time goes back on sale.",
        "The bowl changes its price every few minutes.",
        "Coupons fall every now and then. Be quick.",
        "Only a few bears at a time; more are on their way.",
    ),
    "zh": (
        "欢迎来到直播间！好物都在购物袋里。",
        "未按时付款的商品会重新上架。",
        "吸盘碗每隔几分钟换一次价格。",
        "不定时发券，手快有，手慢无。",
        "小熊夜灯数量不多，会陆续补货。",
    ),
}


def picture_url(url: str, sku: str) -> str:
    """Of a good of the demo, as the gateway at this URL serves it beside its pages."""
    return f"{url}/static/-/goods/{sku}.svg"


def items_of_a_sale(
    opens_at: datetime, closes_at: datetime, step: timedelta, language: Language = "en", *, url: str
) -> list[dict[str, Any]]:
    """The items as a host sends them to the gateway at `url`, the price steps spread over the sale."""
    items = [_item(good, opens_at, closes_at, step, language) for good in GOODS]
    return [{**item, "image_url": picture_url(url, item["sku"])} for item in items]


def _item(good: Good, opens_at: datetime, closes_at: datetime, step: timedelta, language: Language) -> dict[str, Any]:
    item: dict[str, Any] = {
        "sku": good.sku,
        "title": good.title[language],
        "price_minor": good.price_minor,
        "list_price_minor": good.list_price_minor,
        "stock": good.stock,
        "limit_per_viewer": good.limit_per_viewer,
    }
    if good.steps_minor:
        item["prices"] = price_steps(good.steps_minor, opens_at, closes_at, step)
    return item


# A plan has 50 steps at most.
MOST_STEPS: Final = 50


def price_steps(prices: tuple[int, ...], opens_at: datetime, closes_at: datetime, step: timedelta) -> list[Any]:
    """A price after each `step`, the first one after one step, over and over until the sale closes."""
    steps = []
    for number in range(MOST_STEPS):
        at = opens_at + step * (number + 1)
        if at >= closes_at:
            break
        steps.append({"from": at.isoformat(), "price_minor": prices[number % len(prices)]})
    return steps


class Storeroom:
    """When the host brings another box. Times are a clock's seconds."""

    def __init__(self, goods: Iterable[Good] = GOODS, *, opened_s: float) -> None:
        self._goods = {good.sku: good for good in goods}
        self._last_s = dict.fromkeys(self._goods, opened_s)

    def box_for(self, sku: str, left: int, now_s: float) -> int:
        """Units to add now, 0 for none. Asked again at once it brings nothing more of what takes its time."""
        good = self._goods.get(sku)
        if good is None or left > good.add_when_left or now_s - self._last_s[sku] < good.add_after_s:
            return 0
        self._last_s[sku] = now_s
        return good.add


@dataclass(frozen=True, slots=True, kw_only=True)
class Discount:
    """A coupon to drop."""

    title: Words
    kind: str
    copies: int
    threshold_minor: int = 0
    value_minor: int | None = None
    percent: int | None = None
    min_minor: int | None = None
    max_minor: int | None = None
    budget_minor: int | None = None

    def fields(self, language: Language) -> dict[str, Any]:
        """As a host sends it."""
        amounts = {
            "value_minor": self.value_minor,
            "percent": self.percent,
            "min_minor": self.min_minor,
            "max_minor": self.max_minor,
            "budget_minor": self.budget_minor,
        }
        return {
            "title": self.title[language],
            "kind": self.kind,
            "copies": self.copies,
            "threshold_minor": self.threshold_minor,
            **{name: value for name, value in amounts.items() if value is not None},
        }


# The crowd grabs some forty: of the first two there is one for whoever looks on, the third is gone in seconds.
DISCOUNTS: Final = (
    Discount(
        title={"en": "¥10 off", "zh": "减 10 元"}, kind="amount", copies=80, value_minor=1_000, threshold_minor=3_000
    ),
    Discount(title={"en": "15 % off", "zh": "八五折"}, kind="percent", copies=60, percent=15),
    Discount(
        title={"en": "Lucky envelope", "zh": "手气红包"},
        kind="random",
        copies=25,
        min_minor=300,
        max_minor=2_000,
        budget_minor=20_000,
        threshold_minor=3_000,
    ),
)
