"""How forkd is built and what it needs; what its tools are told stands in pyproject.toml.

With FORKD_COMPILE=1 in the environment, mypyc compiles a part of it: that needs a C compiler and Python's headers.
"""

import os
import pathlib
import re
import sys
from importlib import metadata

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_ext import build_ext

HERE = pathlib.Path(__file__).parent


def version() -> str:
    """Return the version that `forkd.__version__` names; it is written nowhere else."""
    found = re.search(r'^__version__ = "(.+)"$', (HERE / "forkd/__init__.py").read_text("utf-8"), re.MULTILINE)
    assert found, "forkd/__init__.py names no version"  # noqa: S101 -- a broken tree must not build
    return found[1]


COMPILE = os.environ.get("FORKD_COMPILE", "0") not in ("", "0")
MYPY = "mypy==2.4.1"  # exact: `make check` must say the same to everyone, and what it compiles is tested

# The modules that each request passes: what is called less often gains nothing. Errors stand elsewhere, such as in
# forkd/wsgi/refusal.py: mypyc cannot compile a class that is derived from a built-in one.
COMPILED = [
    "forkd/crews/crew.py",
    "forkd/crews/gate.py",
    "forkd/crews/green.py",
    "forkd/crews/lane.py",
    "forkd/crews/native.py",
    "forkd/overruns.py",
    "forkd/scoreboard.py",
    "forkd/wsgi/body.py",
    "forkd/wsgi/burst.py",
    "forkd/wsgi/causes.py",
    "forkd/wsgi/connection.py",
    "forkd/wsgi/connections.py",
    "forkd/wsgi/engine.py",
    "forkd/wsgi/eventlet_engine.py",
    "forkd/wsgi/fields.py",
    "forkd/wsgi/forwarded.py",
    "forkd/wsgi/handler.py",
    "forkd/wsgi/head.py",
    "forkd/wsgi/intake.py",
    "forkd/wsgi/known.py",
    "forkd/wsgi/names.py",
    "forkd/wsgi/native_engine.py",
    "forkd/wsgi/origin.py",
    "forkd/wsgi/outlet.py",
    "forkd/wsgi/response.py",
    "forkd/wsgi/target.py",
    "forkd/wsgi/wrapper.py",
]


class CompiledDistribution(Distribution):  # type: ignore[misc]  # setuptools ships no types
    """One that has extensions, which is asked before mypyc has said which C files they are made of."""

    def has_ext_modules(self) -> bool:
        """Return True, so that the wheel is one of this platform, and `Compile` runs."""
        return True


class Compile(build_ext):  # type: ignore[misc]  # as above
    """Compiles what COMPILED lists into `forkd/compiled__mypyc`, and for each module a small extension that loads it.

    mypyc sees nothing of what is installed, so that it makes the same of it everywhere.
    """

    def finalize_options(self) -> None:
        """Write the C files, and name them."""
        found = _installed("mypy")
        if f"mypy=={found}" != MYPY:
            sys.exit(f"FORKD_COMPILE needs {MYPY} here, or a build with isolation; found: {found or 'none'}")
        from mypyc.build import mypycify  # lazy: only here is it needed, and said to be

        self.set_undefined_options("build", ("build_temp", "build_temp"))
        options = ["--config-file=", "--no-site-packages", "--ignore-missing-imports"]
        self.distribution.ext_modules = mypycify(
            [*options, f"--cache-dir={self.build_temp}/mypy", *COMPILED],
            debug_level="0",
            group_name="forkd.compiled",
            target_dir=self.build_temp,
        )
        super().finalize_options()

    def get_source_files(self) -> list[str]:
        """Return none that would be a part of a source distribution."""
        return []


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def compiling() -> dict[str, object]:
    """Return what `setup` is told to compile, or nothing."""
    return {"distclass": CompiledDistribution, "cmdclass": {"build_ext": Compile}, "setup_requires": [MYPY]}


EXTRAS = {
    "amqp": ["kombu>=5.4"],  # RPC over RabbitMQ
    "postgresql": ["psycopg[binary]>=3.2"],  # tasks that run once per cluster: this one or the next
    "redis": ["redis>=5.0"],
}

TEST = [
    *(requirement for extra in EXTRAS.values() for requirement in extra),
    "aiohttp>=3.10",  # the clients that the WSGI server is asked by: this one, httpx, requests
    "coverage>=7.6",
    "django>=5.0",  # the applications that the WSGI server is tried on
    "flask>=3.0",
    "h11>=0.16",  # a second opinion on where a request ends
    "httpx>=0.27",
    "flask-sock>=0.7",  # WebSockets on the WSGI server, by what people use for them; so the next ones with "sock"
    "hypothesis>=6.100",
    "jsonschema>=4.20",  # `forkd schema` is checked against what the reader takes
    "pytest>=8.2",
    "pytest-randomly>=3.15",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "requests>=2.31",
    "simple-websocket>=1.0",
    "setuptools>=68",  # the test of the wheel builds one without a network
    "websocket-client>=1.7",
    "websockets>=15",
    "wheel>=0.43",
    "wsproto>=1.2",
]

DEV = [
    *TEST,
    MYPY,
    "ruff==0.17.6",
    "types-psutil",
    "types-PyYAML",
]

BENCH = [
    "Pyro5>=5.15",
    "bjoern>=3.2.2",  # compiled as it is installed
    "circus>=0.19",
    "django>=5.0",
    "fastwsgi>=0.0.9",
    "flask>=3.0",
    "gevent>=24.2",  # gunicorn's workers of this name
    "granian>=2.5",
    "gunicorn>=23",
    "kombu>=5.4",
    "oslo.messaging>=17",
    "oslo.service[threading]>=4.8",  # which that one imports; with native threads
    "packaging",  # which its gevent workers import
    "pika>=1.3",
    "pyuwsgi>=2.0.28",
    "setuptools<81",  # fastwsgi imports pkg_resources
    "supervisor>=4.2",
    "waitress>=3.0",
]

setup(
    name="forkd",
    version=version(),
    description="The daemon that runs Python services in many processes",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    author="The forkd developers",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["daemon", "supervisor", "prefork", "wsgi", "rpc", "periodic tasks", "zero downtime"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: Implementation :: CPython",
        "Topic :: Internet :: WWW/HTTP :: WSGI :: Server",
        "Topic :: System :: Boot :: Init",
        "Topic :: System :: Systems Administration",
        "Typing :: Typed",
    ],
    platforms=["Linux"],
    python_requires=">=3.11",
    packages=find_packages(include=["forkd", "forkd.*"]),
    package_data={"forkd": ["README.md", "py.typed"]},
    zip_safe=False,
    install_requires=[
        "cronsim>=2.6",
        "eventlet>=0.40",
        "msgpack>=1.0",
        "psutil>=5.9",
        "pydantic>=2.7",
        "pyyaml>=6.0",
        "setproctitle>=1.3",
    ],
    extras_require={**EXTRAS, "test": TEST, "dev": DEV, "bench": BENCH},
    entry_points={"console_scripts": ["forkd=forkd.cli:main"]},
    **(compiling() if COMPILE else {}),
)
