"""Requests of which two servers may disagree where they end, or what they ask for.

In each {P} is the path that is asked for, {H} the host, {F} a header that says https, and {S} a
whole request of another path, which is hidden in it.
"""

POST = b"POST {P} HTTP/1.1\r\nHost: {H}\r\n{F}"
GET = b"GET {P} HTTP/1.1\r\nHost: {H}\r\n{F}"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


def told(
    coding: bytes, length: bytes = b"Content-Length: {L}\r\n", end: bytes = b"0\r\n\r\n{S}"
) -> bytes:
    """Return a request whose body ends early by its chunks and late by its length, {L}."""
    return POST + length + coding + b"\r\n" + end


def length(header: bytes, body: bytes = b"hello{S}") -> bytes:
    return POST + header + b"\r\n" + body


def chunks(body: bytes) -> bytes:
    return POST + CHUNKED + b"\r\n" + body


# The two kinds of lengths at once, and codings that are not quite "chunked".
CODINGS = {
    "length and chunks": told(CHUNKED),
    "chunks and length": POST + CHUNKED + b"Content-Length: {L}\r\n\r\n0\r\n\r\n{S}",
    "short length and chunks": POST + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n{X}0\r\n\r\n",
    "chunked twice": told(CHUNKED * 2),
    "chunked, chunked": told(b"Transfer-Encoding: chunked, chunked\r\n", b""),
    "chunked, identity": told(b"Transfer-Encoding: chunked, identity\r\n"),
    "identity, chunked": told(b"Transfer-Encoding: identity, chunked\r\n"),
    "identity": told(b"Transfer-Encoding: identity\r\n"),
    "xchunked": told(b"Transfer-Encoding: xchunked\r\n"),
    "tab before chunked": told(b"Transfer-Encoding:\tchunked\r\n"),
    "space before colon": told(b"Transfer-Encoding : chunked\r\n"),
    "tab before colon": told(b"Transfer-Encoding\t: chunked\r\n"),
    "folded": told(b"X: a\r\n Transfer-Encoding: chunked\r\n"),
    "folded value": told(b"Transfer-Encoding:\r\n chunked\r\n"),
    "vertical tab after": told(b"Transfer-Encoding: chunked\x0b\r\n"),
    "zero byte before": told(b"Transfer-Encoding: \x00chunked\r\n"),
    "byte over 127 after": told(b"Transfer-Encoding: chunked\xa0\r\n"),
    "quoted": told(b'Transfer-Encoding: "chunked"\r\n'),
    "underscore": told(b"Transfer_Encoding: chunked\r\n"),
    "capitals": told(b"TRANSFER-ENCODING: CHUNKED\r\n", b""),
    "gzip, chunked": told(b"Transfer-Encoding: gzip, chunked\r\n", b""),
    "chunked, gzip": told(b"Transfer-Encoding: chunked, gzip\r\n"),
    "parameter": told(b"Transfer-Encoding: chunked;q=1\r\n"),
    "empty coding": told(b"Transfer-Encoding:\r\n"),
    "HTTP/1.0 and chunks": told(CHUNKED, b"").replace(b"HTTP/1.1\r\nHost", b"HTTP/1.0\r\nHost", 1),
    "bare LF before coding": told(b"X: a\nTransfer-Encoding: chunked\r\n"),
    "bare CR before coding": told(b"X: a\rTransfer-Encoding: chunked\r\n"),
    "hop by hop length": told(b"Connection: Content-Length\r\n", end=b"12345{S}"),
    "hop by hop coding": told(CHUNKED + b"Connection: Transfer-Encoding\r\n", b""),
}
LENGTHS = {
    "same length twice": length(b"Content-Length: 5\r\n" * 2),
    "two lengths": length(b"Content-Length: 5\r\nContent-Length: {T}\r\n"),
    "two lengths, reversed": length(b"Content-Length: {T}\r\nContent-Length: 5\r\n"),
    "list of same lengths": length(b"Content-Length: 5, 5\r\n"),
    "list of lengths": length(b"Content-Length: 5, {T}\r\n"),
    "plus": length(b"Content-Length: +5\r\n"),
    "minus": length(b"Content-Length: -5\r\n"),
    "hexadecimal": length(b"Content-Length: 0x5\r\n"),
    "space within": length(b"Content-Length: 5 5\r\n"),
    "underscore within": length(b"Content-Length: 1_0\r\n"),
    "leading zero": length(b"Content-Length: 05\r\n"),
    "other digits": length(b"Content-Length: \xd9\xa5\r\n"),
    "superscript digit": length(b"Content-Length: \xb2\r\n"),
    "64 bits and 5": length(b"Content-Length: 18446744073709551621\r\n"),
    "5,000 digits": length(b"Content-Length: " + b"9" * 5000 + b"\r\n"),
    "empty length": length(b"Content-Length:\r\n"),
    "space before its colon": length(b"Content-Length : 5\r\n"),
    "underscore in its name": length(b"Content_Length: {T}\r\n"),
    "length with parameter": length(b"Content-Length: 5;a=b\r\n"),
    "length after vertical tab": length(b"Content-Length: \x0b5\r\n"),
    "GET with a body": GET + b"Content-Length: {Z}\r\n\r\n{S}",
}
CHUNKS = {
    "extension": chunks(b"5;a=b\r\nhello\r\n0\r\n\r\n"),
    "extension with LF": chunks(b"5;a\nb\r\nhello\r\n0\r\n\r\n{S}"),
    "extension with CR": chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n{S}"),
    "size ends in LF": chunks(b"2;\nxx\r\n{X}0\r\n\r\n"),
    "hexadecimal size": chunks(b"0x5\r\nhello\r\n0\r\n\r\n{S}"),
    "negative size": chunks(b"-5\r\nhello\r\n0\r\n\r\n{S}"),
    "size with plus": chunks(b"+5\r\nhello\r\n0\r\n\r\n{S}"),
    "size with underscore": chunks(b"1_0\r\nhello\r\n0\r\n\r\n{S}"),
    "size of 68 bits": chunks(b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n{S}"),
    "size of 64 bits and 5": chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n{S}"),
    "space after size": chunks(b"5 \r\nhello\r\n0\r\n\r\n{S}"),
    "space before size": chunks(b" 5\r\nhello\r\n0\r\n\r\n{S}"),
    "no size": chunks(b"\r\nhello\r\n0\r\n\r\n{S}"),
    "too long": chunks(b"3\r\nhello\r\n0\r\n\r\n{S}"),
    "no end of chunk": chunks(b"5\r\nhello0\r\n\r\n{S}"),
    "other end of chunk": chunks(b"5\r\nhelloXX0\r\n\r\n{S}"),
    "LF for CRLF": chunks(b"5\nhello\n0\n\n{S}"),
    "many zeros": chunks(b"5\r\nhello\r\n00000\r\n\r\n"),
    "trailers": chunks(b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nHost: x\r\nCookie: a=b\r\n\r\n"),
    "trailers of a head": chunks(
        b"5\r\nhello\r\n0\r\nCookie: a=b\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n"
    ),
    "trailer with LF": chunks(b"5\r\nhello\r\n0\r\nX: a\n\r\n\r\n{S}"),
}
LINES = {
    "LF only": b"GET {P} HTTP/1.1\nHost: {H}\n\n{S}",
    "CR only": b"GET {P} HTTP/1.1\rHost: {H}\r\r",
    "CRLF first": b"\r\n" + GET + b"\r\n",
    "LF first": b"\n" + GET + b"\r\n",
    "two spaces": GET.replace(b" {P} ", b"  {P}  ") + b"\r\n",
    "tabs": GET.replace(b" {P} ", b"\t{P}\t") + b"\r\n",
    "absolute form": GET.replace(b"{P}", b"http://{H}{P}") + b"\r\n",
    "absolute form of another": GET.replace(b"{P}", b"http://evil.example{P}") + b"\r\n",
    "no version": b"GET {P}\r\n\r\n",
    "HTTP/2.0": GET.replace(b"1.1", b"2.0") + b"\r\n",
    "HTTP/1.2": GET.replace(b"1.1", b"1.2") + b"\r\n",
    "four words": GET.replace(b"{P} ", b"{P} HTTP/1.1 ") + b"\r\n",
    "small letters": GET.replace(b"GET", b"get") + b"\r\n",
    "zero byte in the path": GET.replace(b"{P}", b"{P}\x00") + b"\r\n",
    "byte over 127 in the path": GET.replace(b"{P}", b"{P}\xff") + b"\r\n",
    "line end in the path": GET.replace(b"{P}", b"{P}%0d%0a{P}") + b"\r\n",
    "no host": b"GET {P} HTTP/1.1\r\n{F}\r\n",
    "two hosts": GET + b"Host: evil.example\r\n\r\n",
    "host with a path": GET.replace(b"{H}", b"{H}/x") + b"\r\n",
    "host with a user": GET.replace(b"{H}", b"x@{H}") + b"\r\n",
    "no colon": GET + b"X\r\n\r\n{S}",
    "no name": GET + b": x\r\n\r\n{S}",
    "zero byte in a name": GET + b"X\x00Y: x\r\n\r\n{S}",
    "byte over 127 in a name": GET + b"X\xff: x\r\n\r\n{S}",
    "first line folded": b"GET {P} HTTP/1.1\r\n X: y\r\nHost: {H}\r\n{F}\r\n{S}",
    "hop by hop host": GET + b"Connection: Host\r\n\r\n",
    "h2c": GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n{S}",
    "unknown upgrade": GET + b"Connection: Upgrade\r\nUpgrade: x\r\n\r\n{S}",
    "websocket without a key": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n{S}",
    "CONNECT": b"CONNECT {H}:443 HTTP/1.1\r\nHost: {H}\r\n{F}\r\n{S}",
    "unknown expectation": POST + b"Expect: x\r\nContent-Length: 5\r\n\r\nhello",
    "one, and what is none": GET + b"\r\n\x00\xff x\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{S}",
}  # fmt: skip
SHAPES = CODINGS | LENGTHS | CHUNKS | LINES


def fill(shape: bytes, path: str, hidden: str, host: str, https: bytes) -> bytes:
    """Return the bytes of a shape that asks for `path` and hides a request of `hidden`."""
    secret = f"GET {hidden} HTTP/1.1\r\nHost: {host}\r\n".encode() + https
    secret += b"Connection: close\r\n\r\n"
    return (
        shape.replace(b"{X}", f"{len(secret):x}\r\n".encode() + secret + b"\r\n")
        .replace(b"{L}", str(len(b"0\r\n\r\n" + secret)).encode())
        .replace(b"{T}", str(len(b"hello" + secret)).encode())
        .replace(b"{Z}", str(len(secret)).encode())
        .replace(b"{S}", secret)
        .replace(b"{P}", path.encode())
        .replace(b"{H}", host.encode())
        .replace(b"{F}", https)
    )
