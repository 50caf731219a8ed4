"""How people ask for each relation of the built-in knowledge base.

A phrasing holds ``{}`` where the name goes. One that ends in ``?`` may be asked without it; one that has none
is a request or a bare search. Held-out phrasings are never trained on: they ask for the same in another
construction, mostly with a word that training has shown for the relation, so that they can be understood
without a dictionary.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Phrasings:
    """Two disjoint groups of phrasings of one relation."""

    train: tuple[str, ...]
    """Asked in training, validation and one half of the test."""
    held_out: tuple[str, ...]
    """Asked in the other half of the test only."""


def ask(phrasing: str, name: str, rng: random.Random) -> str:
    """Put a name into a phrasing, as people type: often in lower case, often without question mark."""
    question = phrasing.replace("{}", name)
    style = rng.random()
    if style < 0.6:
        question = question.lower()
    return question.removesuffix("?") if style < 0.4 or style > 0.9 else question


PHRASINGS: dict[str, Phrasings] = {
    "airport/city": Phrasings(
        train=(
            "Which city does {} serve?",
            "What city is {} in?",
            "Where is {}?",
            "{} is in which city?",
            "What town is {} near?",
            "city served by {}",
            "Name the city where {} is found.",
        ),
        held_out=(
            "In what city can I find {}?",
            "To which city does {} belong?",
            "{} serves what city?",
        ),
    ),
    "airport/country": Phrasings(
        train=(
            "Which country is {} in?",
            "What country is {} located in?",
            "In which country would I land at {}?",
            "{} country",
            "In what country do I find {}?",
            "{} belongs to which country?",
        ),
        held_out=(
            "Name the country where {} lies.",
            "{} is an airport of what country?",
            "{} can be found in which country?",
        ),
    ),
    "airport/elevation": Phrasings(
        train=(
            "What is the elevation of {}?",
            "How high is {}?",
            "{} elevation in feet",
            "What's the field elevation at {}?",
            "How many feet above sea level is {}?",
            "Tell me the elevation of {}.",
        ),
        held_out=(
            "At what elevation does {} lie?",
            "elevation above sea level of {}",
            "{} is how many feet high?",
        ),
    ),
    "airport/iata_code": Phrasings(
        train=(
            "What is the IATA code of {}?",
            "What is the three letter code for {}?",
            "{} IATA code",
            "Which IATA code does {} have?",
            "What's the IATA airport code of {}?",
            "Tell me the IATA code for {}.",
        ),
        held_out=(
            "{} has which IATA code?",
            "IATA abbreviation of {}",
            "How does IATA abbreviate {}?",
        ),
    ),
    "airport/icao_code": Phrasings(
        train=(
            "What is the ICAO code of {}?",
            "What is the four letter code for {}?",
            "{} ICAO code",
            "Which ICAO code does {} have?",
            "What's the ICAO identifier of {}?",
            "Tell me the ICAO code for {}.",
        ),
        held_out=(
            "{} has which ICAO code?",
            "ICAO abbreviation of {}",
            "How does ICAO abbreviate {}?",
        ),
    ),
    "airport/subdivision": Phrasings(
        train=(
            "What state or province is {} in?",
            "Which region is {} located in?",
            "In which state is {}?",
            "{} state",
            "What province does {} lie in?",
            "Which part of the country is {} in?",
        ),
        held_out=(
            "{} is found in which state or province?",
            "What is the home state of {}?",
            "Name the region where {} lies.",
        ),
    ),
    "airport/timezone": Phrasings(
        train=(
            "What time zone is {} in?",
            "Which time zone does {} use?",
            "{} time zone",
            "What's the timezone of {}?",
            "What is the local time zone at {}?",
            "In which timezone is {}?",
        ),
        held_out=(
            "In what zone is the local time of {}?",
            "timezone of flights from {}",
            "{} keeps the time of which zone?",
        ),
    ),
    "city/country": Phrasings(
        train=(
            "What country is {} in?",
            "Which country is the city of {} in?",
            "Where is {}?",
            "{} is a city in which country?",
            "In what country is {} located?",
            "{} country",
            "Which country does {} belong to?",
        ),
        held_out=(
            "What country can I visit {} in?",
            "Name the country where {} lies.",
            "{} belongs to which country?",
        ),
    ),
    "city/population": Phrasings(
        train=(
            "What is the population of {}?",
            "How many people live in {}?",
            "{} population",
            "How many inhabitants does {} have?",
            "How big is the population of {}?",
            "Tell me the population of {}.",
        ),
        held_out=(
            "How many people are there in {}?",
            "How populous is {}?",
            "number of inhabitants of {}",
        ),
    ),
    "city/subdivision": Phrasings(
        train=(
            "What state is {} in?",
            "Which state or province is {} in?",
            "In which region is {}?",
            "{} state",
            "Which province does {} belong to?",
            "What part of the country is {} in?",
        ),
        held_out=(
            "{} lies in which state or province?",
            "What is the home state of {}?",
            "Name the region where {} is.",
        ),
    ),
    "city/timezone": Phrasings(
        train=(
            "What time zone is {} in?",
            "Which time zone does {} use?",
            "{} time zone",
            "What's the timezone of {}?",
            "In which timezone is {}?",
            "What is the timezone for {}?",
        ),
        held_out=(
            "Which time zone do people in {} live by?",
            "local timezone {}",
            "{} keeps the time of which zone?",
        ),
    ),
    "country/area": Phrasings(
        train=(
            "What is the area of {}?",
            "How large is {}?",
            "How many square kilometres does {} cover?",
            "{} area",
            "What's the land area of {}?",
            "Tell me the size of {} in square kilometers.",
        ),
        held_out=(
            "How large an area does {} have?",
            "surface area of {}",
            "{} has how many square kilometres?",
        ),
    ),
    "country/calling_code": Phrasings(
        train=(
            "What is the calling code of {}?",
            "What is the dialling code for {}?",
            "{} phone code",
            "Which country code do I dial to call {}?",
            "What's the telephone code of {}?",
            "What is the international dialing prefix of {}?",
        ),
        held_out=(
            "With what code do I call {} from abroad?",
            "telephone prefix {}",
            "Phone numbers in {} begin with what code?",
        ),
    ),
    "country/capital": Phrasings(
        train=(
            "What is the capital of {}?",
            "What is the capital city of {}?",
            "{} capital",
            "Which city is the capital of {}?",
            "What's {}'s capital?",
            "Name the capital of {}.",
        ),
        held_out=(
            "{} has which city as its capital?",
            "Which capital does {} have?",
            "capital city {}",
        ),
    ),
    "country/continent": Phrasings(
        train=(
            "What continent is {} on?",
            "Which continent is {} in?",
            "{} continent",
            "On which continent is {} located?",
            "{} is part of which continent?",
            "What continent does {} belong to?",
        ),
        held_out=(
            "Name the continent where {} lies.",
            "{} lies on what continent?",
            "Of which continent is {} a country?",
        ),
    ),
    "country/currency": Phrasings(
        train=(
            "What is the currency of {}?",
            "What currency is used in {}?",
            "{} currency",
            "Which currency does {} use?",
            "What money do they use in {}?",
            "What's the official currency of {}?",
        ),
        held_out=(
            "What money do people pay with in {}?",
            "Prices in {} are in what currency?",
            "name of the money of {}",
        ),
    ),
    "country/iso_code": Phrasings(
        train=(
            "What is the ISO code of {}?",
            "What is the ISO country code for {}?",
            "{} ISO code",
            "Which ISO 3166 code does {} have?",
            "What's the country code of {} in ISO?",
            "Tell me the ISO code of {}.",
        ),
        held_out=(
            "How does ISO abbreviate {}?",
            "ISO abbreviation of {}",
            "{} has which code in ISO?",
        ),
    ),
    "country/language": Phrasings(
        train=(
            "What language is spoken in {}?",
            "What languages do they speak in {}?",
            "{} languages",
            "Which language do people speak in {}?",
            "Name a language spoken in {}.",
            "What are the languages of {}?",
        ),
        held_out=(
            "What language do the people of {} talk?",
            "Which language should I learn for {}?",
            "language of {}",
        ),
    ),
    "country/neighbour": Phrasings(
        train=(
            "Which countries border {}?",
            "What country borders {}?",
            "{} neighbours",
            "Which countries are neighbors of {}?",
            "What country is next to {}?",
            "Name a country that shares a border with {}.",
        ),
        held_out=(
            "Who are the neighbors of {}?",
            "What country lies across the border from {}?",
            "{} borders on what country?",
        ),
    ),
    "country/official_name": Phrasings(
        train=(
            "What is the official name of {}?",
            "What is {} officially called?",
            "{} official name",
            "What's the full name of {}?",
            "What is the formal name of {}?",
            "Tell me the full official name of {}.",
        ),
        held_out=(
            "What does {} call itself officially?",
            "What is {} called in full?",
            "formal long name of {}",
        ),
    ),
    "country/population": Phrasings(
        train=(
            "What is the population of {}?",
            "How many people live in {}?",
            "{} population",
            "How many inhabitants does {} have?",
            "What's the total population of {}?",
            "Tell me the population of {}.",
        ),
        held_out=(
            "How many people are there in {}?",
            "How populous is {}?",
            "number of inhabitants of {}",
        ),
    ),
    "country/top_level_domain": Phrasings(
        train=(
            "What is the top level domain of {}?",
            "What is the internet domain of {}?",
            "{} tld",
            "Which domain ending does {} use?",
            "What's the country domain for {}?",
            "What is the internet country code of {}?",
        ),
        held_out=(
            "Websites from {} end in which domain?",
            "internet suffix of {}",
            "{} has which top level domain?",
        ),
    ),
    "county/state": Phrasings(
        train=(
            "What state is {} in?",
            "Which state is {} located in?",
            "{} state",
            "In which US state is {}?",
            "{} is in what state?",
            "Which state does {} belong to?",
        ),
        held_out=(
            "{} is a county of which state?",
            "What is the home state of {}?",
            "Name the state where {} lies.",
        ),
    ),
    "currency/code": Phrasings(
        train=(
            "What is the currency code of the {}?",
            "What is the ISO code for the {}?",
            "{} currency code",
            "Which code stands for the {}?",
            "What's the three letter code of the {}?",
            "Tell me the currency code of {}.",
        ),
        held_out=(
            "How do banks code the {}?",
            "code of the currency {}",
            "Which three letters stand for the {}?",
        ),
    ),
    "language/iso_code": Phrasings(
        train=(
            "What is the ISO code of the {} language?",
            "What is the language code for {}?",
            "{} language code",
            "Which ISO 639 code does {} have?",
            "What's the ISO 639 code of {}?",
            "Tell me the language code of {}.",
        ),
        held_out=(
            "How does ISO code the {} language?",
            "ISO 639 abbreviation of {}",
            "Which code is {} in ISO 639?",
        ),
    ),
    "language/status": Phrasings(
        train=(
            "Is {} a living language?",
            "Is the {} language extinct?",
            "What is the status of the {} language?",
            "{} living or extinct",
            "Is {} still spoken?",
            "Is {} a living or an extinct language?",
        ),
        held_out=(
            "Does anybody still speak {}?",
            "status of {} living or not",
            "Is {} a language that is still living?",
        ),
    ),
    "subdivision/country": Phrasings(
        train=(
            "What country is {} in?",
            "Which country is {} part of?",
            "{} is a region of which country?",
            "{} country",
            "In which country is {}?",
            "What country does {} belong to?",
        ),
        held_out=(
            "Name the country where {} lies.",
            "{} is found in which country?",
            "Of which country is {} a region?",
        ),
    ),
    "subdivision/iso_code": Phrasings(
        train=(
            "What is the ISO code of {}?",
            "What is the ISO 3166-2 code for {}?",
            "{} ISO code",
            "Which ISO 3166-2 code does {} have?",
            "What's the ISO subdivision code of {}?",
            "Tell me the ISO code of {}.",
        ),
        held_out=(
            "How does ISO 3166-2 abbreviate {}?",
            "ISO abbreviation of {}",
            "{} has which code in ISO 3166-2?",
        ),
    ),
    "subdivision/part_of": Phrasings(
        train=(
            "Which larger region is {} part of?",
            "What region does {} belong to?",
            "{} is a part of which region?",
            "{} region",
            "What is {} a subdivision of?",
            "In which larger division is {}?",
        ),
        held_out=(
            "{} is inside which larger region?",
            "Name the larger region around {}.",
            "To which region does {} belong?",
        ),
    ),
    "subdivision/type": Phrasings(
        train=(
            "What type of subdivision is {}?",
            "What kind of administrative division is {}?",
            "What type of region is {}?",
            "{} type of division",
            "What kind of place is {}?",
            "Is {} a state, a province or something else?",
        ),
        held_out=(
            "What do they call the type of division that {} is?",
            "{} is what kind of region?",
            "kind of subdivision {}",
        ),
    ),
}
"""Phrasings of every relation; ``country/capital`` and the like are the relation's identity in the facts."""
