"""Who comes to the sale, and when. How a shopper connects, buys and measures is in `shoppers.py`."""

import logging
import os
from typing import Any

from locust import between, events, task
from locust.env import Environment

from loadtests.shapes import SHAPES
from loadtests.shoppers import Setting, SocketShopper, prepare

setting = Setting.from_environment()

if "GATEWAY_SHAPE" in os.environ:
    Shape = SHAPES[os.environ["GATEWAY_SHAPE"]]


@events.test_start.add_listener
def set_the_stage(environment: Environment, **_: Any) -> None:
    try:
        prepare(setting)
    except Exception:
        # Locust only logs what a hook raises, and would go on with shoppers who have nowhere to go.
        logging.getLogger(__name__).exception("The stage could not be set on %s.", setting.url)
        environment.process_exit_code = 1
        assert environment.runner is not None
        environment.runner.quit()


class Browser(SocketShopper):
    """Looks around, and buys now and then."""

    host = setting.url
    weight = 3
    wait_time = between(0.5, 2.0)

    @task(5)
    def look(self) -> None:
        self.browse()

    @task(1)
    def buy_one(self) -> None:
        self.buy()


class Hunter(SocketShopper):
    """Came for the drop: one order after the other."""

    host = setting.url
    weight = 1
    wait_time = between(0.0, 0.1)

    @task
    def buy_one(self) -> None:
        self.buy()
