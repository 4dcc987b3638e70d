"""Texts made to exhaust their reader: each is refused, soon and in a few words."""

from __future__ import annotations

import pytest

from forkd.config import files, tree


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join(9 * [f'*a{n - 1}'])}]" for n in range(1, levels)]
    return "\n".join(lines)


def merges(levels: int) -> str:
    lines = ["a0: &a0 {x: {x: {x: 1}}}"]
    lines += [f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}, r: *a{n - 1}}}" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (laughs(12), "more than 50000 values, counted with what aliases stand for"),
        (merges(30), "more than 50000 values, counted with what aliases stand for"),
        ("services: " + 40 * "[" + 40 * "]", "nested deeper than 32 levels"),
        ("services: " + 500_000 * "[", "nested deeper than 32 levels"),
        ("services: " + 40 * "{a: " + 40 * "}", "nested deeper than 32 levels"),
        ("".join(f"{n * ' '}a:\n" for n in range(200)), "nested deeper than 32 levels"),
        ("".join(f"{n * '- '}\n" for n in range(1, 50)), "nested deeper than 32 levels"),
        (200_000 * "? ", "nested deeper than 32 levels"),
        ("- " * 400_000, "nested deeper than 32 levels"),
    ],
    ids=["laughs", "merges", "lists", "open lists", "mappings", "indents", "dashes", "questions", "one line"],
)
def test_bombs(told, text, problem):
    (line,) = told(text)
    assert problem in line or "expected a string as key" in line
    assert len(line) < 200


def test_depth_by_aliases(told):
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 40))]
    assert "nested deeper than 32 levels" in told("\n".join(lines))[0]


def test_many_values(told, monkeypatch):
    monkeypatch.setattr(tree, "MOST_NODES", 1000)
    (line,) = told("a: [" + "1, " * 300_000)
    assert line == "services.yaml:1:2999: more than 50000 values, counted with what aliases stand for"


def test_many_services_of_one_large_default(told):
    services = "".join(f"  s{n}: {{server: 'a:B'}}\n" for n in range(210))
    lines = told(f"defaults: {{environment: {{A: '{61_000 * 'x'}'}}}}\nservices:\n{services}")
    assert len(lines) == 201


def test_many_files(folder, monkeypatch):
    monkeypatch.setattr(files, "MOST_FILES", 3)
    folder.write("include: '*.inc'\nservices: {a: {server: 'a:B'}}")
    for number in range(4):
        folder.write("services: {}", f"{number}.inc")
    assert folder.problems() == [
        "services.yaml:1:10: include: 2.inc: more than 3 files",
        "services.yaml:1:10: include: 3.inc: more than 3 files",
    ]


def test_large_files_together(folder, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_TOGETHER", 100)
    folder.write("include: '*.inc'\nservices: {a: {server: 'a:B'}}")
    folder.write("#" + 100 * "x", "1.inc")
    assert folder.problems() == [
        "services.yaml:1:10: include: 1.inc: all files together are larger than 4 MiB",
    ]


@pytest.mark.parametrize("digits", ["9" * 5000, "0x" + "f" * 5000, "1" * 101, "1_" * 3000 + "1"])
def test_long_numbers_are_text(service, digits):
    assert service(f"args: {{a: {digits}}}").args == {"a": digits}


def test_a_long_number_with_a_tag(told):
    (line,) = told(f"services: {{a: {{server: 'a:B', args: {{a: !!int {'9' * 5000}}}}}}}")
    assert line == "services.yaml:1:41: services.a.args.a: the tag !!int does not fit its value"


def test_a_file_of_one_long_line(told):
    (line,) = told("a: '" + "x" * 1_000_000 + "'")
    assert line == "services.yaml:1:1: a: unknown key"
