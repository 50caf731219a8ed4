"""Names take the endings, particles and prefixes that people write."""

from __future__ import annotations

import pytest
from bench.languages.grammar import forms


@pytest.mark.parametrize(
    ("name", "language", "form", "wanted"),
    [
        ("Ankara", "tr", "gen", "Ankara'nın"),
        ("İstanbul", "tr", "loc", "İstanbul'da"),
        ("Türkiye", "tr", "dat", "Türkiye'ye"),
        ("Paris", "tr", "loc", "Paris'te"),
        ("서울", "ko", "top", "서울은"),
        ("파리", "ko", "sub", "파리가"),
        ("القاهرة", "ar", "li", "للقاهرة"),
        ("مصر", "ar", "bi", "بمصر"),
        ("Россия", "ru", "loc", "России"),
        ("Москва", "ru", "gen", "Москвы"),
        ("Прага", "ru", "gen", "Праги"),
        ("Токио", "ru", "acc", "Токио"),
        ("Ελλάδα", "el", "gen", "της Ελλάδας"),
        ("Παναμάς", "el", "loc", "στο Παναμάς"),
        ("Παρίσι", "en", "n", "Παρίσι"),
    ],
)
def test_forms(name: str, language: str, form: str, wanted: str) -> None:
    assert forms(name, language)[form] == wanted
