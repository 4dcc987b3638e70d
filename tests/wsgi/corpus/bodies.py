"""Malformed bodies in chunks (RFC 9112, section 7.1): what stands behind the head of a request that announces one."""

from __future__ import annotations

from tests.wsgi.corpus.case import Case

END = b"\r\nabc\r\n0\r\n\r\n"

SIZES = [
    Case("no size", b"\r\nabc\r\n0\r\n\r\n", 400, "a size is required"),
    Case("no size for the last chunk", b"3\r\nabc\r\n\r\n\r\n", 400, "as above"),
    Case("extension without a size", b";a" + END, 400, "as above"),
    Case("bad size", b"x" + END, 400, "1*HEXDIG"),
    Case("bad digit", b"3g" + END, 400, "not its longest good prefix"),
    Case("0x size", b"0x3" + END, 400, "what int() takes"),
    Case("0X size", b"0X3" + END, 400, "what int() takes"),
    Case("x size", b"x3" + END, 400, "1*HEXDIG"),
    Case("0x as the last size", b"3\r\nabc\r\n0x0\r\n\r\n", 400, "what strtol() takes"),
    Case("plus size", b"+3" + END, 400, "as above"),
    Case("minus size", b"-3" + END, 400, "as above"),
    Case("minus zero as the last size", b"3\r\nabc\r\n-0\r\n\r\n", 400, "as above"),
    Case("underscore size", b"0_3" + END, 400, "as above"),
    Case("underscore in the last size", b"3\r\nabc\r\n0_0\r\n\r\n", 400, "as above"),
    Case("decimal size", b"3.0" + END, 400, "1*HEXDIG"),
    Case("quoted size", b'"3"' + END, 400, "1*HEXDIG"),
    Case("list of sizes", b"3,3" + END, 400, "1*HEXDIG"),
    Case("two sizes", b"3 3" + END, 400, "1*HEXDIG"),
    Case("size outside ASCII", b"\xb3" + END, 400, "what isdigit() takes"),
    Case("NUL before the size", b"\x003" + END, 400, "1*HEXDIG"),
    Case("NUL after the size", b"3\x00" + END, 400, "strings end at NUL elsewhere"),
    Case("space before the size", b" 3" + END, 400, "as above"),
    Case("space after the size", b"3 " + END, 400, "read differently by others"),
    Case("tab after the size", b"3\t" + END, 400, "read differently by others"),
    Case("vertical tab after the size", b"3\x0b" + END, 400, "what bytes.strip() takes"),
    Case("space after the last size", b"3\r\nabc\r\n0 \r\n\r\n", 400, "read differently by others"),
    Case("word after the size", b"3 a" + END, 400, "an extension has a semicolon"),
    Case("size overflows 64 bits", b"10000000000000003" + END, 400, "2**64 + 3"),
    Case("size of many digits", b"0" * 20 + b"3" + END, 400, "legal, but nobody needs more than 15"),
    Case("line without an end", b"3" * 2000, 400, "bounded"),
]

ENDS = [
    Case("bare LF after the size", b"3\nabc\r\n0\r\n\r\n", 400, "line ends that others do not see"),
    Case("bare CR after the size", b"3\rabc\r\n0\r\n\r\n", 400, "as above"),
    Case("CR CR after the size", b"3\r\rabc\r\n0\r\n\r\n", 400, "as above"),
    Case("CR CR LF after the size", b"3\r\r\nabc\r\n0\r\n\r\n", 400, "as above"),
    Case("CR and any byte after the size", b"3\rX\nabc\r\n0\r\n\r\n", 400, "as above"),
    Case("bare LF after the data", b"3\r\nabc\n0\r\n\r\n", 400, "as above"),
    Case("bare CR after the data", b"3\r\nabc\r0\r\n\r\n", 400, "as above"),
    Case("any two bytes after the data", b"3\r\nabcXX0\r\n\r\n", 400, "CVE-2025-43859"),
    Case("CR and any byte after the data", b"3\r\nabc\rX0\r\n\r\n", 400, "as above"),
    Case("LF CR after the data", b"3\r\nabc\n\r0\r\n\r\n", 400, "as above"),
    Case("two CRLF after the data", b"3\r\nabc\r\n\r\n0\r\n\r\n", 400, "a size is required"),
    Case("bare LF after the last size", b"3\r\nabc\r\n0\n\r\n", 400, "as above"),
    Case("bare LF at the end", b"3\r\nabc\r\n0\r\n\n", 400, "as above"),
    Case("bare CR at the end", b"3\r\nabc\r\n0\r\n\rX\r\n", 400, "as above"),
    Case("any two bytes at the end", b"3\r\nabc\r\n0\r\nXX\r\n\r\n", 400, "CVE-2023-40175"),
    Case("chunk too long", b"3\r\nabcd\r\n0\r\n\r\n", 400, "its end is elsewhere"),
    Case("chunk too short", b"4\r\nabc\r\n0\r\n\r\n", 400, "its end is elsewhere"),
    Case("chunk shorter by two", b"5\r\nabc\r\n0\r\n\r\n", 400, "TERM.SPILL"),
    Case("no CRLF between chunks", b"3\r\nabc0\r\n\r\n", 400, "its end is elsewhere"),
]

