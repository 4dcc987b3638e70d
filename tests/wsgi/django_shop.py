"""A small Django project in one file: views, forms, files, streams, middleware, a database in memory."""

from __future__ import annotations

import hashlib

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST

from tests.wsgi import sent

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.http.ConditionalGetMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for the tests",
    LOGGING_CONFIG=None,
)
django.setup()

from django.db import connection  # noqa: E402 -- it wants the settings


def item(request: HttpRequest, number: int) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s + 1", [number])
        (following,) = cursor.fetchone()
    return JsonResponse({"number": number, "next": following, "host": request.get_host(), "q": request.GET.get("q")})


@require_POST
def upload(request: HttpRequest) -> HttpResponse:
    sizes = {name: file.size for name, file in request.FILES.items()}
    return JsonResponse(sizes | request.POST.dict())


def raw(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"size": len(request.body)})


@require_http_methods(["POST", "PUT"])
def digest(request: HttpRequest) -> HttpResponse:
    found = hashlib.sha256()
    while piece := request.read(65536):
        found.update(piece)
    return HttpResponse(found.hexdigest(), content_type="text/plain")


def download(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"data" * 50000, content_type="application/octet-stream")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse((f"{number}\n" for number in range(3)), content_type="text/plain")


def itself(request: HttpRequest) -> FileResponse:
    return FileResponse(open(__file__, "rb"))


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(open(request.GET["path"], "rb"))


def sent_by_the_kernel(request: HttpRequest) -> JsonResponse:
    return JsonResponse(sum(sent.TOTAL), safe=False)


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the secret cause")


urlpatterns = [
    path("items/<int:number>", item),
    path("upload", upload),
    path("raw", raw),
    path("digest", digest),
    path("download", download),
    path("stream", stream),
    path("itself", itself),
    path("file", file),
    path("sent", sent_by_the_kernel),
    path("broken", broken),
]

app = get_wsgi_application()
