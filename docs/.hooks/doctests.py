"""Shows the `>>>` examples of docstrings as code; Markdown would take them for nested quotations."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\n).+)*", flags=re.MULTILINE)


class Doctests(griffe.Extension):
    """Fences each example when its docstring has been read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(r"```python\n\g<0>\n```", obj.docstring.value)
