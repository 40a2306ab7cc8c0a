"""The page in a real browser: what counts is not what the markup looks like but what a browser does with it."""

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_study import fake_prepare, trial_backend, write_rows, write_study

from titrant.api import run_study
from titrant.config.study import load_study
from titrant.core.errors import SpecError
from titrant.report.data import ReportData
from titrant.report.page import render

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM} (Debian: apt-get install chromium)"),
]
HOSTILE = (
    "</script><script>window.hacked=1</script>",
    "<img src=https://leak.example/x onerror=window.hacked=1>",
    "<svg/onload=window.hacked=1><image href=https://leak.example/svg />",
    "</title></style></bdi></details><iframe src=https://leak.example></iframe>",
    "{{7*7}} javascript:window.hacked=1 \u2028\x00\ud800",
    "<meta http-equiv=refresh content='0;url=https://leak.example/refresh'><base href=https://leak.example/>",
    "<link rel=preconnect href=https://leak.example><link rel=dns-prefetch href=//leak.example>",
    "<style>@import 'https://leak.example/css'; body{background:url(https://leak.example/b)}</style>",
    "\" autofocus onfocus=window.hacked=1 x='><input autofocus onfocus=window.hacked=1>",
    "-->]]>&lt;script&gt;window.hacked=1&lt;/script&gt;\u202e",
)
# All that this browser would like to tell its makers stays untold, so that what leaves is what the page sends.
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
FLAGS += ["--disable-component-update", "--disable-domain-reliability", "--no-pings", "--disable-default-apps"]


MAKERS = re.compile(r"[ /.](google|googleapis|gstatic|gvt1|googleusercontent)\.com[:/ ]")


class Wire:
    """Where all that leaves the browser arrives: a proxy that notes what is asked of it, and hangs up. What the browser
    itself asks of its makers, unasked, is left out: no page of ours names them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5)
                    line = connection.recv(4096).partition(b"\r\n")[0].decode("latin-1")
                    if not MAKERS.search(line):
                        self.asked.append(line)


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.socket.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, wire: Wire) -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            proxy={"server": wire.address, "bypass": "<-loopback>"},
        )
        yield context
        context.close()


class Opened:
    """A page that was opened from a file, with all that it asked for and complained about."""

    def __init__(self, browser: Any, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        self.page = browser.new_page()
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.messages.append("dialog"), dialog.dismiss()))
        self.page.goto(path.as_uri())
        self.page.wait_for_load_state("load")

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)


def hostile(data: ReportData) -> ReportData:
    """The report with hostile text in the places that a user's files and names reach."""
    assert data.comparison is not None
    items = []
    for number, item in enumerate(data.comparison.items[:40]):
        text = HOSTILE[number % len(HOSTILE)]
        answers = tuple(
            replace(arm, arm=text, answers=tuple(replace(a, text=text) for a in arm.answers)) for arm in item.answers
        )
        items.append(replace(item, prompt=text, references=(text,), answers=answers))
    first = HOSTILE[0]
    return replace(
        data,
        study=first,
        target=HOSTILE[1],
        metric=HOSTILE[2],
        notes=HOSTILE,
        verdict=replace(data.verdict, sentence=" ".join(HOSTILE)),
        curves=tuple(replace(curve, source=HOSTILE[3]) for curve in data.curves),
        sizes=tuple(replace(curve, label=first) for curve in data.sizes),
        lines=tuple(replace(line, label=HOSTILE[1]) for line in data.lines),
        comparison=replace(data.comparison, arm=first, baseline=HOSTILE[1], items=tuple(items)),
        provenance=replace(data.provenance, study_yaml="\n".join(HOSTILE), settings=((first, HOSTILE[1]),)),
    )


