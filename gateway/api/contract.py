"""Every address there is, whichever process serves it: for the documents that are made without a gateway."""

import importlib
import pkgutil
from typing import Any

from gateway.api import routes
from gateway.api.routes import Route


def parts() -> list[Any]:
    """The classes of addresses, one or more a module beside `gateway.api.routes`."""
    modules = [
        importlib.import_module(f"{routes.__name__}.{each.name}") for each in pkgutil.iter_modules(routes.__path__)
    ]
    return [
        part
        for module in modules
        for name, part in sorted(vars(module).items())
        if name.endswith("Routes") and getattr(part, "__module__", "") == module.__name__
    ]


def all_routes() -> list[Route]:
    # Made without what they stand on: which addresses there are needs none of it.
    return [route for part in parts() for route in part.__new__(part).routes()]
