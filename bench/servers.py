"""The WSGI servers that are measured under load: with two workers and 32 threads, each where it has any."""

from __future__ import annotations

from bench.peers import Peer, compiled, forkd

THREADS = 32
WORKERS = 2

_GUNICORN = ("gunicorn", "--bind=127.0.0.1:{port}", "--workers={workers}")
_GRANIAN = ("granian", "--interface=wsgi", "--port={port}", "--workers={workers}")
_UWSGI = ("uwsgi", "--master", "--die-on-term", "--need-app", "--disable-logging", "--listen=1024", "--module={app}")


def under_load() -> list[Peer]:
    """Return forkd with both engines, as it is and compiled, and its peers."""
    ours = [forkd(), forkd("threads")]
    return [
        *ours,
        *map(compiled, ours),
        Peer("gunicorn sync", (*_GUNICORN, "--worker-class=sync", "{app}")),
        Peer("gunicorn gthread", (*_GUNICORN, "--worker-class=gthread", f"--threads={THREADS}", "{app}")),
        Peer("gunicorn gevent", (*_GUNICORN, "--worker-class=gevent", "{app}")),
        Peer("eventlet.wsgi", _hosted("eventlet")),
        Peer("granian", (*_GRANIAN, "{app}")),
        Peer(
            "uWSGI",
            (*_UWSGI, "--processes={workers}", f"--threads={THREADS}", "--http11-socket=127.0.0.1:{port}"),
        ),
        # A thousand connections are more than it takes by default, and more than select() can watch.
        Peer(
            "waitress, 1 process",
            (
                "waitress-serve",
                "--listen=127.0.0.1:{port}",
                f"--threads={THREADS}",
                "--connection-limit=2000",
                "--asyncore-use-poll",
                "{app}",
            ),
        ),
        Peer("bjoern", _hosted("bjoern")),
        Peer("fastwsgi", _hosted("fastwsgi")),
    ]


def with_many_connections(most: int) -> list[Peer]:
    """Return those that can keep so many connections open in one worker, and do for two minutes."""
    patient = "    keepalive_timeout: 2m\n"
    gevent = ("--worker-class=gevent", f"--worker-connections={most}", "--keep-alive=120")
    return [
        *(peer._replace(config=peer.config + patient) for peer in (forkd(), forkd("threads"))),
        Peer("gunicorn gevent", (*_GUNICORN, *gevent, "{app}")),
        Peer("granian", (*_GRANIAN, f"--backpressure={most}", "{app}")),
    ]


def _hosted(kind: str) -> tuple[str, ...]:
    return ("python", "-m", "bench.hosts", kind, "{app}", "{port}", "{workers}")
