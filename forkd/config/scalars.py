"""One YAML scalar to a Python value that remembers its text; it knows no key and no place."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from yaml.constructor import SafeConstructor
from yaml.nodes import ScalarNode
from yaml.resolver import Resolver

from forkd.config.substitution import substitute
from forkd.config.written import Integer, Real, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

_CORE = "tag:yaml.org,2002:"
_KNOWN = {_CORE + name: name for name in ("str", "int", "float", "bool", "null")}
_ONLY_YAML_11 = re.compile(r":|\.(inf|nan)$", re.IGNORECASE)  # 12:30 as a number, and what JSON cannot carry
_LONGEST_NUMBER = 100  # Python refuses to write integers of more than 4300 digits as text


class Scalars:
    """Reads the scalars of one file: plain ones by YAML 1.1's rules, but dates and sexagesimal numbers stay text."""

    def __init__(self, environ: Mapping[str, str], folder: str) -> None:
        self._environ = environ
        self._folder = folder
        self._resolver: Any = Resolver()  # without types in its stubs
        self._constructor = SafeConstructor()

    def read(self, event: Any) -> Any:
        """Return the value of a ScalarEvent: Text, Integer, Real, bool or None. Raises ValueError with a sentence."""
        text = substitute(event.value, self._environ)
        if "\0" in text:
            raise ValueError("holds a NUL character")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError("holds half of a surrogate pair, which is no character")
        name = self._type(event, text)
        if name == "str":
            return self._text(text, event.value)
        try:
            return self._construct(name, text)
        except (ValueError, KeyError, IndexError, OverflowError):  # yaml's own, for `!!int four`
            raise ValueError(f"the tag !!{name} does not fit its value") from None

    def _type(self, event: Any, text: str) -> str:
        if event.tag not in (None, "!"):
            if event.tag not in _KNOWN:
                raise ValueError(f"the tag {event.tag} is not known here")
            return _KNOWN[event.tag]
        if not event.implicit[0] or _ONLY_YAML_11.search(text) or len(text) > _LONGEST_NUMBER:
            return "str"
        return _KNOWN.get(str(self._resolver.resolve(ScalarNode, text, (True, False))), "str")

    def _construct(self, name: str, text: str) -> Any:
        node = ScalarNode(_CORE + name, text)
        if name == "null":
            return None
        if name == "bool":
            return self._constructor.construct_yaml_bool(node)
        if len(text) > _LONGEST_NUMBER:
            raise ValueError("too long for a number")
        number = (
            Integer(self._constructor.construct_yaml_int(node))
            if name == "int"
            else Real(self._constructor.construct_yaml_float(node))
        )
        if not math.isfinite(number):
            raise ValueError("not a number that JSON can carry")
        number.text = text
        return number

    def _text(self, text: str, source: str) -> Text:
        value = Text(text)
        value.folder = self._folder
        value.source = source if source != text else None
        return value
