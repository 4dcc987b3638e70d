"""From a spec to a running object: imports what the spec names and builds the Service; it starts and forks nothing."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.errors import ForkdError
from forkd.periodic import NEEDS_LEASE
from forkd.server import Server
from forkd.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from forkd.core.spec import ServiceSpec
    from forkd.tls_files import Files


def enter(spec: ServiceSpec) -> None:
    """Go to the service's directory, and have its code imported from there first, then from `pythonpath`."""
    if spec.directory is not None:
        os.chdir(spec.directory)
    first = [spec.directory] if spec.directory is not None else []
    sys.path[:0] = [os.path.abspath(path) for path in (*first, *spec.pythonpath)]


def tls_of(spec: ServiceSpec, files: Callable[[], Files]) -> SSLContext | None:
    """Return what a service's ports speak, made of the `files` of `spec.tls`; None: no TLS. Raises `ForkdError`.

    It is made before workers are forked: a client can resume with any of them the session that it began with another.
    """
    if not spec.tls.certfile:
        return None
    from forkd import tls_context  # lazy: only ports that speak TLS pay for OpenSSL

    return tls_context.make(spec.tls, files())


def load(spec: ServiceSpec, tls: SSLContext | None = None) -> Callable[[], Service]:
    """Import the service's code and return the callable that builds its Service, to be called in each worker.

    The process has entered the service's directory and paths. `tls` is that of `tls_of`; None: whoever builds the
    Service reads the files. An application's factory is called here, the server's constructor in the callable. What the
    service's own code raises comes through unchanged; a name that leads nowhere, or to something that cannot be served
    or takes other arguments, is a `ForkdError` that begins with its key.
    """
    make_server = _wsgi(spec, tls) if spec.server == "wsgi" else _server(spec)

    def build() -> Service:
        service = Service(
            make_server(),
            name=spec.name,
            threads=spec.threads or None,
            concurrency=spec.concurrency,
            request_timeout=spec.request_timeout,
        )
        service.lease = spec.lease
        return service

    return build


def _wsgi(spec: ServiceSpec, tls: SSLContext | None) -> Callable[[], Server]:
    from forkd import wsgi  # lazy: only a service that serves WSGI pays for the parser

    if spec.app is None:
        raise ForkdError("app: missing; a service with `server: wsgi` needs one, as in `app: shop.web:application`")
    app = _resolve("app", spec.app)
    if not callable(app):
        raise ForkdError(f"app: {spec.app!r} is of type {type(app).__name__}, which is no WSGI callable")
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(type(app), "__call__", None)):  # noqa: B004 -- not whether, but what
        raise ForkdError(f"app: {spec.app!r} is a coroutine function (ASGI?); forkd serves WSGI")
    _check_callable(spec.app, app)
    options = wsgi.Options(**{name: getattr(spec, name) for name in wsgi.Options._fields})
    return lambda: wsgi.Server(app, spec.bind, options=options, tls=tls)


def _check_callable(text: str, app: Callable[..., Any]) -> None:
    """Refuse a function that cannot be called as an application: mostly a factory without its parentheses."""
    if not inspect.isfunction(app):
        return  # what else can be called may not say how
    taken = inspect.signature(app, follow_wrapped=False)
    try:
        taken.bind(None, None)
    except TypeError:
        what = f"takes {taken} and not (environ, start_response)"
        raise ForkdError(f"app: {text!r} {what}; a factory is named with its parentheses, {f'{text}()'!r}") from None


def _server(spec: ServiceSpec) -> Callable[[], Server]:
    found = _resolve("server", spec.server)
    if not inspect.isclass(found) or not issubclass(found, Server):
        what = "a class" if inspect.isclass(found) else f"of type {type(found).__name__}"
        raise ForkdError(f"server: {spec.server!r} is {what}, expected a subclass of forkd.Server")
    _check_args(spec, found)
    _check_lease(spec, found)
    remote = _is_rpc(found)
    if spec.topic is not None and not remote:
        raise ForkdError(f"topic: {spec.server!r} is no subclass of forkd.rpc.Server, so nothing can be called on it")

    if remote:
        from forkd.rpc import transports  # lazy: only a service that serves calls pays for it

        transports.load(spec.transport)

    def make() -> Server:
        server: Any = found(**spec.args)
        if remote:
            # The launcher has made the sockets by these names, so they win over what the class may say.
            server.topic = spec.topic or server.topic
            server.transport = spec.transport
            server.allow = spec.allow
            server.call_queue = server.call_queue if spec.call_queue is None else spec.call_queue
        return server  # type: ignore[no-any-return]  # Any, for what rpc.Server adds

    return make


def _check_args(spec: ServiceSpec, server: type[Server]) -> None:
    try:
        signature = inspect.signature(server)
    except (TypeError, ValueError):
        return  # it cannot be read: its worker will see
    taken = str(signature) if signature.parameters else "no arguments"
    try:
        signature.bind_partial(**spec.args)  # a misspelt one is to be told before the one that is missing for it
        signature.bind(**spec.args)
    except TypeError as error:
        raise ForkdError(f"args: {spec.server!r}: {error}; it takes {taken}") from None


def _check_lease(spec: ServiceSpec, server: type[Server]) -> None:
    """Look for what tasks of the cluster need; the driver is imported here, once for all workers."""
    if not any(how.enabled and how.scope == "cluster" for how in server.periodic_tasks().values()):
        return
    if spec.lease is None:
        raise ForkdError(f"server: {spec.server!r}: {NEEDS_LEASE}")
    from forkd.lease.address import parse  # lazy: only services with such tasks need it
    from forkd.lease.contact import opened  # lazy: as above

    opened(parse(spec.lease), 0.0).close()  # nothing is asked


def _is_rpc(server: type[Server]) -> bool:
    # Looked up, not imported: whoever derives from it has imported it, and the others need not pay for it.
    rpc = sys.modules.get("forkd.rpc.server")
    return rpc is not None and issubclass(server, rpc.Server)


class _Name(NamedTuple):
    """A name as it stands in the configuration, taken apart."""

    key: str
    text: str
    module: str
    attributes: str
    is_factory: bool


def _resolve(key: str, text: str) -> Any:
    """Return what `module:attribute`, `module:a.b` or `module:factory()` leads to."""
    name = _parse(key, text)
    found = _import(name)
    for attribute in name.attributes.split("."):
        where = f"module {name.module!r}" if inspect.ismodule(found) else repr(getattr(found, "__name__", found))
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise ForkdError(f"{key}: {where} has no attribute {attribute!r}") from None
    if not name.is_factory:
        return found
    if not callable(found):
        raise ForkdError(f"{key}: {text!r}: {name.attributes!r} is of type {type(found).__name__} and cannot be called")
    return found()


def _parse(key: str, text: str) -> _Name:
    module, colon, attributes = text.partition(":")
    is_factory = attributes.endswith("()")
    attributes = attributes.removesuffix("()")
    if not colon or not all(part.isidentifier() for part in f"{module}.{attributes}".split(".")):
        raise ForkdError(f"{key}: expected `package.module:name`, got {text!r}")
    if is_factory and key == "server":
        raise ForkdError(f"server: {text!r}: name the class alone; it is called with `args` in each worker")
    return _Name(key, text, module, attributes, is_factory)


def _import(name: _Name) -> Any:
    try:
        return importlib.import_module(name.module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name.module != missing and not name.module.startswith(f"{missing}."):
            raise  # something that the service's code imports itself
        raise ForkdError(
            f"{name.key}: no module named {missing!r}: set `directory` or `pythonpath` to where it is; "
            f"searched {', '.join(sys.path[:3])}, …"
        ) from None
