# SPDX-License-Identifier: GPL-2.0-only
"""kbridge's own templates, filled in.  Not for what they say.

Jinja is loaded when the first is filled: many who import this fill none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kbridge import paths

if TYPE_CHECKING:
    import jinja2


def environment(*folder: str, **how: Any) -> jinja2.Environment:
    """Jinja for the templates in that folder of ours; a name without a value is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.source("templates", *folder)),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        **how,
    )


def filled(template: str, /, **values: object) -> str:
    """One template of the top folder."""
    return environment().get_template(template).render(values)