EXTENSIONS = [
    Case("bare CR in an extension", b"3;a\rb" + END, 400, "TERM.EXT"),
    Case("bare LF in an extension", b"3;a\nb" + END, 400, "TERM.EXT"),
    Case("bare LF before the data", b"3;\nabc\r\n0\r\n\r\n", 400, "TERM.EXT"),
    Case("bare CR before an extension", b"3\r;a" + END, 400, "CVE-2023-30589: EXT.TERM"),
    Case("bare LF in a quoted value", b'3;a="\n"' + END, 400, "TERM.EXT"),
    Case("CRLF in a quoted value", b'3;a="\r\nabc\r\n0\r\n\r\n"', 400, "a line end to us, none to others"),
    Case("quote without an end", b'3;a="b' + END, 400, "as above"),
    Case("quote that is escaped", b'3;a="b\\"' + END, 400, "as above"),
    Case("control in an extension", b"3;a\x00b" + END, 400, "RFC 9112, 7.1.1"),
    Case("DEL in an extension", b"3;a=\x7f" + END, 400, "as above"),
    Case("extension outside ASCII", b"3;\xe9" + END, 400, "no token"),
    Case("extension without a name", b"3;" + END, 400, "no token"),
    Case("value without a name", b"3;=b" + END, 400, "no token"),
    Case("name without a value", b"3;a=" + END, 400, "a value is required behind the sign"),
    Case("two semicolons", b"3;;a" + END, 400, "no token"),
    Case("space after an extension", b"3;a " + END, 400, "read differently by others"),
    Case("two words in an extension", b"3;a b" + END, 400, "no token"),
    Case("colon in an extension", b"3;a:b" + END, 400, "no token"),
    Case("bad extension of the last chunk", b"3\r\nabc\r\n0;\r\n\r\n", 400, "as of any other"),
    Case("long extension", b"3;" + b"a" * 2000 + END, 400, "bounded"),
    Case("many long extensions", (b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 20 + b"0\r\n\r\n", 413, "CVE-2023-39326"),
]

TRAILERS = [
    Case("bad trailer", b"3\r\nabc\r\n0\r\nX : a\r\n\r\n", 400, "as a field"),
    Case("trailer without a colon", b"3\r\nabc\r\n0\r\nX\r\n\r\n", 400, "as a field"),
    Case("trailer without a name", b"3\r\nabc\r\n0\r\n: a\r\n\r\n", 400, "as a field"),
    Case("trailer outside ASCII", b"3\r\nabc\r\n0\r\nX\xe9: a\r\n\r\n", 400, "as a field"),
    Case("NUL in a trailer", b"3\r\nabc\r\n0\r\nX: \x00\r\n\r\n", 400, "as a field"),
    Case("bare LF after a trailer", b"3\r\nabc\r\n0\r\nX: a\n\r\n", 400, "as a field"),
    Case("bare CR in a trailer", b"3\r\nabc\r\n0\r\nX: a\rb\r\n\r\n", 400, "as a field"),
    Case("folded trailer", b"3\r\nabc\r\n0\r\nX: a\r\n b\r\n\r\n", 400, "obs-fold"),
    Case("request as trailer", b"3\r\nabc\r\n0\r\nGET /hello HTTP/1.1\r\n\r\n", 400, "TERM.SPILL"),
    Case("long trailer", b"0\r\nX: " + b"a" * 2000 + b"\r\n\r\n", 400, "bounded"),
    Case("many trailers", b"0\r\n" + b"X: a\r\n" * 101 + b"\r\n", 431, "bounded"),
]

BODIES = [*SIZES, *ENDS, *EXTENSIONS, *TRAILERS]
