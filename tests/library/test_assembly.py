"""From a spec to a Service: what is found, what is refused and in which words, what comes through unchanged."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING

import pytest

from forkd import Server, assembly, wsgi
from forkd.core.spec import ServiceSpec
from forkd.errors import ForkdError

if TYPE_CHECKING:
    from collections.abc import Callable

_numbers = itertools.count()

WEB = """
def application(environ, start_response):
    return []

class Space:
    inner = application
    class Deep:
        inner = application

made = []

def create_app():
    made.append(1)
    return application

def create_nothing():
    return {}

def create_badly():
    raise KeyError("DSN")

async def asgi(scope, receive, send): ...

class Asgi:
    async def __call__(self, scope, receive, send): ...

class Callable:
    def __call__(self, environ, start_response):
        return []

asgi_object = Asgi()
wsgi_object = Callable()
number = 5
"""

TASKS = """
from forkd import Server, periodic_task, rpc

class Housekeeper(Server):
    def __init__(self, retention_days=1):
        self.retention_days = retention_days

class Broken(Server):
    def __init__(self):
        raise KeyError("DSN")

class Demanding(Server):
    def __init__(self, customer: str, *, cents=0): ...

class Unreadable(Server):
    __signature__ = "none"

    def __init__(self, **args):
        self.args = args

class Billing(rpc.Server):
    topic = "invoices"

class Bare(rpc.Server):
    def __init__(self, currency="EUR"):
        self.currency = currency

class Other: ...

instance = Housekeeper()

