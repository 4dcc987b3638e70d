"""Whether what the application saw, and the client got, is what the bytes mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.wsgi.fuzz.model import End, Meaning, Message, meaning
from tests.wsgi.fuzz.second import Opinion, opinion
from tests.wsgi.fuzz.stage import Violation

if TYPE_CHECKING:
    from typing import Any

    from tests.wsgi.fuzz.stage import Played

REFUSALS = {400, 408, 413, 414, 417, 431, 501, 505}
SHOWN = 3000  # letters of each thing that is told
LEFT = "/leave"  # the beginning of a path whose body the application leaves unread


class Answer(NamedTuple):
    status: int
    closes: bool


def judge(played: Played) -> None:
    """Raise `Violation` unless all is right with one connection."""
    means = meaning(played.script.data)
    try:
        _judge_seen(played, means)
        _ask_another(played)
        if played.answers is not None:
            _judge_answers(played, means)
    except Violation as violation:
        told = {
            "pieces": played.script.pieces,
            "ending": played.script.ending,
            "seen": played.seen,
            "answers": played.answers,
            "messages": means.messages,
            "end": means.end,
        }
        lines = [f"{name}: {_shortened(repr(value))}" for name, value in told.items()]
        raise Violation("\n".join([str(violation), *lines])) from None


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}"


def require(truth: object, what: str) -> None:
    if not truth:
        raise Violation(what)


# --- what the application saw ----------------------------------------------------------------------------------------


def _judge_seen(played: Played, means: Meaning) -> None:
    require(len(played.seen) <= len(means.messages), "something was served that is no request")
    for record, message in zip(played.seen, means.messages, strict=False):
        _compare(record, message)


def _compare(record: dict[str, Any], message: Message) -> None:
    require(record["REQUEST_METHOD"].encode() == message.method, "another method")
    require(record["RAW_URI"].encode() == message.target, "another target")
    require(record["SERVER_PROTOCOL"] == ("HTTP/1.1" if message.http11 else "HTTP/1.0"), "another version")
    found = {key: value for key, value in record.items() if key.startswith(("HTTP_", "CONTENT_"))}
    require(found == _environ(message), f"other fields than {_environ(message)}")
    if record["body"] is not None:
        require(record["body"].encode("latin-1") == message.body, "another body")


def _environ(message: Message) -> dict[str, str]:
    environ: dict[str, str] = {}
    for name, value in message.fields:
        text = value.decode("latin-1")
        key = name.decode("ascii").upper().replace("-", "_")
        key = key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{key}"
        if b"_" not in name and name != b"proxy":
            joined = "; " if name == b"cookie" else ","
            environ[key] = f"{environ[key]}{joined}{text}" if key in environ else text
    if message.target[:1] not in (b"/", b"*"):
        environ["HTTP_HOST"] = message.target.decode().partition("://")[2].partition("?")[0].partition("/")[0]
    return environ


def _ask_another(played: Played) -> None:
    """Compare with what h11 reads."""
    rest = played.script.data
    for record in played.seen:
        found = opinion(rest)
        if found is None:
            return
        require(isinstance(found, Opinion), f"h11 reads no request: {found}")
        assert isinstance(found, Opinion)
        require(record["REQUEST_METHOD"].encode() == found.method, f"another method to h11: {found.method!r}")
        require(record["RAW_URI"].encode() == found.target, f"another target to h11: {found.target!r}")
        body = record["body"]
        require(body is None or body.encode("latin-1") == found.body, f"another body to h11: {found.body!r}")
        rest = found.rest


# --- what the client got ---------------------------------------------------------------------------------------------


def _judge_answers(played: Played, means: Meaning) -> None:
    """Compare answers with the meaning: each request is served, until one is refused, cut off, or ends it all."""
    assert played.answers is not None
    answers = _answers(played.answers, [message.method for message in means.messages])
    answered = 0
    for index, message in enumerate(means.messages):
        whole = message.body is not None
        left = _path(message).startswith(LEFT) and message.framed
        require(index < len(played.seen), "a legal request was not served")
        if not whole and not left:
            break  # in the midst of its body: the application has got an error
        require(index < len(answers) and answers[index].status == 200, "a legal request got no answer")
        answered += 1
        if left and answers[index].closes:
            require(len(played.seen) == len(answers) == index + 1, "more came behind the last answer")
            return
        require(answers[index].closes == message.last, "it is not said whether the connection ends")
    _judge_last(answers[answered:], means.end)


def _judge_last(rest: list[Answer], end: End) -> None:
    """Judge what came behind the answers to whole requests."""
    require(len(rest) <= 1, "more than one answer")
    require(all(answer.status in REFUSALS and answer.closes for answer in rest), "no refusal")
    if end in (End.REFUSED, End.BAD_BODY):
        require(rest, "a malformed request got no answer")
    if end in (End.NOTHING, End.LAST, End.CUT):
        require(not rest, "something legal was refused")


def _path(message: Message) -> str:
    target = message.target.decode()
    return target if target[0] == "/" else "/" + target.partition("://")[2].partition("?")[0].partition("/")[2]


def _answers(data: bytes, methods: list[bytes]) -> list[Answer]:
    """Return the final answers in `data`, the first of which are to requests of these methods."""
    found: list[Answer] = []
    while data:
        head, mark, data = data.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        require(mark and line.startswith(b"HTTP/1.1 "), f"no answer: {head[:100]!r}")
        fields = dict(each.lower().split(b": ", 1) for each in lines)
        status = int(line[9:12])
        if status == 100:
            continue
        bodiless = len(found) < len(methods) and methods[len(found)] == b"HEAD"
        size = 0 if bodiless else int(fields[b"content-length"])
        require(len(data) >= size, "an answer is cut off")
        data = data[size:]
        found.append(Answer(status, fields.get(b"connection") == b"close"))
    return found
