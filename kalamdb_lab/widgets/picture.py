"""What a notebook keeps of a widget: HTML and text beside it, renewed while it changes."""

from __future__ import annotations

import contextvars
import uuid
from typing import Any, Final

from IPython.core.getipython import get_ipython

WIDGET_VIEW: Final = "application/vnd.jupyter.widget-view+json"


class Picture:
    """The outputs that show one widget, all by one display id.

    A page that knows the widget shows it; a saved notebook, a converter and a terminal have the
    HTML and the text, as they were last published.
    """

    def __init__(self) -> None:
        self._display_id = uuid.uuid4().hex
        self._publisher: Any = None

    @property
    def is_shown(self) -> bool:
        """True if it stands in an output that can be renewed."""
        return self._publisher is not None

    def show(self, bundle: dict[str, Any]) -> None:
        """Show it in the output of the running cell, or print the text where there is no shell."""
        shell = get_ipython()
        if shell is None:
            print(bundle["text/plain"])  # noqa: T201  (what Python does with a value's repr)
            return
        publisher = shell.display_pub
        publisher.publish(bundle, transient={"display_id": self._display_id})
        if getattr(shell, "kernel", None) is not None:  # a terminal would print each renewal
            self._publisher = publisher

    def renew(self, bundle: dict[str, Any]) -> None:
        """Replace what its outputs keep; from any thread, whatever cell runs."""
        if self._publisher is not None:
            # Of no cell, so of the one that runs: who runs a notebook by a program hears only that.
            contextvars.Context().run(self._renew, bundle)

    def _renew(self, bundle: dict[str, Any]) -> None:
        self._publisher.publish(bundle, transient={"display_id": self._display_id}, update=True)


def bundle_of(model_id: str | None, html: str, text: str) -> dict[str, Any]:
    """Return what is published; without a model only the picture is left."""
    bundle: dict[str, Any] = {"text/html": html, "text/plain": text}
    if model_id is not None:
        bundle[WIDGET_VIEW] = {"version_major": 2, "version_minor": 0, "model_id": model_id}
    return bundle
