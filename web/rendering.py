"""All HTML of the pages: Jinja2 templates under `templates/`, rendered by one environment that escapes every value.

Templates get typed values and the module `wording` for sentences; nothing else in `web` writes HTML. A value that is
missing is an error, never an empty string. Text from models and users is therefore always shown as text.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from medx_core.data.emergency_lines import emergency_lines
from web import wording

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> Markup:
    """Return the HTML of a template, for example `render("people.html", people=people)`.

    Raises:
        UndefinedError: the template uses a value that was not given.
    """
    return Markup(_environment().get_template(template).render(values))  # noqa: S704 - the template escaped it


def note(sentence: str, css: str = "") -> Markup:
    """Return one quiet sentence."""
    return _macro("note", sentence, css)


def fault(sentence: str) -> Markup:
    """Return one sentence about what went wrong."""
    return _macro("fault", sentence)


def serve_below(root_path: str) -> None:
    """Begin every address in the templates with this path, for the whole process."""
    _environment().globals["root"] = root_path


def _macro(name: str, *values: str) -> Markup:
    return cast(Markup, getattr(_environment().get_template("macros.html").module, name)(*values))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escaped,
    )
    environment.globals["root"] = ""
    environment.globals["wording"] = wording
    environment.globals["emergency_lines"] = emergency_lines
    return environment


def _escaped(value: object) -> object:
    """Escape a value, "@" included: Gradio takes `@children` in the HTML it is given for a placeholder of its own."""
    if hasattr(value, "__html__") or isinstance(value, StrictUndefined):
        return value
    return Markup(str(escape(value)).replace("@", "&#64;"))  # noqa: S704 - escaped one call before
