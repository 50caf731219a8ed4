"""The page in a browser: what people see, type and change, narrow and wide, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from hmn.facts.table import FactTable
from hmn.qa.factoid_qa import FactoidQA
from hmn.serve.served import ServedModel

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
pytest.importorskip("playwright", reason="playwright is not installed")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from hmn.serve.http.server import make_server
from hmn.serve.http.settings import Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium"),
]
MARKUP = "<script>alert(1)</script>"
IMAGE = '<img src=x onerror="alert(2)">'
FACTS = [
    ("France", "capital", "Paris"),
    ("Germany", "capital", "Berlin"),
    ("Italy", "capital", "Rome"),
    ("日本", "capital", "東京"),
    ("中国", "capital", "北京"),
    ("مصر", "capital", "القاهرة"),
    ("ישראל", "capital", "ירושלים"),
    (MARKUP, "capital", IMAGE),
    ("France", "currency", "euro"),
    ("日本", "currency", "円"),
    ("مصر", "currency", "جنيه"),
    *((f"country {number}", "capital", f"town {number}") for number in range(60)),
    *((f"country {number}", "currency", f"coin {number % 7}") for number in range(60)),
]
WIDTHS = [390, 1280]
TOKEN = "a-secret"
Url = str


@pytest.fixture(scope="module")
def countries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a small table, trained without questions; it searches a hierarchy."""
    folder = tmp_path_factory.mktemp("pages") / "model"
    qa = FactoidQA(FactTable.from_triples(FACTS), index="hierarchy:num_groups=16,reach=150")
    qa.fit(quiet=True, question_language="en", made_questions=1500, epochs=4).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Served:
    """A server of a copy of a model, in a thread."""

    def __init__(self, bundle: Path, folder: Path, **settings: Any) -> None:
        self.model = ServedModel.open(shutil.copytree(bundle, folder / "model"))
        self.server = make_server(self.model, Settings(port=0, **settings))
        self.thread = Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.model.close()


@pytest.fixture
def served(countries: Path, tmp_path: Path) -> Iterator[Served]:
    """Anybody on this machine may write."""
    started = Served(countries, tmp_path, allow_writes=True)
    yield started
    started.close()


@pytest.fixture
def guarded(countries: Path, tmp_path: Path) -> Iterator[Served]:
    """One token allows everything, another one reading."""
    started = Served(countries, tmp_path, token=TOKEN, read_token="may-read")
    yield started
    started.close()


