"""conf/reference.yaml is what it says: every key, with its default."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from forkd.config.load import load
from forkd.core.spec import AccessLogSpec, HealthcheckSpec, RecycleSpec, RestartSpec, ServiceSpec, TlsSpec

REFERENCE = Path(__file__).parent.parent.parent / "conf" / "reference.yaml"
DOCUMENT = yaml.safe_load(REFERENCE.read_text("utf-8"))
SHOP = DOCUMENT["services"]["shop"]

# Shown with an example, since the default is "none of that".
EXAMPLES = {
    *("app", "bind", "topic", "args", "directory", "pythonpath", "environment", "user", "group", "umask", "limits"),
    "secrets",
    "after",
    "healthcheck",
    "access_log",
    "tls",
}


@pytest.fixture(scope="module")
def services(tmp_path_factory, authority, pair):
    """Return the services of the file, with certificates that exist."""
    files = zip(("shop.pem", "shop.key", "clients.pem"), (*pair, authority.certfile), strict=True)
    text = REFERENCE.read_text("utf-8")
    for name, path in files:
        assert f"/etc/ssl/{name}" in text
        text = text.replace(f"/etc/ssl/{name}", path)
    copy = tmp_path_factory.mktemp("conf") / "services.yaml"
    copy.write_text(text, "utf-8")
    loaded = load(str(copy))
    assert not loaded.problems
    return loaded.config.services


def test_it_is_valid(services):
    assert [spec.name for spec in services] == [*DOCUMENT["services"], "healthcheck"]


def test_it_has_every_key():
    shown = {key for service in DOCUMENT["services"].values() for key in service}
    assert shown == set(ServiceSpec._fields) - {"name", "lease"}
    assert set(SHOP["restart"]) == set(RestartSpec._fields)
    assert set(SHOP["recycle"]) == set(RecycleSpec._fields)
    assert set(SHOP["healthcheck"]) == set(HealthcheckSpec._fields)
    assert set(SHOP["access_log"]) == set(AccessLogSpec._fields)
    assert set(SHOP["tls"]) == set(TlsSpec._fields)


@pytest.mark.parametrize("key", sorted(set(ServiceSpec._field_defaults) - EXAMPLES))
def test_what_it_shows_is_the_default(services, key):
    shop, billing, *_ = services
    shown = billing if key == "transport" else shop
    default = 1000 if key == "threads" else ServiceSpec._field_defaults[key]
    assert getattr(shown, key) == default
