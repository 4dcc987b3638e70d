"""Secrets and variables from files reach the service, and neither the operator's eyes nor the launcher's."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

from tests.functional.installed import APP, memory
from tests.waiting import until

if TYPE_CHECKING:
    from tests.functional.installed import Installed

VALUE, OTHER, FROM_FILE = "hunter2-of-the-secret", "hunter3-of-the-secret", "hunter4-of-the-file"
SHOWS = APP.replace("{VERSION} {os.getpid()}", "{os.environ['DB_URL']} {os.environ['TOKEN']}")


def test_nobody_else_sees_them(forkd: Installed) -> None:
    forkd.write("app.py", SHOWS)
    forkd.write("db", f"{VALUE}\n")
    forkd.write("shop.env", f"TOKEN={FROM_FILE}\n")
    web = forkd.web(secrets={"DB_URL": "db"}, env_file="shop.env", workers=2)
    forkd.configure({"web": web}, log={"level": "debug"})
    forkd.start()
    assert forkd.get() == f"{VALUE} {FROM_FILE}"

    forkd.write("db", f"{OTHER}\n")
    assert forkd.run("reload").returncode == 0
    assert forkd.get() == f"{OTHER} {FROM_FILE}"

    (forkd.folder / "db").unlink()
    refused = forkd.run("reload")
    assert refused.returncode == 1
    assert f"secrets.DB_URL: {forkd.folder}/db: cannot read: no such file or directory" in refused.stderr
    assert forkd.get() == f"{OTHER} {FROM_FILE}"

    shown = [forkd.log.read_text(), refused.stderr, json.dumps(forkd.status()), *forkd.titles()]
    assert not re.search("hunter[234]", "\n".join(shown))
    found = memory(forkd.pid)
    assert b"db: cannot read" in found  # it is the launcher's
    assert VALUE.encode() not in found
    assert OTHER.encode() not in found


def test_a_service_waits_for_a_secret_that_is_missing(forkd: Installed) -> None:
    forkd.write("app.py", SHOWS)
    forkd.configure({"web": forkd.web(secrets={"DB_URL": "db"}, environment={"TOKEN": "t"}, restart={"delay": 0.05})})
    forkd.start(ready=False)
    until(lambda: "secrets.DB_URL: " in (forkd.service().get("error") or ""), what="the error in the status")
    forkd.write("db", VALUE)
    forkd.until_running()
    assert forkd.get() == f"{VALUE} t"


def test_check_looks_at_secrets_when_it_imports(forkd: Installed) -> None:
    forkd.write("app.py", "import os\nos.environ['DB_URL']\n" + APP)
    forkd.configure({"web": forkd.web(secrets={"DB_URL": "db"})})
    assert forkd.run("check", "-c", str(forkd.config)).returncode == 0
    done = forkd.run("check", "--import", "-c", str(forkd.config))
    assert done.returncode == 78
    place = f": services.web.secrets.DB_URL: {forkd.folder}/db: cannot read: no such file or directory"
    assert done.stderr.count("\n") == 1
    assert place in done.stderr
    forkd.write("db", VALUE)
    assert forkd.run("check", "--import", "-c", str(forkd.config)).returncode == 0
    assert "DB_URL" not in os.environ
