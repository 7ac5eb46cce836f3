"""Sphinx's configuration, and the reference of the settings that is made of the code at each build."""

import dataclasses
from typing import Any

from pyrimage import __version__
from pyrimage.settings import PREFIX, Settings
from pyrimage.stores import make_configurator, store_kinds

project = "pyrimage"
release = __version__
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "An image service for virtual machines", "fixed_sidebar": True}
html_show_copyright = False
html_show_sourcelink = False

SETTINGS_PAGE, SETTINGS_MARK = "configuration", "<!-- settings -->"


def settings_reference() -> str:
    """Return every ``pyrimage.*`` setting as Markdown, in the order of the dataclasses; those of stores are last."""
    described: list[Any] = [Settings, *store_kinds(make_configurator({})).values()]
    return "\n".join(_setting(field) for each in described for field in dataclasses.fields(each))


def _setting(field: dataclasses.Field[Any]) -> str:
    default = "none, it must be set"
    if field.metadata["default_text"] is not None:
        default = field.metadata["default_text"]
    elif field.default is not dataclasses.MISSING:
        words = {None: "unset", True: "`true`", False: "`false`"}
        default = words.get(field.default, f"`{field.default}`")
    accepted = "any text"
    try:
        field.metadata["read"]("?")
    except ValueError as error:  # what the operator would be told as well
        accepted = str(error).removeprefix("use ")
    return f"### {PREFIX}{field.name}\n\n{field.metadata['doc']}\n\n- Default: {default}.\n- Accepted: {accepted}.\n"


def _fill_in(_app: Any, page: str, source: list[str]) -> None:
    if page == SETTINGS_PAGE:
        source[0] = source[0].replace(SETTINGS_MARK, settings_reference())


def setup(app: Any) -> dict[str, bool]:
    """Fill the page of the settings when Sphinx reads it."""
    app.connect("source-read", _fill_in)
    return {"parallel_read_safe": True}
