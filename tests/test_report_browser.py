"""The page in a real headless browser: no error, no request; the slider moves neurons and markers; dark and narrow."""

import shutil
from pathlib import Path

import pytest

from saddlescope.cli.summary import certificate_json, certificate_lines
from saddlescope.cli.walk import walk_document
from saddlescope.critical.certify import certify
from saddlescope.data.sources import toy, toy_teacher
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.problem.problem import Problem
from saddlescope.report.documents import document_section
from saddlescope.report.page import render, save_page
from saddlescope.report.sections import path_section
from saddlescope.valleys.walk import walk
from saddlescope.workflows.merge_surface import merge_surface

pytest.importorskip("selenium", reason="the browser test needs selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("the browser test needs chromium and chromedriver on the machine", allow_module_level=True)

QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network, teacher = toy_teacher("tanh", 0)
    problem = Problem(network, toy("tanh", 0))
    path = find_path(problem, teacher, layer=1, pair=(3, 4), settings=PathSettings(steps=20))
    surface = merge_surface(problem, path, steps=9)
    sections = [path_section(f"run {k}", path, ["verdict", "line"], surface=surface, without="test") for k in range(2)]
    file = tmp_path_factory.mktemp("page") / "page.html"
    save_page(render(sections, command="saddlescope report x", version="0"), file)
    return file


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(CHROMIUM)
    for word in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1200,1000"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


def place(browser, name: str, attribute: str) -> str:
    return browser.find_element("css selector", name).get_attribute(attribute)


def test_the_page_loads_without_errors_and_asks_nobody_for_anything(browser, page):
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    import json

    messages = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {url for url in asked if not url.startswith(("data:", "chrome"))} <= {page.as_uri()}
    assert len(browser.find_elements("css selector", "figure svg")) == 8


def test_the_slider_moves_neurons_and_marker_in_step_and_by_keys(browser, page):
    from selenium.webdriver.common.keys import Keys

    browser.get(page.as_uri())
    names = ('[data-section="0"] [data-neuron="3"] circle', '[data-section="0"] [data-marker="loss"]')
    before = place(browser, names[0], "cx"), place(browser, names[1], "transform")
    other = place(browser, '[data-section="1"] [data-neuron="3"] circle', "cx")
    slider = browser.find_element("css selector", '[data-slider="0"]')
    slider.send_keys(*[Keys.ARROW_RIGHT] * 60)
    assert slider.get_attribute("value") == "60"
    assert place(browser, names[0], "cx") != before[0]
    assert place(browser, names[1], "transform") != before[1]
    # At t = 1/2 the pair is one point; the other section stands still.
    twin = '[data-section="0"] [data-neuron="4"] circle'
    assert float(place(browser, names[0], "cx")) == pytest.approx(float(place(browser, twin, "cx")), abs=0.02)
    assert place(browser, '[data-section="1"] [data-neuron="3"] circle', "cx") == other
    assert "t = 0.500" in browser.find_element("css selector", '[data-output="0"]').text
    slider.send_keys(*[Keys.ARROW_RIGHT] * 60)  # at t = 1 the two have changed places
    assert float(place(browser, twin, "cx")) == pytest.approx(float(before[0]), abs=0.02)


def test_the_surface_turns_by_keys_and_by_dragging(browser, page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.get(page.as_uri())
    figure = browser.find_element("css selector", '[data-figure="surface"][data-section="0"] svg')
    seen = [place(browser, '[data-trace="own"]', "points")]
    figure.send_keys(Keys.ARROW_RIGHT)
    seen.append(place(browser, '[data-trace="own"]', "points"))
    ActionChains(browser).click_and_hold(figure).move_by_offset(40, 10).release().perform()
    seen.append(place(browser, '[data-trace="own"]', "points"))
    assert len(set(seen)) == 3


def test_the_button_plays_and_pauses(browser, page):
    browser.get(page.as_uri())
    button = browser.find_element("css selector", '[data-play="0"]')
    button.send_keys(" ")
    assert button.text == "Pause"
    from selenium.webdriver.support.ui import WebDriverWait

    slider = browser.find_element("css selector", '[data-slider="0"]')
    WebDriverWait(browser, 10).until(lambda _: int(slider.get_attribute("value")) > 3)
    button.send_keys(" ")
    assert button.text == "Play"


@pytest.mark.parametrize("width", [360, 800])
def test_no_width_scrolls_sideways(browser, page, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(page.as_uri())
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= width


def test_dark_and_light_differ(browser, page):
    shades = []
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get(page.as_uri())
        shades.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert shades[0] != shades[1]


@pytest.fixture(scope="module")
def walk_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network, teacher = toy_teacher("tanh", 0)
    problem = Problem(network, toy("tanh", 0))
    path = find_path(problem, teacher, layer=1, pair=(3, 4), settings=PathSettings(steps=20))
    found = walk(problem, path.permutation_point, [4, 2, 0, 1, 3], neurons=path.neurons, points=2)
    certificate = certify(problem, path.permutation_point)
    words = certificate_lines(certificate, path, None, None)
    content = {"kind": "certificate", **certificate_json(certificate, path, None, None), "words": words}
    documents = {"walk": walk_document(Path("run"), path, found), "certificate": {**content, "fingerprints": {}}}
    sections = [document_section(name, document) for name, document in documents.items()]
    file = tmp_path_factory.mktemp("walk") / "page.html"
    save_page(render(sections, command="saddlescope report x", version="0"), file)
    return file


def test_the_slider_walks_through_the_segments(browser, walk_page):
    from selenium.webdriver.common.keys import Keys

    browser.get(walk_page.as_uri())
    assert browser.get_log("browser") == []
    assert len(browser.find_elements("css selector", "figure svg")) == 3
    labels = [node.get_attribute("textContent") for node in browser.find_elements("css selector", "[data-label]")]
    assert labels == ["0", "1", "2", "3", "3"]
    marker = place(browser, '[data-marker="segment"]', "x1")
    slider = browser.find_element("css selector", '[data-slider="0"]')
    slider.send_keys(Keys.END)
    labels = [node.get_attribute("textContent") for node in browser.find_elements("css selector", "[data-label]")]
    assert labels == ["3", "2", "0", "1", "3"]
    assert place(browser, '[data-marker="segment"]', "x1") != marker
    last = slider.get_attribute("max")
    assert browser.find_element("css selector", '[data-output="0"]').text.startswith(f"{last} of {last}: ")
