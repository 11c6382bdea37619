"""Reports in a browser: nothing breaks, nothing is asked for, everything is there."""

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
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def browser():
    arguments = ["--no-sandbox", "--headless", "--autoplay-policy=no-user-gesture-required"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Opened:
    """A page, with what it complained of and asked for."""

    def __init__(self, browser, file, width):
        self.page = browser.new_page(viewport={"width": width, "height": 800})
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.route("**/*", self.answered)
        self.page.goto(file.as_uri())
        self.page.wait_for_load_state("load")

    def answered(self, route):
        """The page itself comes; whatever else it asks for does not."""
        address = route.request.url
        if address.startswith("file:") and not self.requests:
            self.requests.append(address)
            route.continue_()
        elif address.startswith("data:"):
            route.continue_()
        else:
            self.requests.append(address)
            route.abort()


@pytest.fixture
def opened(browser):
    pages = []

    def open_page(file, width=1000):
        pages.append(Opened(browser, file, width))
        return pages[-1]

    yield open_page
    for one in pages:
        one.page.close()


@kinds
def test_it_opens_without_a_complaint_or_a_request(opened, kind):
    one = opened(page_of(kind))
    pictures = one.page.evaluate(
        """Promise.all([...document.images].map(async image => {
            await image.decode(); return [image.naturalWidth, image.alt.length]; }))"""
    )
    assert one.complaints == [] and one.requests == [page_of(kind).as_uri()]
    assert len(pictures) >= 8 and all(width > 100 and alt > 10 for width, alt in pictures)


@kinds
@pytest.mark.parametrize("width", [360, 1000])
def test_nothing_is_wider_than_the_screen(opened, kind, width):
    page = opened(page_of(kind), width).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = """[...document.querySelectorAll("main *")].filter(e => !e.closest(".scroll")
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName)"""
    assert page.evaluate(outside) == []
    assert page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 16


@pytest.mark.parametrize("kind", ["music", "speech"])
def test_sound_can_be_played(opened, kind):
    page = opened(page_of(kind)).page
    played = page.evaluate(
        """Promise.all([...document.querySelectorAll("audio")].map(async audio => {
            audio.muted = true; await audio.play(); audio.pause();
            return [audio.readyState, audio.duration, audio.error === null]; }))"""
    )
    assert len(played) == 6
    assert all(ready >= 2 and seconds > 0.1 and fine for ready, seconds, fine in played)


def test_print_shows_pictures_and_no_players(opened):
    page = opened(page_of("music")).page
    page.emulate_media(media="print")
    shown = "[...document.querySelectorAll('audio')].filter(e => e.offsetHeight).length"
    assert page.evaluate(shown) == 0
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("[...document.images].every(e => e.offsetHeight > 50)")


def test_in_the_dark_it_is_dark(opened):
    page = opened(page_of("digits")).page
    colour = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(colour) == "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(colour) == "rgb(13, 17, 23)"


def test_an_outside_request_would_be_seen(opened, tmp_path):
    file = tmp_path / "bad.html"
    file.write_text("<img src='https://example.org/x.png'><script>undefined.x</script>")
    one = opened(file)
    assert one.requests[1:] == ["https://example.org/x.png"] and one.complaints
