"""`python -m bench [respawn] [status] [reload] [idle] [scale] [wsgi] [rpc]`: measure, print Markdown; unnamed: all."""

from __future__ import annotations

import argparse

from bench import figures, idle, reload, respawn, scale, status, wsgi
from bench.rpc import measure as rpc

MEASURES = {
    "respawn": respawn.measure,
    "status": status.measure,
    "reload": reload.measure,
    "idle": idle.measure,
    "scale": scale.measure,
    "wsgi": wsgi.measure,
    "rpc": rpc.measure,
}


def main() -> None:
    """Run the named measurements, one after the other: they need the machine for themselves."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="measure forkd beside its peers")
    parser.add_argument(
        "names", nargs="*", choices=[*MEASURES, []], default=[], metavar="NAME", help=", ".join(MEASURES)
    )
    names = parser.parse_args().names
    print(figures.machine(), flush=True)
    for name in names or MEASURES:
        MEASURES[name]()


if __name__ == "__main__":
    main()
