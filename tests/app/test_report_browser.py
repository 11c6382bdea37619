"""Reports in a browser: nothing breaks, nothing is asked for, everything fits."""

import shutil

import pytest
from report_runs import KINDS, page_of

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("report"),  # runs and pages are made once
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def opened():
    """Opens a file: the page, what it complained of, and the addresses it asked for."""
    arguments = ["--no-sandbox", "--headless", "--autoplay-policy=no-user-gesture-required"]

    def open_page(file):
        page, complaints, requests = browser.new_page(), [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.route("https://**/*", lambda route: route.abort())
        page.goto(file.as_uri())
        page.wait_for_load_state("load")
        return page, complaints, [url for url in requests if not url.startswith("data:")]

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield open_page
        browser.close()


@pytest.mark.parametrize("kind", KINDS)
def test_page_opens_complete_and_fits_every_screen(opened, kind):
    page, complaints, requests = opened(page_of(kind))
    assert complaints == [] and requests == [page_of(kind).as_uri()]
    outside = """[...document.querySelectorAll("main *")].filter(e => !e.closest(".scroll, svg")
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName)"""
    for width in (360, 1000):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(outside) == []
    sizes = page.evaluate("""[...document.querySelectorAll("svg")].map(e => e.clientHeight)""")
    assert len(sizes) >= 8 and min(sizes) > 50
    seconds = page.evaluate(
        """Promise.all([...document.querySelectorAll("audio")].map(async audio => {
            audio.muted = true; await audio.play(); audio.pause(); return audio.duration; }))"""
    )
    assert len(seconds) == (6 if kind in ("music", "speech") else 0)
    assert all(duration > 0.1 for duration in seconds)


def test_figures_follow_dark_mode_and_print(opened):
    page, *_ = opened(page_of("music"))
    text = "getComputedStyle(document.querySelector('svg text')).fill"
    for scheme, paper, ink in (
        ("light", "rgb(255, 255, 255)", "rgb(27, 31, 36)"),
        ("dark", "rgb(13, 17, 23)", "rgb(230, 237, 243)"),
    ):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == paper
        assert page.evaluate(text) == ink
    page.emulate_media(media="print", color_scheme="light")
    assert page.evaluate(text) == "rgb(0, 0, 0)"
    shown = "[...document.querySelectorAll('audio')].filter(e => e.offsetHeight).length"
    assert page.evaluate(shown) == 0
