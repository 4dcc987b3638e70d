"""How forkd is installed; what its tools are told stands in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "forkd/__init__.py").read_text(), re.MULTILINE)[1]

setup(
    name="forkd",
    version=VERSION,
    description="The daemon that runs Python services in many processes",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["forkd", "forkd.*"]),
    package_data={"forkd": ["README.md", "py.typed"]},
    install_requires=[
        "psutil>=5.9",
        "setproctitle>=1.3",
        "eventlet>=0.40",
        "pyyaml>=6.0",
        "httptools>=0.6",
        "msgpack>=1.0",
        "pydantic>=2.7",
    ],
    entry_points={"console_scripts": ["forkd=forkd.cli:main"]},
)
