"""A page that is loaded again shows what it showed, however its messages and the kernel's meet."""

from __future__ import annotations

from jupyter_pages import OpenNotebook
from playwright.sync_api import expect

OPEN = """
import kalamdb_lab as kalam
from kalamdb_lab import widgets
db = kalam.open("{name}.kalam")
root = db.session()
_ = root.execute_script('''
    CREATE NAMESPACE port; USE port;
    CREATE SHARED TABLE departures (id BIGINT PRIMARY KEY, dest TEXT);
    INSERT INTO departures SELECT range, 'dest ' || range FROM range(40)''')
"""
SHOWN = [
    'first = kalam.live("SELECT * FROM departures ORDER BY id", session=root)\nfirst',
    'second = kalam.live("SELECT count(*) AS n FROM departures", session=root)\nsecond',
    "explorer = widgets.system(root)\nexplorer",
    'fourth = kalam.live("SELECT dest FROM departures ORDER BY dest", session=root)\nfourth',
]
# The beat of the kernel, told to a page that has asked for nothing yet, came before its question.
EARLY_BEAT = "import kalamdb_lab.widgets.live_view as view\nview._BEAT_S = 0.1"


def test_every_widget_has_its_rows_after_each_reload(open_notebook: OpenNotebook) -> None:
    notebook = open_notebook([OPEN.format(name="reloads") + EARLY_BEAT, *SHOWN])
    notebook.run_all()
    notebook.save()
    for _ in range(4):
        for at in range(1, len(SHOWN) + 1):
            output = notebook.output(at)
            expect(output.get_by_role("columnheader").first).to_be_visible()
            expect(output.get_by_role("gridcell").first).to_be_visible()
        assert notebook.page_errors == []
        notebook.reload()
