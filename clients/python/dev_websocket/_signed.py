"""Signed answers of a node: HTTP message signatures (RFC 9421), and the content ids of messages."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Set, Tuple

# `name=("key" ..);parameter="value"..` of a dictionary.
INPUT = re.compile(r'([\w*.-]+)=(\(((?:"[^"]*"|[^)"])*)\)((?:;[\w*.-]+(?:=(?:"[^"]*"|[^;,\s]+))?)*))', re.A)
SIGNATURE = re.compile(r"([\w*.-]+)=:([A-Za-z0-9+/=]*):", re.A)
PARAMETER = re.compile(r';([\w*.-]+)=(?:"([^"]*)"|([^;]+))', re.A)
# The node adds this to its answer, and leaves out the type of a list.
STATUS = "status"
LIST = '.="list"'


class Answer(NamedTuple):
    """Headers by their names in lower case, as text of one character for each byte, and the body."""

    headers: Mapping[str, str]
    body: bytes


class Field(NamedTuple):
    """A value of a message: bytes, the id of another message, or the type of something empty."""

    content: Optional[bytes] = None
    link: Optional[str] = None
    empty: Optional[str] = None


class Signature(NamedTuple):
    """A signature of an answer: its algorithm, the key and its address, what it covers, and what was signed."""

    algorithm: Optional[str]
    key: Optional[bytes]
    address: Optional[str]
    covered: Dict[str, Optional[str]]
    value: Optional[bytes]
    base: Optional[bytes]


class _Input(NamedTuple):
    name: str
    line: str
    keys: List[str]
    parameters: Dict[str, str]


def signatures_of(answer: Answer) -> List[Signature]:
    values = dict(SIGNATURE.findall(answer.headers.get("signature", "")))
    signatures: List[Signature] = []
    for given in _inputs_of(answer):
        if given.name not in values:
            continue
        key = _bytes_of(given.parameters.get("keyid"))
        covered = {name: answer.headers.get(name.lstrip("@")) for name in given.keys}
        pairs = [(name.lstrip("@"), value) for name, value in covered.items() if value is not None]
        base = _base_of(pairs, given.line) if len(pairs) == len(covered) else None
        address = None if key is None else text_of(hashlib.sha256(key).digest())
        signatures.append(Signature(given.parameters.get("alg"), key, address, covered, _bytes_of(values[given.name]), base))
    return signatures


def ids_of(answer: Answer) -> Set[str]:
    """The content ids that the message of an answer may have.

    They are with and without the status that the node adds, as a message and as a list, whose type the node leaves out. A
    message has the id of another only if all of its keys are the same.
    """
    digest = answer.headers.get("content-digest")
    if digest is not None and digest != f"sha-256=:{base64.b64encode(hashlib.sha256(answer.body).digest()).decode()}:":
        return set()
    fields = _headers_of(answer)
    types = _types_of(fields)
    ids: Set[str] = set()
    for is_bare in (True, False):
        for is_list in (False, True):
            texts = [LIST] * is_list + [text for key, text in types if not (is_bare and key == STATUS)]
            variant = {name: value for name, value in fields.items() if name != "ao-types" and not (is_bare and name == STATUS)}
            if texts:
                variant["ao-types"] = ", ".join(texts)
            ids.add(_id_of(variant))
    return ids


def fields_of(answer: Answer) -> Dict[str, Field]:
    """The fields of the message of an answer, by their keys."""
    named = _headers_of(answer)
    fields: Dict[str, Field] = {}
    for key, text in _types_of(named):
        kind = text.partition('="')[2].rstrip('"')
        if kind.startswith("empty-"):
            fields[key] = Field(empty=kind)
    for name, value in named.items():
        if name == "content-digest":
            for key, part in _parts_of(named.get("content-type", ""), answer.body, named.get("ao-body-key", "body")):
                fields[key] = Field(part)
        elif name.endswith("+link"):
            fields[name[: -len("+link")]] = Field(link=value)
        elif name not in ("ao-types", "ao-body-key", STATUS) and not (name == "content-type" and value.startswith("multipart/")):
            fields[name] = Field(value.encode("latin-1"))
    return fields


def text_of(content: bytes) -> str:
    """Bytes in the alphabet of ids."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _headers_of(answer: Answer) -> Dict[str, str]:
    """The headers that belong to the message: those that a signature covers."""
    for given in _inputs_of(answer):
        return {name: answer.headers.get(name.lstrip("@"), "") for name in given.keys}
    return {}


def _inputs_of(answer: Answer) -> Iterable[_Input]:
    for name, line, keys, parameters in INPUT.findall(answer.headers.get("signature-input", "")):
        known = {key: text or bare for key, text, bare in PARAMETER.findall(parameters)}
        yield _Input(name, line, re.findall(r'"([^"]*)"', keys), known)


def _types_of(fields: Mapping[str, str]) -> List[Tuple[str, str]]:
    """The types of a message: pairs of a key and its text in `ao-types`."""
    return [(text.partition("=")[0], text) for text in fields.get("ao-types", "").split(", ") if text]


def _id_of(fields: Mapping[str, str]) -> str:
    """The id of a message without a signature: of its keys in their order."""
    names = sorted(fields)
    line = f"({' '.join(f'{chr(34)}{name}{chr(34)}' for name in names)});alg=\"hmac-sha256\";keyid=\"ao\""
    return text_of(hmac.new(b"ao", _base_of([(name, fields[name]) for name in names], line), hashlib.sha256).digest())


def _base_of(pairs: Iterable[Tuple[str, str]], line: str) -> bytes:
    lines = [f'"{name}": {value}\n' for name, value in pairs]
    return f'{"".join(lines)}"@signature-params": {line}'.encode("latin-1")


def _parts_of(kind: str, body: bytes, inline: str) -> Iterable[Tuple[str, bytes]]:
    """The values in a body: one, or those of a form."""
    found = re.match(r'multipart/.*boundary="?([^";]+)"?', kind)
    if found is None:
        yield inline, body
        return
    boundary = found[1].encode()
    inner = body[len(boundary) + 4 : body.rfind(b"\r\n--" + boundary + b"--")]
    for part in inner.split(b"\r\n--" + boundary + b"\r\n"):
        head, _, value = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]*)"', head)
        yield name[1].decode("latin-1") if name else inline, value


def _bytes_of(text: Optional[str]) -> Optional[bytes]:
    try:
        return base64.b64decode(text, validate=True) if text else None
    except binascii.Error:
        return None
