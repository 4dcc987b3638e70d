"""Fields that leave it open, to anybody, where a request ends (RFC 9112, section 6; RFC 9110, section 10.1.1)."""

from __future__ import annotations

from tests.wsgi.corpus.case import CHUNKED, Case, get, post

ZERO = b"0\r\n\r\n"


def sized(value: bytes, body: bytes = b"aaaaa") -> bytes:
    return post(b"Content-Length:" + value, body=body)


def coded(value: bytes, *more: bytes, body: bytes = ZERO) -> bytes:
    return post(b"Transfer-Encoding:" + value, *more, body=body)


LENGTHS = [
    Case("length twice", post(b"Content-Length: 5", b"Content-Length: 5", body=b"aaaaa"), 400, "repeated"),
    Case("lengths differ", post(b"Content-Length: 5", b"Content-Length: 6", body=b"aaaaa"), 400, "conflicting"),
    Case("zero and a length", post(b"Content-Length: 0", b"Content-Length: 5", body=b"aaaaa"), 400, "conflicting"),
    Case("length and an empty one", post(b"Content-Length: 5", b"Content-Length:", body=b"aaaaa"), 400, "1*DIGIT"),
    Case("an empty length and one", post(b"Content-Length:", b"Content-Length: 5", body=b"aaaaa"), 400, "1*DIGIT"),
    Case(
        "length twice, another case", post(b"Content-Length: 5", b"CONTENT-LENGTH: 5", body=b"aaaaa"), 400, "repeated"
    ),
    Case("list of lengths", sized(b" 5, 5"), 400, "repeated"),
    Case("list of lengths without a space", sized(b" 5,5"), 400, "repeated"),
    Case("list of other lengths", sized(b" 5, 6"), 400, "conflicting"),
    Case("comma behind", sized(b" 5,"), 400, "1*DIGIT"),
    Case("comma before", sized(b" ,5"), 400, "1*DIGIT"),
    Case("plus", sized(b" +5"), 400, "1*DIGIT"),
    Case("minus", sized(b" -5"), 400, "1*DIGIT"),
    Case("minus zero", sized(b" -0"), 400, "1*DIGIT"),
    Case("hexadecimal", sized(b" 0x5"), 400, "1*DIGIT"),
    Case("hexadecimal digit", sized(b" a"), 400, "1*DIGIT"),
    Case("octal", sized(b" 0o5"), 400, "what int(x, 0) takes"),
    Case("decimal point", sized(b" 5.0"), 400, "1*DIGIT"),
    Case("exponent", sized(b" 5e0"), 400, "1*DIGIT"),
    Case("unit", sized(b" 5b"), 400, "1*DIGIT"),
    Case("parameter", sized(b" 5;x"), 400, "1*DIGIT"),
    Case("underscore", sized(b" 1_0", b"aaaaaaaaaa"), 400, "what int() takes"),
    Case("underscore before", sized(b" _5"), 400, "1*DIGIT"),
    Case("space inside", sized(b" 1 0", b"aaaaaaaaaa"), 400, "1*DIGIT"),
    Case("tab inside", sized(b" 1\t0", b"aaaaaaaaaa"), 400, "1*DIGIT"),
    Case("superscript", sized(b" \xb2", b"aa"), 400, "what isdigit() takes"),
    Case("no-break space behind", sized(b" 5\xa0"), 400, "what str.strip() takes"),
    Case("no-break space before", sized(b" \xa05"), 400, "what str.strip() takes"),
    Case("next line behind", sized(b" 5\x85"), 400, "what str.strip() takes"),
    Case("form feed behind", sized(b" 5\x0c"), 400, "what bytes.strip() takes"),
    Case("NUL behind", sized(b" 5\x00"), 400, "strings end at NUL elsewhere"),
    Case("empty length", sized(b"", b"aa"), 400, "1*DIGIT"),
    Case("blank length", sized(b"  \t", b"aa"), 400, "1*DIGIT"),
    Case("word for a length", sized(b" five"), 400, "1*DIGIT"),
    Case("length overflows 64 bits", sized(b" 18446744073709551621", b"aa"), 400, "2**64 + 5"),
    Case("length overflows 63 bits", sized(b" 9223372036854775813", b"aa"), 400, "2**63 + 5"),
    Case("quoted length", sized(b' "5"'), 400, "1*DIGIT"),
    Case("bad length of a GET", get(b"Content-Length: x"), 400, "whatever the method"),
    Case(
        "bad length in HTTP/1.0", get(b"Content-Length: 5, 5", line=b"POST /fail HTTP/1.0"), 400, "whatever the version"
    ),
]

