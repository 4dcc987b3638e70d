"""The application that Flask's documentation begins with."""

from __future__ import annotations

from flask import Flask

application = Flask(__name__)


@application.route("/")
def hello_world() -> str:
    """Say hello."""
    return "<p>Hello, World!</p>"
