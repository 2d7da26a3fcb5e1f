"""What does a live table cost a page that shows ten changes a second for a minute?

Sketch: a frame is 75 rows of 8 cells, some 12 kB of JSON, and lays out 20 rows: a few ms. So each
second costs the page 50 ms of 1,000, and it draws at the rate of the screen (60 frames a second).
From the commit to the row in the page: up to 100 ms of throttling in the live result, up to 100 ms
until the next frame, and the way through kernel, server and page. Budget: no more than ten frames a
second and 200 kB each, and 30 drawn frames a second.
Data: 1,000 rows of 8 columns; each change writes 20 of them, of which the page sees some.
Peers: none; the page itself, which draws without anything to do.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import Budget, Figure, Finding, Samples, Scale, Skipped

BROWSER = Path(__file__).parent.parent / "tests" / "browser"
PER_SECOND = 10
OPEN = """
import json, threading, time
import kalamdb_lab as kalam
root = kalam.open("board.kalam").session()
root.execute("CREATE SHARED TABLE board (id BIGINT PRIMARY KEY, at DOUBLE, a TEXT, b TEXT, c INT,"
             " d DOUBLE, e TIMESTAMP, f BOOLEAN)")
root.execute("INSERT INTO board SELECT range, 0, 'gate ' || range, 'on time', range, range / 7,"
             " TIMESTAMP '2013-01-01 05:00:00', true FROM range(1000)")
live = kalam.live("SELECT * FROM board ORDER BY id", session=root)
sent, send = [], live.widget.send
def counted(content, buffers=None):
    sent.append((content["kind"], len(json.dumps(content))))
    send(content, buffers)
live.widget.send = counted
live
"""
RUN = """
sent.clear()
def change(seconds, per_second):
    started = time.monotonic()
    for number in range(seconds * per_second):
        root.execute("UPDATE board SET at = ?, c = c + 1 WHERE id % 50 = ?",
                     [float(time.time_ns() // 1_000_000), number % 10])
        time.sleep(max(0, started + (number + 1) / per_second - time.monotonic()))
worker = threading.Thread(target=change, args=({seconds}, {per_second}))
worker.start()
"""
REPORT = """
worker.join()
frames = [size for kind, size in sent if kind == "frame"]
print(json.dumps([len(frames), sum(size for _, size in sent), max(frames)]))
"""
# What a change wrote is the time in ms: so the page tells how old it is when it appears.
WATCH = """() => {
    const seen = window.kalamSeen = {ages: [], drawn: 0, longest: 0, since: performance.now()};
    new MutationObserver(all => all.forEach(({target}) => {
        const at = Number(target.dataset?.text);
        if (target.matches?.('[role=gridcell]:nth-child(2)') && at > 1e12) {
            seen.ages.push(Date.now() - at);
        }
    })).observe(document.querySelector('.kg-body'),
        {subtree: true, attributeFilter: ['data-text']});
    let before = performance.now();
    const draw = now => {
        seen.drawn += 1;
        seen.longest = Math.max(seen.longest, now - before);
        before = now;
        if (window.kalamSeen === seen) requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
}"""
SEEN = """() => {
    const seen = window.kalamSeen;
    window.kalamSeen = null;
    return {...seen, seconds: (performance.now() - seen.since) / 1000};
}"""


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Show a live table in JupyterLab in a headless Chromium, and change it."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return [Skipped("a live table in a page", "there is no Chromium here")]
    sys.path.insert(0, str(BROWSER))
    from jupyter_pages import Jupyter
    from jupyter_server import CHROMIUM_FLAGS, JupyterServer
    from playwright.sync_api import sync_playwright

    seconds = scale.of(3, 60)
    place = folder / "jupyter"
    place.mkdir()
    server = JupyterServer(place)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
            notebook = Jupyter(server, browser).open([OPEN])
            notebook.run_all()
            notebook.output(0).get_by_text("1,000 rows").wait_for()
            idle = _watched(notebook, None, min(seconds, 10))
            busy = _watched(notebook, RUN.format(seconds=seconds, per_second=PER_SECOND), seconds)
            index = notebook.execute(REPORT)
            frames, total, largest = _numbers(notebook.output(index).inner_text())
            browser.close()
    finally:
        server.close()
    assert largest <= 200_000
    assert frames <= busy["seconds"] * PER_SECOND + 1
    samples = Samples(tuple(age / 1_000 for age in busy["ages"]), (0.0,))
    ages = sorted(busy["ages"])
    note = (
        f"p99 {ages[int(len(ages) * 0.99)]:.0f} ms; {frames} frames in {busy['seconds']:.0f} s, "
        f"{total / frames / 1_000:.1f} kB each and {largest / 1_000:.1f} kB at most; the page drew "
        f"{busy['drawn'] / busy['seconds']:.0f} times a second (idle "
        f"{idle['drawn'] / idle['seconds']:.0f}), its longest pause {busy['longest']:.0f} ms"
    )
    what = f"commit to the row in the page, {PER_SECOND} changes a second for {seconds} s"
    return [Figure(what, samples, budget=Budget("ms", 300), note=note)]


def _watched(notebook: Any, code: str | None, seconds: float) -> dict[str, Any]:
    notebook.evaluate(WATCH)
    if code is not None:
        notebook.execute(code)
    notebook.page.wait_for_timeout(seconds * 1_000)
    seen: dict[str, Any] = notebook.evaluate(SEEN)
    return seen


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.strip("[] \n").split(", ")]


def test_a_page_follows(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
