"""Files that cannot be read, and files that include others."""

from __future__ import annotations

import errno
import os

import pytest

from forkd.config.load import load
from forkd.errors import ConfigError

A = "services: {a: {server: 'a:A'}}\n"
B = "services: {b: {server: 'a:B'}}\n"


def refused(path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(str(path), {})
    return caught.value.problems


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "services.yaml: is empty; expected a mapping with services"),
        (b"# nothing\n", "services.yaml: is empty; expected a mapping with services"),
        (b"a\0b", "services.yaml: not a text file: it holds NUL bytes"),
        (b"a: b\nc: \xff\xfe\n", "services.yaml: not a text file: line 2 is not UTF-8"),
        ("a: b".encode("utf-16"), "services.yaml: not a text file: it holds NUL bytes"),
        (b"\x7fELF", "services.yaml:1:1: not a text file: it holds the character U+007F"),
        (b"#" * ((1 << 20) + 1), "services.yaml: larger than 1 MiB"),
    ],
)
def test_what_is_no_configuration(told, data, problem):
    assert told(data) == [problem]


def test_a_byte_order_mark_is_no_matter(folder):
    folder.write(b"\xef\xbb\xbf" + A.encode())
    assert folder.load().services[0].name == "a"


def test_no_file(tmp_path):
    assert refused(tmp_path / "x.yaml") == [f"{tmp_path}/x.yaml: cannot read: no such file or directory"]


def test_a_directory(tmp_path):
    assert refused(tmp_path) == [f"{tmp_path}: cannot read: it is a directory"]


def test_a_pipe_that_nobody_writes_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe") == [f"{tmp_path}/pipe: cannot read: it is no regular file"]


def test_a_device():
    assert refused("/dev/zero") == ["/dev/zero: cannot read: it is no regular file"]


def test_a_loop_of_links(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert refused(tmp_path / "loop") == [f"{tmp_path}/loop: cannot read: too many levels of symbolic links"]


def test_a_name_that_no_file_can_have():
    assert refused("a\0b") == ["a\\x00b: cannot read: a name with a NUL character"]


def test_an_unreadable_file(folder, monkeypatch):
    def forbid(*_args):
        raise PermissionError(errno.EACCES, "denied")

    path = folder.write(A)
    monkeypatch.setattr(os, "open", forbid)
    assert refused(path) == [f"{path}: cannot read: permission denied"]


def test_a_file_that_fails_while_it_is_read():
    path = "/proc/self/mem"  # regular by its looks, and nothing is mapped where it begins
    assert refused(path) == [f"{path}: cannot read: input/output error"]


def test_included_files_are_read_in_order(folder):
    folder.write("include: [conf.d/*.yaml, extra.yaml]\n" + A)
    folder.write("services: {c: {server: 'a:C'}}", "conf.d/2.yaml")
    folder.write(B, "conf.d/1.yaml")
    folder.write(B, "conf.d/ignored.txt")
    folder.write("services: {d: {server: 'a:D'}}", "extra.yaml")
    assert [spec.name for spec in folder.load().services] == ["a", "b", "c", "d"]


def test_included_files_include_relative_to_themselves(folder):
    folder.write("include: one/one.yaml\nlog: {level: debug}")
    folder.write("include: ../two.yaml\n" + A, "one/one.yaml")
    folder.write("defaults: {workers: 3}\n" + B, "two.yaml")
    config = folder.load()
    assert [(spec.name, spec.workers) for spec in config.services] == [("a", 3), ("b", 3)]
    assert config.log_level == "debug"


def test_paths_in_an_included_file_start_at_it(folder):
    folder.write("include: sub/a.yaml")
    folder.write("services: {a: {server: 'a:A', pythonpath: [lib]}}", "sub/a.yaml")
    assert folder.load().services[0].pythonpath == (f"{folder.path}/sub/lib",)


def test_an_include_may_name_a_variable(folder):
    folder.environ["STAGE"] = "live"
    folder.write('include: "${STAGE}.yaml"')
    folder.write(A, "live.yaml")
    assert folder.load().services[0].name == "a"


def test_a_pattern_may_match_nothing_and_a_name_may_not(folder):
    folder.write("include: [none/*.yaml, none.yaml]\n" + A)
    assert folder.problems() == [
        "services.yaml:1:24: include: none.yaml: cannot read: no such file or directory",
    ]


def test_the_folder_of_the_file_is_no_pattern(tmp_path):
    (tmp_path / "a[1]*").mkdir()
    main = tmp_path / "a[1]*" / "services.yaml"
    main.write_text("include: '*.inc'\n" + A)
    (tmp_path / "a[1]*" / "b.inc").write_text(B)
    assert [spec.name for spec in load(str(main), {}).config.services] == ["a", "b"]


@pytest.mark.parametrize(
    ("include", "problem"),
    [
        ("3", "services.yaml:1:10: include: expected a path or a pattern of paths, got 3"),
        ("[a.yaml, {}]", "services.yaml:1:19: include[1]: expected a path or a pattern of paths, got a mapping"),
        ("", "services.yaml:1:9: include: expected a path or a pattern of paths, got nothing"),
        ("services.yaml", "services.yaml:1:10: include: services.yaml: includes itself"),
        ("[a.yaml, a.yaml]", "services.yaml:1:19: include: a.yaml: included twice; first at services.yaml:1:11"),
        ("deep/..", "services.yaml:1:10: include: deep/..: cannot read: it is a directory"),
    ],
)
def test_what_cannot_be_included(folder, include, problem):
    folder.write(f"include: {include}\n{A}")
    folder.write(B, "a.yaml")
    (folder.path / "deep").mkdir()
    assert folder.problems() == [problem]


def test_files_that_include_each_other(folder):
    folder.write("include: b.yaml\n" + A)
    folder.write("include: services.yaml\n" + B, "b.yaml")
    assert folder.problems() == ["b.yaml:1:10: include: services.yaml: includes itself over others"]


def test_a_link_to_a_file_is_that_file(folder):
    folder.write("include: link.yaml\n" + A)
    (folder.path / "link.yaml").symlink_to("services.yaml")
    assert folder.problems() == ["services.yaml:1:10: include: link.yaml: includes itself"]


def test_a_service_in_two_files(folder):
    folder.write("include: b.yaml\nlog: {level: info}\nservices:\n  shop: {server: 'a:A'}\n")
    folder.write("log: {level: debug}\nservices:\n  shop: {server: 'a:B'}\n", "b.yaml")
    assert folder.problems() == [
        "b.yaml:1:1: log: defined twice; first at services.yaml:2:1",
        "b.yaml:3:3: services.shop: defined twice; first at services.yaml:4:3",
    ]


def test_mistakes_of_all_files_are_told(folder):
    folder.write("include: ['*.inc']\nservices:\n  a: {server: 'a:A', wrkers: 3}\n")
    folder.write("services: [", "1.inc")
    folder.write("- a", "2.inc")
    folder.write("", "3.inc")
    folder.write("services: 3", "4.inc")
    folder.write("services: {b: {server: 3}}", "5.inc")
    assert folder.problems() == [
        'services.yaml:3:22: services.a.wrkers: unknown key; did you mean "workers"?',
        "1.inc:1:12: not valid YAML: expected the node content, but found '<stream end>'",
        "2.inc:1:1: expected a mapping with services, got a list",
        "3.inc: is empty; expected a mapping with services",
        "4.inc:1:1: services: defined twice; first at services.yaml:2:1",
        '5.inc:1:24: services.b.server: expected "wsgi" or "package.module:ServerSubclass", got 3',
    ]
