"""A heavy application: Django with its usual parts, and 50 MB of objects in memory. It answers `PID VERSION`.

The version is read from the file $BENCH_VERSION at import, so an answer tells which code served it.
"""

from __future__ import annotations

import os
from pathlib import Path

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

VERSION = Path(os.environ["BENCH_VERSION"]).read_text("utf-8").strip()

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a benchmark",
    USE_TZ=True,
)
django.setup()

DATA = [{"id": str(number), "name": f"product {number}", "price": number * 1.1} for number in range(155_000)]


def answer(_request: HttpRequest) -> HttpResponse:
    """Say who answers, after a little work on the data."""
    total = sum(len(str(item["name"])) for item in DATA[:100])
    body = f"{os.getpid()} {VERSION} {total}"
    return HttpResponse(body, content_type="text/plain", headers={"Content-Length": str(len(body))})


urlpatterns = [path("", answer)]
application = get_wsgi_application()