CODINGS = [
    Case("TE and CL", post(CHUNKED, b"Content-Length: 5", body=ZERO), 400, "TE.CL"),
    Case("CL and TE", post(b"Content-Length: 5", CHUNKED, body=ZERO), 400, "CL.TE"),
    Case("TE and CL 0", post(CHUNKED, b"Content-Length: 0", body=ZERO), 400, "TE.0"),
    Case("CL 0 and TE", post(b"Content-Length: 0", CHUNKED, body=ZERO), 400, "0.TE"),
    Case("TE and CL of a GET", get(CHUNKED, b"Content-Length: 5") + ZERO, 400, "whatever the method"),
    Case("no known TE and CL", coded(b" x", b"Content-Length: 5"), 501, "some ignore what they do not know"),
    Case("empty TE and CL", coded(b"", b"Content-Length: 5"), 400, "some ignore what is empty"),
    Case("TE with a comma and CL", coded(b" ,chunked", b"Content-Length: 5"), 400, "some know no empty elements"),
    Case("TE in HTTP/1.0", b"POST /fail HTTP/1.0\r\n" + CHUNKED + b"\r\n\r\n" + ZERO, 400, "RFC 9112, 6.1"),
    Case("TE twice", post(CHUNKED, CHUNKED, body=ZERO), 400, "chunked is applied once"),
    Case("TE twice, another case", post(CHUNKED, b"transfer-encoding: chunked", body=ZERO), 400, "as above"),
    Case("TE and an empty one", post(CHUNKED, b"Transfer-Encoding:", body=ZERO), 400, "TE.TE"),
    Case("TE and one of no body", post(CHUNKED, b"Transfer-Encoding: identity", body=ZERO), 400, "no known end"),
    Case(
        "TE behind another",
        post(b"Transfer-Encoding: x", CHUNKED, body=ZERO),
        400,
        "a list in two fields is none of ours",
    ),
    Case("chunked twice", coded(b" chunked, chunked"), 400, "chunked is applied once"),
    Case("chunked twice without a space", coded(b" chunked,chunked"), 400, "as above"),
    Case("chunked not last", coded(b" chunked, gzip"), 400, "no known end"),
    Case("chunked between", coded(b" identity, chunked, identity"), 400, "no known end"),
    Case("comma before chunked", coded(b" ,chunked"), 400, "two codings to some"),
    Case("comma behind chunked", coded(b" chunked,"), 400, "as above"),
    Case("tab behind chunked", coded(b" chunked\t"), 400, "legal, but a known disguise"),
    Case("space and tab behind chunked", coded(b" chunked \t"), 400, "as above"),
    Case("unknown coding", coded(b" gzip", body=b""), 501, "RFC 9112, 6.1"),
    Case("coding before chunked", coded(b" gzip, chunked"), 501, "as above"),
    Case("unknown coding before chunked", coded(b" cow, chunked"), 501, "as above"),
    Case("identity", coded(b" identity"), 501, "removed from HTTP"),
    Case("identity before chunked", coded(b" identity, chunked"), 501, "removed from HTTP"),
    Case("xchunked", coded(b" xchunked"), 501, "TE.TE"),
    Case("chunkedx", coded(b" chunkedx"), 501, "TE.TE"),
    Case("chunk", coded(b" chunk"), 501, "TE.TE"),
    Case("chunked with a parameter", coded(b" chunked;q=1"), 501, "TE.TE"),
    Case("two words", coded(b" cow chunked"), 501, "TE.TE"),
    Case("three words", coded(b" cow chunked bar"), 501, "TE.TE"),
    Case("word behind chunked", coded(b" chunked bar"), 501, "TE.TE"),
    Case("quoted chunked", coded(b' "chunked"'), 501, "TE.TE"),
    Case("chunked in apostrophes", coded(b" 'chunked'"), 501, "TE.TE"),
    Case("accented chunked", coded(b" ch\xfcnked"), 501, "TE.TE"),
    Case("colon before chunked", coded(b": chunked"), 501, "TE.TE"),
    Case("no-break space behind chunked", coded(b" chunked\xa0"), 501, "what str.strip() takes"),
    Case("no-break space before chunked", coded(b" \xa0chunked"), 501, "what str.strip() takes"),
    Case("next line before chunked", coded(b"\x85chunked"), 501, "what str.strip() takes"),
    Case("0xFF before chunked", coded(b"\xffchunked"), 501, "TE.TE"),
    Case("empty coding", coded(b""), 400, "TE.TE"),
    Case("blank coding", coded(b" \t "), 400, "TE.TE"),
    Case("commas for a coding", coded(b" , ,"), 400, "TE.TE"),
    Case("vertical tab before chunked", coded(b" \x0bchunked"), 400, "TE.TE"),
    Case("form feed behind chunked", coded(b" chunked\x0c"), 400, "TE.TE"),
    Case("NUL behind chunked", coded(b" chunked\x00"), 400, "TE.TE"),
    Case("separators around chunked", coded(b" \x1c\x1dchunked\x1e\x1f"), 400, "TE.TE"),
    Case("bare CR behind chunked", coded(b" chunked\r"), 400, "TE.TE"),
    Case("bare LF before chunked", coded(b"\n chunked"), 400, "TE.TE"),
    Case("folded before chunked", coded(b"\r\n chunked"), 400, "TE.TE"),
    Case("folded inside chunked", coded(b" chu\r\n nked"), 400, "TE.TE"),
    Case("space before the name", post(b" Transfer-Encoding: chunked", body=ZERO), 400, "TE.TE"),
    Case("space in the name", post(b"Transfer Encoding: chunked", body=ZERO), 400, "TE.TE"),
    Case("space behind the name", post(b"Transfer-Encoding : chunked", body=ZERO), 400, "TE.TE"),
    Case("tab behind the name", post(b"Transfer-Encoding\t: chunked", body=ZERO), 400, "TE.TE"),
    Case("bare CR in the name", post(b"Tra\rnsfer-Encoding: chunked", body=ZERO), 400, "TE.TE"),
    Case("line end in the name", post(b"Transfer-", b"Encoding: chunked", body=ZERO), 400, "TE.TE"),
    Case("hidden by a bare CR", post(b"X: x\rTransfer-Encoding: chunked", body=ZERO), 400, "TE.TE"),
    Case("hidden by a bare LF", post(b"X: x\nTransfer-Encoding: chunked", body=ZERO), 400, "TE.TE"),
    Case("hidden by two bare LF", post(b"X: x\n\nTransfer-Encoding: chunked", body=ZERO), 400, "TE.TE"),
]

