"""What ``%load_ext kalamdb_lab`` and ``%unload_ext kalamdb_lab`` do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from IPython.core.getipython import get_ipython

from kalamdb_lab.notebook.magic import KalamMagic

if TYPE_CHECKING:
    from kalamdb_lab.engine.session import Session
    from kalamdb_lab.query.result import Result

_RESULT: Final = ("kalamdb_lab.query.result", "Result")


def load(shell: Any) -> None:
    """Add the magics and the look of results; a shell that has them already stays as it is."""
    if _loaded(shell) is not None:
        return
    magic = KalamMagic(shell)
    shell.register_magics(magic)
    shell.Completer.custom_matchers.append(magic.matcher)
    formatters = shell.display_formatter.formatters

    def html(result: Result) -> str:
        return magic.view_of(result)._repr_html_()

    def plain(result: Result, printer: Any, cycle: bool) -> None:  # noqa: ARG001
        printer.text(repr(magic.view_of(result)))

    formatters["text/html"].for_type_by_name(*_RESULT, html)
    formatters["text/plain"].for_type_by_name(*_RESULT, plain)


def unload(shell: Any) -> None:
    """Close what the magics opened and take them away; nothing stays behind."""
    magic = _loaded(shell)
    if magic is None:
        return
    magic.close()
    matchers = shell.Completer.custom_matchers
    matchers[:] = [matcher for matcher in matchers if matcher is not magic.matcher]
    manager = shell.magics_manager
    manager.registry.pop(type(magic).__name__, None)
    for kind in ("line", "cell"):
        manager.magics[kind].pop("kalam", None)
    # In place, and all of them: the shell lists a magic anew whenever it is registered.
    shell.configurables[:] = [c for c in shell.configurables if not isinstance(c, KalamMagic)]
    for mime in ("text/html", "text/plain"):
        shell.display_formatter.formatters[mime].pop(".".join(_RESULT), None)


def current_session() -> Session | None:
    """Return the session of the current ``%kalam`` connection; None where there is none."""
    shell = get_ipython()
    magic = None if shell is None else _loaded(shell)
    return None if magic is None else magic.current_session


def _loaded(shell: Any) -> KalamMagic | None:
    function = shell.magics_manager.magics["line"].get("kalam")
    owner = getattr(function, "__self__", None)
    return owner if isinstance(owner, KalamMagic) else None
