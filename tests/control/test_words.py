"""What the log says of a service that fails and fails again."""

from __future__ import annotations

from forkd.control import words
from forkd.control.words import Chronicle
from forkd.core.state import News

TAKEN = News(
    "exited", "web", id=1, generation=1, ok=False, text="cannot listen on 127.0.0.1:80: address already in use"
)
RAISED = News("import_failed", "web", id=1, pid=12, generation=1, text="Traceback …\n  File …\nKeyError: 'DSN'\n")
DIED = News("exited", "web", slot=0, id=2, pid=13, generation=1, ok=False, text="exited with code 3")


def told(chronicle: Chronicle, *news: News) -> list[str]:
    """Return what a log of level `info` gets."""
    return [line.text for line in map(chronicle.say, news) if line.level != "debug"]


def test_a_failure_that_stays_the_same_is_told_at_growing_intervals():
    text = words.say(TAKEN).text
    more = [f"{text} ({count} times so far)" for count in (2, 4, 8, 16)]
    assert told(Chronicle(), *[TAKEN] * 20) == [text, *more]


def test_what_is_not_told_is_there_for_debug():
    chronicle = Chronicle()
    lines = [chronicle.say(TAKEN) for _ in range(3)]
    assert [line.level for line in lines] == ["error", "error", "debug"]
    assert lines[2].text == f"{lines[0].text} (3 times so far)"


def test_the_count_stands_behind_a_traceback():
    assert told(Chronicle(), *[RAISED._replace(pid=pid) for pid in range(2)])[1].endswith(
        "\nKeyError: 'DSN' (2 times so far)"
    )


def test_what_is_new_is_told():
    text = words.say(TAKEN).text
    other = TAKEN._replace(text="too many open files")
    assert told(Chronicle(), TAKEN, other, TAKEN) == [text, words.say(other).text, text]


def test_everyone_is_told_of():
    one, other = TAKEN, TAKEN._replace(service="shop")
    assert len(told(Chronicle(), one, other, RAISED)) == 3


def test_every_death_of_a_worker_that_served_is_told():
    ready = News("ready", "web", slot=0, id=2, pid=13, generation=1)
    assert told(Chronicle(), DIED, ready, DIED, ready, DIED).count(words.say(DIED).text) == 3


def test_an_import_that_went_well_is_a_new_beginning():
    imported = News("imported", "web", id=1, pid=12, generation=1)
    assert told(Chronicle(), RAISED, imported, RAISED).count(words.say(RAISED).text) == 2


def test_after_a_reload_it_is_told_anew():
    assert told(Chronicle(), TAKEN, News("reload_started"), TAKEN).count(words.say(TAKEN).text) == 2


def test_ends_that_were_asked_for_are_all_told():
    stopped = DIED._replace(ok=True, text="stopped by the launcher")
    assert told(Chronicle(), *[stopped] * 3) == [words.say(stopped).text] * 3