def opened(browser: Browser, url: Url, width: int = 1280, scheme: str = "light") -> Page:
    """A page, whose scripts must not fail, and which may load nothing from elsewhere."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.faults = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.faults.append(str(error)))  # type: ignore[attr-defined]
    page.on("dialog", lambda dialog: page.faults.append(dialog.message))  # type: ignore[attr-defined]
    page.on("console", lambda line: note(page, line.text))
    page.on("request", lambda sent: None if sent.url.startswith(url) else note(page, sent.url))
    page.goto(url)
    return page


def note(page: Page, text: str) -> None:
    """Take down a fault; a response that is an error is none."""
    if not text.startswith("Failed to load resource: the server responded"):
        page.faults.append(text)  # type: ignore[attr-defined]


def ask(page: Page, question: str) -> None:
    page.fill("#question", question)
    page.press("#question", "Enter")
    expect(page.locator("#ask")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#picture svg").first).to_be_visible()


def faults(page: Page) -> list[str]:
    found: list[str] = page.faults  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_an_answer_is_shown_with_its_fact_and_what_was_read(
    browser: Browser, served: Served, width: int, scheme: str
) -> None:
    page = opened(browser, served.url, width, scheme)
    ask(page, "what is the capital of France?")
    expect(page.locator("#result .answer")).to_have_text("Paris")
    expect(page.locator("#result .facts").first).to_contain_text("France capital Paris")
    _, (answers,) = served.model.ask(["what is the capital of France?"])
    reads = f"{round(answers.reads or 0):,}"
    with served.model.reading() as (_, model):
        cells = f"{len(model.cells):,}"
    expect(page.locator("#read .headline")).to_contain_text(f"Read {reads} of {cells}")
    assert page.locator("#picture .band").count() == 2  # the groups, and the cells
    assert page.locator("#picture .band .found").count() == 10
    expect(page.locator("#picture")).to_contain_text("the best 10 were used")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    serious = [
        v["id"] for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert faults(page) == []


def test_what_is_not_in_the_table_is_said(browser: Browser, served: Served) -> None:
    page = opened(browser, served.url)
    ask(page, "who painted the ceiling of the chapel?")
    expect(page.locator("#result .verdict")).to_contain_text("in the table")
    assert page.locator("#result .answer").count() == 0
    assert page.locator("#result .fact").count() >= 1
    assert faults(page) == []


def test_names_of_all_scripts_and_markup_are_shown_as_they_are(browser: Browser, served: Served) -> None:
    page = opened(browser, served.url, 390)
    for name, capital in (("日本", "東京"), ("مصر", "القاهرة"), ("ישראל", "ירושלים"), (MARKUP, IMAGE)):
        page.fill("#wanted", name)
        page.press("#wanted", "Enter")
        line = page.locator("#list .fact", has_text=capital)
        expect(line.first).to_be_visible()
        assert line.first.locator("bdi").all_inner_texts() == [name, "capital", capital]
    ask(page, f"capital {MARKUP}")
    expect(page.locator("#result .answer")).to_have_text(IMAGE)
    assert page.locator("#result script, #result img, #list script, #list img").count() == 0
    assert page.evaluate("getComputedStyle(document.querySelector('#question')).direction") == "ltr"
    page.fill("#question", "العملة مصر")
    assert page.evaluate("document.querySelector('#question').matches(':dir(rtl)')")
    assert faults(page) == []


def test_facts_are_added_corrected_and_removed_and_the_question_is_asked_again(
    browser: Browser, served: Served
) -> None:
    page = opened(browser, served.url)
    ask(page, "what is the capital of France?")
    page.locator("#result").get_by_role("button", name="Correct").first.click()
    expect(page.locator("#edit-object")).to_be_focused()
    page.fill("#edit-object", "Lyon")
    page.press("#edit-object", "Enter")
    expect(page.locator("#saved")).to_contain_text("1 fact added")
    expect(page.locator("#saved")).to_be_focused()
    expect(page.locator("#result .answer")).to_have_text("Lyon")
    assert [fact.object for fact in served.model.facts(subject="France", relation="capital").facts] == [
        "Lyon"
    ]

    page.locator("#add").click()
    for field, text in (("subject", "france"), ("relation", "Capital"), ("object", "Vichy")):
        page.fill(f"#edit-{field}", text)
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#result .answer")).to_have_text("Lyon, Vichy")

    page.locator("#result").get_by_role("button", name="Remove: France capital Vichy").click()
    expect(page.locator("#edit-text")).to_have_text("France – capital – Vichy")
    page.locator("#edit-save").click()
    expect(page.locator("#result .answer")).to_have_text("Lyon")
    assert faults(page) == []


def test_a_name_that_several_entities_have_is_chosen(browser: Browser, served: Served) -> None:
    names = {"t1": ["Springfield"], "t2": ["Springfield"]}
    rows = [["t1", "lies in", "Illinois"], ["t2", "lies in", "Ohio"]]
    served.model.write([{"add": rows, "names": names}])
    page = opened(browser, served.url)
    page.locator("#add").click()
    for field, text in (("subject", "country 7"), ("relation", "largest city"), ("object", "Springfield")):
        page.fill(f"#edit-{field}", text)
    page.locator("#edit-save").click()
    expect(page.locator("#edit-problem")).to_contain_text("Several entities have this name")
    page.select_option("#choice-object", "t2")
    page.locator("#edit-save").click()
    expect(page.locator("#saved")).to_contain_text("1 fact added")
    assert [fact.object for fact in served.model.facts(relation="largest city").facts] == ["t2"]
    assert faults(page) == []


def test_everything_works_from_the_keyboard(browser: Browser, served: Served) -> None:
    page = opened(browser, served.url)
    expect(page.locator(".example").first).to_be_visible()
    page.keyboard.press("/")
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type("capital of Italy")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#result .answer")).to_have_text("Rome")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the first example
    example = page.locator(".example").first.inner_text()
    expect(page.locator("#question")).to_have_value(example)
    page.go_back()
    expect(page.locator("#result .answer")).to_have_text("Rome")
    page.locator("#add").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#edit-subject")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#edit")).to_be_hidden()
    assert faults(page) == []


def test_tokens_open_what_they_are_for(browser: Browser, guarded: Served) -> None:
    page = opened(browser, guarded.url)
    expect(page.locator("#access-hint")).to_have_text("This server needs a token.")
    expect(page.locator("#ask")).to_be_hidden()
    for token, hint in (("wrong", "This token is not the server's."), ("may-read", "")):
        page.fill("#token", token)
        page.press("#token", "Enter")
        if hint:
            expect(page.locator("#access-hint")).to_have_text(hint)
    ask(page, "what is the capital of Italy?")
    expect(page.locator("#result .answer")).to_have_text("Rome")
    expect(page.locator("#add")).to_be_hidden()
    expect(page.locator("#writes")).to_contain_text("token")

    page.fill("#token", TOKEN)
    page.press("#token", "Enter")
    expect(page.locator("#add")).to_be_visible()
    expect(page.locator("#question")).to_be_focused()
    page.reload()
    expect(page.locator("#add")).to_be_visible()  # the tab keeps the token
    assert page.context.cookies() == []
    assert faults(page) == []


def test_mistakes_are_said_in_the_servers_words(browser: Browser, served: Served) -> None:
    page = opened(browser, served.url)
    page.fill("#question", "?!")
    page.press("#question", "Enter")
    expect(page.locator("#problem")).to_contain_text("has no word in it")
    served.model.write([{"remove": [["Italy", "capital", "Rome"]]}])
    page.fill("#wanted", "Italy")
    page.press("#wanted", "Enter")
    expect(page.locator("#list")).to_have_text("No fact has this in it.")
    assert faults(page) == []


def test_a_fact_that_another_tab_has_changed_is_not_changed_again(browser: Browser, served: Served) -> None:
    first, second, third = (opened(browser, served.url) for _ in range(3))
    for page in (first, second, third):
        ask(page, "what is the capital of France?")
        act = "Remove" if page is third else "Correct"
        page.locator("#result").get_by_role("button", name=act).first.click()
    for page, town in ((first, "Lyon"), (second, "Vichy")):
        page.fill("#edit-object", town)
        page.locator("#edit-save").click()
    expect(first.locator("#saved")).to_contain_text("1 fact added, 1 fact removed")
    third.locator("#edit-save").click()
    for page in (second, third):
        expect(page.locator("#edit-problem")).to_contain_text("no longer has this fact")
        expect(page.locator("#result .answer")).to_have_text("Lyon")
        page.keyboard.press("Escape")
        assert faults(page) == []
    found = served.model.facts(subject="France", relation="capital").facts
    assert [fact.object for fact in found] == ["Lyon"]


def test_a_correction_to_what_is_there_leaves_one_fact(browser: Browser, served: Served) -> None:
    served.model.write([{"add": [["France", "capital", "Vichy"]]}])
    page = opened(browser, served.url)
    page.fill("#wanted", "Vichy")
    page.press("#wanted", "Enter")
    page.locator("#list").get_by_role("button", name="Correct: France capital Vichy").click()
    page.fill("#edit-object", "Paris")
    page.locator("#edit-save").click()
    expect(page.locator("#saved")).to_contain_text("Saved: 1 fact removed.")
    found = served.model.facts(subject="France", relation="capital").facts
    assert [fact.object for fact in found] == ["Paris"]


@pytest.mark.parametrize(
    ("fact", "problem"),
    [(("France", " ", "x"), "needs all three"), (("France", "~capital", "x"), "the other way round")],
)
def test_facts_that_make_no_sense_are_not_sent(
    browser: Browser, served: Served, fact: tuple[str, str, str], problem: str
) -> None:
    page = opened(browser, served.url)
    page.locator("#add").click()
    for field, text in zip(("subject", "relation", "object"), fact, strict=True):
        page.fill(f"#edit-{field}", text)
    page.locator("#edit-save").click()
    expect(page.locator("#edit-problem")).to_contain_text(problem)
    assert served.model.facts(object="x").version == 0
    assert faults(page) == []


def test_an_entity_behind_many_facts_of_its_namesake_is_offered(browser: Browser, served: Served) -> None:
    rows = [["t1", "has", f"thing {number}"] for number in range(1100)]
    served.model.write(
        [{"add": [*rows, ["t2", "lies in", "Ohio"]], "names": {"t1": ["Salem"], "t2": ["Salem"]}}]
    )
    page = opened(browser, served.url)
    page.locator("#add").click()
    for field, text in (("subject", "salem"), ("relation", "founded"), ("object", "1626")):
        page.fill(f"#edit-{field}", text)
    page.locator("#edit-save").click()
    expect(page.locator("#choice-subject option")).to_have_count(2)


def test_a_relation_that_is_not_on_offer_is_found(browser: Browser, served: Served) -> None:
    rows = [[f"country {number % 50}", f"has_kind_{number}", "yes"] for number in range(1100)]
    served.model.write([{"add": rows}])
    page = opened(browser, served.url)
    page.locator("#add").click()
    expect(page.locator("#relations option")).to_have_count(1000)
    offered = page.eval_on_selector_all("#relations option", "all => all.map((one) => one.value)")
    rare = next(n for n in range(1100) if f"has kind {n}" not in offered)
    for field, text in (("subject", "France"), ("relation", f"Has kind {rare}"), ("object", "yes")):
        page.fill(f"#edit-{field}", text)
    page.locator("#edit-save").click()
    expect(page.locator("#saved")).to_contain_text("1 fact added")
    assert [fact.relation for fact in served.model.facts(subject="France", object="yes").facts] == [
        f"has_kind_{rare}"
    ]


def test_back_to_the_start_shows_no_answer(browser: Browser, served: Served) -> None:
    page = opened(browser, served.url)
    title = page.title()
    ask(page, "what is the capital of Italy?")
    assert page.title() == "what is the capital of Italy? – hmn"
    page.go_back()
    expect(page.locator("#result")).to_be_hidden()
    expect(page.locator("#read")).to_be_hidden()
    expect(page.locator("#question")).to_have_value("")
    assert page.title() == title
    assert faults(page) == []


def test_a_token_may_have_any_letters_and_may_be_needed_later(
    browser: Browser, countries: Path, tmp_path: Path
) -> None:
    served = Served(countries, tmp_path, token="schlüssel-鍵")
    try:
        page = opened(browser, served.url)
        page.fill("#token", "schlüssel-鍵")
        page.press("#token", "Enter")
        expect(page.locator("#add")).to_be_visible()
        page.evaluate("sessionStorage.setItem('hmn-token', 'old')")  # as if the server had another one now
        page.fill("#question", "what is the capital of Italy?")
        page.press("#question", "Enter")
        expect(page.locator("#access-hint")).to_have_text("This token is not the server's.")
        page.fill("#token", "schlüssel-鍵")
        page.press("#token", "Enter")
        expect(page.locator("#result .answer")).to_have_text("Rome")
        assert faults(page) == []
    finally:
        served.close()


def test_a_long_example_takes_two_lines(browser: Browser, served: Served) -> None:
    page = opened(browser, served.url, 390)
    example = page.locator(".example").first
    expect(example).to_be_visible()
    page.evaluate("document.querySelector('.example span').textContent = 'a very long name '.repeat(40)")
    box = example.bounding_box()
    assert box is not None and box["height"] < 70


def test_bars_are_seen_in_forced_colours(browser: Browser, served: Served) -> None:
    page = browser.new_context(forced_colors="active").new_page()
    page.goto(f"{served.url}/#q=capital of France")
    bar = page.locator("#read .headline .bar")
    expect(bar).to_be_visible()
    ground, canvas = (
        page.evaluate(f"getComputedStyle(document.querySelector('{part}')).backgroundColor")
        for part in ("#read .headline .bar", "body")
    )
    assert ground != canvas


def test_the_api_is_described_without_assets_from_elsewhere(browser: Browser, served: Served) -> None:
    page = opened(browser, f"{served.url}/docs")
    expect(page.locator(".opblock-summary-path").first).to_contain_text("/v1/ask")
    assert [text for text in faults(page) if not text.startswith(("http://127.0.0.1", "data:"))] == []


def test_the_page_is_small() -> None:
    from hmn.serve.pages.routes import PAGES

    files = [file for file in PAGES.rglob("*") if file.suffix in {".html", ".css", ".js", ".svg"}]
    assert sum(file.stat().st_size for file in files) < 50_000
    assert "https://" not in "".join(file.read_text() for file in files)
    assert {file.suffix for file in files} == {".html", ".css", ".js", ".svg"}