def assert_nothing_ran_and_nothing_left(opened: Opened, path: Path, wire: Wire) -> None:
    """Every fold of the page opened, and still: one script (ours), no element that loads, nothing on the wire."""
    opened.run("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
    opened.page.hover("#items details:first-child summary")
    opened.page.wait_for_timeout(300)
    assert opened.run("window.hacked === undefined")
    loading = "img, iframe, object, embed, form, base, link:not([href^='data:']), svg image"
    assert opened.run(f'document.querySelectorAll("{loading}").length') == 0
    assert opened.run("document.querySelectorAll('meta[http-equiv=refresh], body style').length") == 0
    assert opened.run("document.location.href") == path.as_uri()
    assert opened.requests == [path.as_uri()]
    assert opened.messages == []
    assert wire.asked == []
    assert "google" not in path.read_text("utf-8")


def test_the_wire_notes_what_a_page_sends(browser: Any, wire: Wire, tmp_path: Path) -> None:
    slipped = "<img src='http://leak.example/x.png'><link rel=preconnect href=https://leak.example>"
    opened = Opened(browser, tmp_path / "leak.html", slipped)
    opened.page.wait_for_timeout(300)
    opened.page.close()
    assert "GET http://leak.example/x.png HTTP/1.1" in wire.asked
    assert "CONNECT leak.example:443 HTTP/1.1" in wire.asked
    wire.asked.clear()


def test_hostile_text_runs_nothing_and_is_shown_as_text(
    filled: ReportData, browser: Any, wire: Wire, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.html"
    opened = Opened(browser, path, render(hostile(filled)))
    assert_nothing_ran_and_nothing_left(opened, path, wire)
    shown = opened.run("document.querySelector('.sentence').innerText")
    for text in HOSTILE[:4]:
        assert text in shown
    assert "{{7*7}}" in shown
    tips = opened.run("Array.from(document.querySelectorAll('svg title'), (title) => title.textContent).join('|')")
    assert HOSTILE[3][:40] in tips
    opened.page.close()


def hostile_study(folder: Path) -> Path:
    """A study whose every text that a user or a stranger writes is hostile: prompts, labels, choices, instruction."""
    texts = [text.replace("\x00", "").replace("\ud800", "") for text in HOSTILE]
    path = write_study(folder)
    labels = texts[:3]
    rows = [{"text": f"{texts[n % len(texts)]} number {n}", "label": labels[n % 4 % 3]} for n in range(40)]
    write_rows(folder / "train.jsonl", rows[:20])
    write_rows(folder / "test.jsonl", rows[20:])
    pools = [{"prompt": f"{texts[n % len(texts)]} of row {n}", "response": texts[-n % len(texts)]} for n in range(15)]
    write_rows(folder / "general.jsonl", pools[:12])
    write_rows(folder / "learned.jsonl", pools[12:])
    kept = [{"question": f"{texts[n]} {n}?", "choices": texts[3:5], "answer": texts[3 + n % 2]} for n in range(4)]
    write_rows(folder / "kept.jsonl", kept)
    said = json.loads(path.read_text())
    said["target"]["instruction"] = " ".join(texts)
    said["generalist"]["general"]["licence"] = texts[0]
    said["training"]["max_tokens"] = 4000
    path.write_text(json.dumps(said, indent=1) + "".join(f"\n# {text}" for text in texts if "\u2028" not in text))
    return path


def test_a_study_of_hostile_rows_makes_a_page_that_shows_them_as_text(
    browser: Any, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    study = hostile_study(tmp_path / "study")
    run_study(load_study(study), out=tmp_path / "out", jobs=0, backend=trial_backend())
    path = tmp_path / "out" / "report.html"
    opened = Opened(browser, path, path.read_text("utf-8"))
    assert_nothing_ran_and_nothing_left(opened, path, wire)
    shown = opened.run("document.body.innerText")
    for text in HOSTILE[:3]:
        assert text in shown
    opened.page.close()


@pytest.mark.parametrize("place", ["name", "source", "model"])
def test_names_that_could_be_markup_are_no_names(tmp_path: Path, place: str) -> None:
    path = write_study(tmp_path)
    said = json.loads(path.read_text())
    if place == "name":
        said["name"] = HOSTILE[0]
    elif place == "source":
        said["generalist"] = {HOSTILE[0]: said["generalist"]["general"]}
    else:
        said["models"] = {HOSTILE[0]: said.pop("model")}
    path.write_text(json.dumps(said))
    with pytest.raises(SpecError, match="name"):
        load_study(path)


def test_the_policy_alone_stops_script_and_request_that_slip_in(filled_page: str, browser: Any, tmp_path: Path) -> None:
    slipped = "<script>window.hacked=1</script><img src='https://example.org/x.png' onerror='window.hacked=2'></main>"
    page = filled_page
    assert page.count("</main>") == 1
    opened = Opened(browser, tmp_path / "slipped.html", page.replace("</main>", slipped))
    assert opened.run("window.hacked === undefined")
    assert not [message for message in opened.messages if "Content Security Policy" not in message]
    assert len(opened.messages) >= 2
    assert opened.run("document.querySelector('#shown').textContent") == "25 of 250 shown"  # our own script did run
    opened.page.close()


def test_search_and_filter_find_items_by_any_of_their_texts(filled_page: str, browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path / "search.html", filled_page)
    page = opened.page
    visible = "Array.from(document.querySelectorAll('#items > details:not([hidden])'), (item) => item.className)"
    gains = "Array.from(document.querySelectorAll('#items > details:not([hidden]) .gain'), (gain) => gain.textContent)"
    assert len(opened.run(visible)) == 25
    page.click("#more")
    assert len(opened.run(visible)) == 75
    page.fill("#search", "CASE 17) scanner")
    assert opened.run("document.querySelector('#shown').textContent") == "0 of 0 shown"
    assert page.is_visible("#nothing")
    page.fill("#search", "nobody (case 171)")
    assert len(opened.run(visible)) == 1
    page.fill("#search", "")
    page.check("input[value=lost]")
    assert set(opened.run(visible)) == {"item lost"}
    losses = [float(text.replace("−", "-")) for text in opened.run(gains)]
    assert losses == sorted(losses)
    page.check("input[value=won]")
    wins = [float(text) for text in opened.run(gains)]
    assert wins == sorted(wins, reverse=True)
    assert opened.messages == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_width_scrolls_sideways_and_text_is_readable(
    filled_page: str, browser: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    opened = Opened(browser, tmp_path / "page.html", filled_page)
    opened.page.set_viewport_size({"width": width, "height": 900})
    opened.page.emulate_media(color_scheme=scheme)
    assert opened.run("document.documentElement.scrollWidth <= window.innerWidth")
    low = opened.run(CONTRASTS)
    assert low == []
    opened.page.close()


def test_without_scripts_every_item_can_be_read(filled_page: str, browser: Any, tmp_path: Path) -> None:
    page = filled_page
    start = page.index("<script>")
    opened = Opened(browser, tmp_path / "quiet.html", page[:start] + page[page.index("</script>", start) :])
    assert opened.run("document.querySelectorAll('#items > details:not([hidden])').length") == 250
    assert not opened.page.is_visible("#controls")
    opened.page.close()


CONTRASTS = """() => {
  // Every text against the nearest painted background: at least 4.5 to 1 (WCAG 2.1, 1.4.3); what falls below is named.
  const channels = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const luminance = (colour) => {
    const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = channels(colour).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      const parts = channels(colour);
      if (parts.length === 3 || parts[3] > 0.99) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const low = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("script, style, .unseen, title")) continue;
    const style = getComputedStyle(element);
    const ink = element.closest("svg") ? style.fill : style.color;
    const [a, b] = [luminance(ink), luminance(background(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.add(`${element.tagName}.${element.className} ${ink}`);
  }
  return Array.from(low);
}"""