EXPECTATIONS = [
    Case("unknown expectation", post(b"Expect: tea", b"Content-Length: 1", body=b"a"), 417, "RFC 9110, 10.1.1"),
    Case(
        "expectation and another", post(b"Expect: 100-continue, tea", b"Content-Length: 1", body=b"a"), 417, "as above"
    ),
    Case(
        "expectation behind a word", post(b"Expect: y 100-continue", b"Content-Length: 1", body=b"a"), 417, "as above"
    ),
    Case(
        "expectation with a parameter",
        post(b"Expect: 100-continue;x", b"Content-Length: 1", body=b"a"),
        417,
        "as above",
    ),
    Case("short expectation", post(b"Expect: 100", b"Content-Length: 1", body=b"a"), 417, "as above"),
    Case(
        "expectation with a no-break space",
        post(b"Expect: 100-continue\xa0", b"Content-Length: 1", body=b"a"),
        417,
        "as above",
    ),
    Case("expectation of a GET", get(b"Expect: tea"), 417, "whatever the method"),
    Case("empty expectation", post(b"Expect:", b"Content-Length: 1", body=b"a"), 417, "neither known nor none"),
    Case(
        "two expectations",
        post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 1"),
        400,
        "as for any of these",
    ),
]

FRAMING = [*LENGTHS, *CODINGS, *EXPECTATIONS]
