"""Requests for the parser: those that must be refused, each with its status and reason, and odd ones that are legal.

None of the former may reach the application, alone or behind a good one, however they are split. Where they are from:
RFC 9110 and 9112, what other servers have taken, and what those who smuggle requests send.
"""

from __future__ import annotations

from tests.wsgi.corpus import legal, legal_bodies
from tests.wsgi.corpus.bodies import BODIES
from tests.wsgi.corpus.case import Case, Legal
from tests.wsgi.corpus.fields import FIELDS
from tests.wsgi.corpus.framing import FRAMING
from tests.wsgi.corpus.lines import LINES

MALFORMED = [*LINES, *FIELDS, *FRAMING]
LEGAL = [*legal.HEADS, *legal_bodies.BODIES]

__all__ = ["BODIES", "LEGAL", "MALFORMED", "Case", "Legal"]
