"""A small Flask application: JSON, forms, files, sessions, streams, errors."""

from __future__ import annotations

import hashlib
import io
import os

from flask import Flask, Response, abort, jsonify, request, send_file, session, stream_with_context

from tests.wsgi import sent

app = Flask(__name__)
app.secret_key = "for the tests"


@app.get("/items/<int:number>")
def item(number: int) -> Response:
    return jsonify(number=number, query=request.args.get("q"), address=request.remote_addr)


@app.post("/items")
def add() -> Response:
    return jsonify(request.get_json())


@app.post("/upload")
def upload() -> Response:
    return jsonify({name: len(file.read()) for name, file in request.files.items()} | request.form.to_dict())


@app.post("/raw")
def raw() -> Response:
    return jsonify(size=len(request.get_data()), length=request.content_length)


@app.route("/digest", methods=["POST", "PUT"])
def digest() -> Response:
    found = hashlib.sha256()
    while piece := request.stream.read(65536):
        found.update(piece)
    return Response(found.hexdigest(), mimetype="text/plain")


@app.get("/visits")
def visits() -> Response:
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(visits=session["visits"])


@app.get("/stream")
def stream() -> Response:
    def lines():
        for number in range(3):
            yield f"{request.path} {number}\n"

    return Response(stream_with_context(lines()), mimetype="text/plain")


@app.get("/download")
def download() -> Response:
    return send_file(io.BytesIO(b"data" * 50000), mimetype="application/octet-stream")


@app.get("/itself")
def itself() -> Response:
    return send_file(os.path.abspath(__file__), conditional=True)


@app.get("/file")
def file() -> Response:
    return send_file(request.args["path"], conditional=True)


@app.get("/sent")
def sent_by_the_kernel() -> Response:
    return jsonify(sum(sent.TOTAL))


@app.get("/teapot")
def teapot() -> Response:
    abort(418)


@app.get("/broken")
def broken() -> Response:
    raise RuntimeError("the secret cause")
