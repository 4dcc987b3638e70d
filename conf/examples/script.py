"""The three services of conf/services.yaml without a configuration: `python conf/examples/script.py`, until Ctrl-C.

What is imported and made here is there in every worker, which is a fork of this process.
"""

from __future__ import annotations

import os
import sys

from forkd import ProcessLauncher, Service, wsgi
from forkd.errors import ForkdError
from linkbox.clicks import Clicks
from linkbox.housekeeper import Housekeeper
from linkbox.web import create_app

ADDRESS = f"127.0.0.1:{os.environ.get('LINKBOX_PORT', '8080')}"


def launch(launcher: ProcessLauncher) -> None:
    """Launch the page last: each call returns when all workers of its service are ready."""
    clicks = Clicks()
    clicks.topic = "clicks"
    launcher.launch_service(Service(clicks, name="clicks"), workers=2)
    launcher.launch_service(Service(Housekeeper(keep_days=30), name="housekeeper", concurrency="threads"))
    page = wsgi.Server(create_app(), ADDRESS, options=wsgi.Options(body_limit=16 * 1024))
    links = Service(page, name="links", concurrency="threads", threads=16)
    links.stop_timeout = 10.0  # seconds
    launcher.launch_service(links, workers=2)


def main() -> int:
    """Run the services until a signal stops them, and return the exit code."""
    launcher = ProcessLauncher()
    try:
        launch(launcher)
    except ForkdError as error:  # what runs by now stops when this process ends
        print(error, file=sys.stderr)
        return 1
    print(f"http://{ADDRESS}", flush=True)
    launcher.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
