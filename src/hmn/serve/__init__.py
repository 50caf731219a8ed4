"""Serving: a model that takes new facts while it answers, over HTTP or in your own program, and a client.

Each name is imported at its first use.
"""

from typing import TYPE_CHECKING

from hmn.lazy import lazy_names

if TYPE_CHECKING:
    from hmn.serve.client import Client as Client
    from hmn.serve.client import ServerError as ServerError
    from hmn.serve.served import ServedModel as ServedModel

__getattr__, __dir__, __all__ = lazy_names(
    "hmn.serve",
    {
        "hmn.serve.client": ["Client", "ServerError"],
        "hmn.serve.served": ["ServedModel"],
    },
)
