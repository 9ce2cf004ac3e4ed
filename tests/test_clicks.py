"""The button that asks the server, in a real Chromium: whom it asks, and what it says. Its page and server are ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from jmr.views.clicks import interrupt_button
from tests.browsers import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Locator, Request, Route

pytestmark = [pytest.mark.frontend, pytest.mark.slow]

KERNEL = "0b5b6bd6-9a4d-4ba9-8ac5-27a4ae4f5bf1"
HOST = "http://hub.test"
PAGE = "<!doctype html><meta charset='utf-8'>" + interrupt_button(KERNEL)
CONFIG = "<script id='jupyter-config-data' type='application/json'>{}</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


class Hub:
    """A host that serves one page, and remembers what else it was asked for."""

    def __init__(self, browser: Browser, config: dict[str, Any] | None, answer: int = 204) -> None:
        self._context = browser.new_context()
        self._context.add_cookies([{"name": name, "value": "2|secret", "url": HOST} for name in ("other", "_xsrf")])
        self._html = PAGE if config is None else PAGE + CONFIG.format(json.dumps(config))
        self._answer = answer
        self.asked: list[Request] = []
        self.page = self._context.new_page()
        self.page.route("**/*", self._serve)
        self.page.goto(f"{HOST}/user/x/lab")

    def _serve(self, route: Route) -> None:
        if route.request.method == "GET":
            route.fulfill(body=self._html, content_type="text/html")
        else:
            self.asked.append(route.request)
            route.fulfill(status=self._answer)

    def press(self, until: str) -> Locator:
        """Press the button, and wait until it says this."""
        button = self.page.locator("button")
        assert (button.inner_text(), button.is_enabled()) == ("Cancel", True)
        button.click()
        self.page.get_by_text(until).wait_for()
        return button

    def close(self) -> None:
        self._context.close()


def test_it_asks_its_own_server_to_interrupt_its_own_kernel(browser):
    hub = Hub(browser, {"baseUrl": "/user/x/", "token": "abc"})
    with hub.page.expect_response("**/interrupt"):
        button = hub.press(until="Cancelling…")
    (asked,) = hub.asked
    assert (asked.method, asked.url) == ("POST", f"{HOST}/user/x/api/kernels/{KERNEL}/interrupt")
    assert asked.headers["x-xsrftoken"] == "2|secret"
    assert asked.headers["authorization"] == "token abc"
    assert button.is_disabled()
    hub.close()


def test_behind_a_hub_the_cookie_is_enough(browser):
    hub = Hub(browser, {"baseUrl": "/user/x/", "token": ""})
    with hub.page.expect_response("**/interrupt"):
        hub.press(until="Cancelling…")
    (asked,) = hub.asked
    assert "authorization" not in asked.headers
    hub.close()


def test_a_server_that_refuses_is_told(browser):
    hub = Hub(browser, {"baseUrl": "/", "token": ""}, answer=403)
    assert hub.press(until="■ stops it").is_disabled()
    hub.close()


def test_a_page_without_a_server_points_to_its_own_stop_button(browser):
    hub = Hub(browser, None)
    assert hub.press(until="■ stops it").is_disabled()
    assert hub.asked == []
    hub.close()
