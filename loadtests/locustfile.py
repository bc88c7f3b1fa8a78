"""Who comes, and when. How they connect, buy, talk and measure is in `shoppers.py` and `viewers.py`.

With `PROFILE` it is a whole show, scaled by `SCALE` and `SPEED` times as fast; without, shoppers of a sale.
"""

import logging
import os
from typing import Any

from locust import between, events, task
from locust.env import Environment

from loadtests.profiles import Load
from loadtests.shapes import SHAPES, Show
from loadtests.shoppers import Setting, SocketShopper, prepare
from loadtests.viewers import RoomViewer

setting = Setting.from_environment()
show = Load.from_environment(os.environ)


@events.test_start.add_listener
def set_the_stage(environment: Environment, **_: Any) -> None:
    try:
        prepare(setting, people=show.people if show is not None else None)
    except Exception:
        # Locust only logs what a hook raises, and would go on with shoppers who have nowhere to go.
        logging.getLogger(__name__).exception("The stage could not be set on %s.", setting.url)
        environment.process_exit_code = 1
        assert environment.runner is not None
        environment.runner.quit()


if show is not None:

    class Watcher(RoomViewer):
        """A seat of the show."""

        host = setting.url
        load = show

    class Seats(Show):
        load = show

else:
    if "GATEWAY_SHAPE" in os.environ:
        Shape = SHAPES[os.environ["GATEWAY_SHAPE"]]

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