def make():
    return Housekeeper()
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> Callable[[str], str]:
    """Return a function that writes a module of an unused name into a package on the path, and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    package = f"shop_{next(_numbers)}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()

    def write(source: str) -> str:
        name = f"m{next(_numbers)}"
        (tmp_path / package / f"{name}.py").write_text(source, "utf-8")
        return f"{package}.{name}"

    return write


def web(app: str | None, **keys) -> ServiceSpec:
    return ServiceSpec(name="shop", server="wsgi", app=app, bind=("127.0.0.1:0",), **keys)


@pytest.mark.parametrize("name", ["application", "Space.inner", "Space.Deep.inner", "create_app()", "wsgi_object"])
def test_an_application_is_found_and_served(module, name):
    spec = web(f"{module(WEB)}:{name}", threads=7, keepalive_timeout=1.5, body_limit=99)
    service = assembly.load(spec)()
    assert isinstance(service.server, wsgi.Server)
    assert callable(service.server.app)
    assert service.server.bind == ("127.0.0.1:0",)
    assert (service.server.options.keepalive_timeout, service.server.options.body_limit) == (1.5, 99)
    assert (service.name, service.threads, service.concurrency) == ("shop", 7, "eventlet")


def test_a_factory_is_called_once_at_load_and_each_worker_has_its_own_service(module):
    name = module(WEB)
    build = assembly.load(web(f"{name}:create_app()"))
    assert sys.modules[name].made == [1]
    assert build() is not build()
    assert sys.modules[name].made == [1]


def test_threads_are_by_default_as_many_as_suit_the_concurrency(module):
    app = f"{module(WEB)}:application"
    assert assembly.load(web(app))().threads == 1000
    assert assembly.load(web(app, concurrency="threads"))().threads == 32


def refused(spec: ServiceSpec) -> str:
    with pytest.raises(ForkdError) as caught:
        assembly.load(spec)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("number", "app: '{0}:number' is of type int, which is no WSGI callable"),
        ("nothing", "app: module '{0}' has no attribute 'nothing'"),
        ("Space.nothing", "app: 'Space' has no attribute 'nothing'"),
        ("number()", "app: '{0}:number()': 'number' is of type int and cannot be called"),
        ("create_nothing()", "app: '{0}:create_nothing()' is of type dict, which is no WSGI callable"),
        (
            "create_app",
            (
                "app: '{0}:create_app' takes () and not (environ, start_response); "
                "a factory is named with its parentheses, '{0}:create_app()'"
            ),
        ),
        ("asgi", "app: '{0}:asgi' is a coroutine function (ASGI?); forkd serves WSGI"),
        ("asgi_object", "app: '{0}:asgi_object' is a coroutine function (ASGI?); forkd serves WSGI"),
        ("create_app(1)", "app: expected `package.module:name`, got '{0}:create_app(1)'"),
        ("", "app: expected `package.module:name`, got '{0}:'"),
        ("a..b", "app: expected `package.module:name`, got '{0}:a..b'"),
    ],
)
def test_an_application_that_cannot_be_served(module, name, text):
    home = module(WEB)
    assert refused(web(f"{home}:{name}")) == text.format(home)


def test_an_application_that_is_missing():
    assert refused(web(None)).startswith("app: missing")
    assert refused(web("shop.web")) == "app: expected `package.module:name`, got 'shop.web'"


def test_a_module_that_does_not_exist(module):
    home = module(WEB)
    package = home.partition(".")[0]
    for missing, told in (
        ("no_such_module", "no_such_module"),
        ("no_such_module.web", "no_such_module"),
        (f"{package}.no_such", f"{package}.no_such"),
        (f"{home}.no_such", f"{home}.no_such"),
    ):
        text = refused(web(f"{missing}:application"))
        assert text.startswith(f"app: no module named '{told}': set ")
        assert "`directory` or `pythonpath`" in text


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_driver", ModuleNotFoundError),
        ("from os import no_such_name", ImportError),
        ("{}['DSN']", KeyError),
        ("def", SyntaxError),
        ("import sys; sys.exit(3)", SystemExit),
    ],
)
def test_what_the_services_own_code_raises_comes_through(module, source, error):
    with pytest.raises(error) as caught:
        assembly.load(web(f"{module(source)}:application"))
    assert not isinstance(caught.value, ForkdError)


def test_what_a_factory_or_a_constructor_raises_comes_through(module):
    with pytest.raises(KeyError, match="DSN"):
        assembly.load(web(f"{module(WEB)}:create_badly()"))
    build = assembly.load(ServiceSpec(name="x", server=f"{module(TASKS)}:Broken"))
    with pytest.raises(KeyError, match="DSN"):
        build()


def test_a_server_gets_its_arguments(module):
    build = assembly.load(ServiceSpec(name="x", server=f"{module(TASKS)}:Housekeeper", args={"retention_days": 30}))
    first, second = build().server, build().server
    assert isinstance(first, Server)
    assert first is not second
    assert first.retention_days == 30  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "args", "text"),
    [
        ("Housekeeper", {"days": 30}, "got an unexpected keyword argument 'days'; it takes (retention_days=1)"),
        (
            "Demanding",
            {"custommer": 5},
            "got an unexpected keyword argument 'custommer'; it takes (customer: str, *, cents=0)",
        ),
        ("Demanding", {"cents": 5}, "missing a required argument: 'customer'; it takes (customer: str, *, cents=0)"),
        ("Bare", {"topic": "x"}, "got an unexpected keyword argument 'topic'; it takes (currency='EUR')"),
        ("Broken", {"a": 1}, "got an unexpected keyword argument 'a'; it takes no arguments"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_there_is_a_worker(module, name, args, text):
    home = module(TASKS)
    assert refused(ServiceSpec(name="x", server=f"{home}:{name}", args=args)) == f"args: '{home}:{name}': {text}"


def test_a_class_whose_signature_cannot_be_read_is_tried(module):
    name = f"{module(TASKS)}:Unreadable"
    server = assembly.load(ServiceSpec(name="x", server=name, args={"a": 1}))().server
    assert vars(server) == {"args": {"a": 1}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Other", "server: '{0}:Other' is a class, expected a subclass of forkd.Server"),
        ("instance", "server: '{0}:instance' is of type Housekeeper, expected a subclass of forkd.Server"),
        ("make", "server: '{0}:make' is of type function, expected a subclass of forkd.Server"),
        ("Housekeeper()", "server: '{0}:Housekeeper()': name the class alone"),
        ("nothing", "server: module '{0}' has no attribute 'nothing'"),
    ],
)
def test_a_server_that_is_none(module, name, text):
    home = module(TASKS)
    assert refused(ServiceSpec(name="x", server=f"{home}:{name}")).startswith(text.format(home))


def test_an_rpc_server_gets_the_topic_of_the_configuration(module):
    home = module(TASKS)

    def server(name: str, **keys):
        return assembly.load(ServiceSpec(name="x", server=f"{home}:{name}", **keys))().server

    assert server("Billing").topic == "invoices"
    assert server("Billing", topic="billing").topic == "billing"
    bare = server("Bare", topic="billing", args={"currency": "CHF"})
    assert (bare.topic, bare.transport, bare.currency) == ("billing", "local", "CHF")


def test_a_topic_for_what_is_no_rpc_server_is_refused(module):
    home = module(TASKS)
    text = refused(ServiceSpec(name="x", server=f"{home}:Housekeeper", topic="billing"))
    assert text.startswith(f"topic: '{home}:Housekeeper' is no subclass of forkd.rpc.Server")
