"""Whether an event is what a node has signed."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import urllib.error
import urllib.request
from typing import Any, Dict, FrozenSet, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import quote

from ._errors import ClientError
from ._signed import Answer, Field, Signature, fields_of, ids_of, signatures_of, text_of

# Keys that the node sets in events, whatever the message says.
OF_NODE = frozenset(("from", "process"))
# Keys of a result that its event has.
OF_RESULT = ("output", "error", "data")


class VerifyError(ClientError):
    """An event could not be verified.

    `code` is `not_reachable`, `not_signed`, `signature`, `address` or `content`.
    """


class Verified(NamedTuple):
    """The address that signed the slot, and the content id of its results."""

    address: str
    results: str


def verify_slot(event: Mapping[str, Any], *, node: str, address: str, timeout: float = 10) -> Verified:
    """Fetches the slot of an event from a node, and compares both.

    The node must have signed the slot with the key of this address, for this process and slot, and the content of the event
    must be that of the signed slot. Raises VerifyError.
    """
    if not isinstance(event.get("process"), str) or not isinstance(event.get("slot"), int):
        raise TypeError("an event with a process and a slot can be verified, no other")
    process, slot, path, data = event["process"], event["slot"], event.get("path", ""), event.get("data")
    source = _Source(f"{node.rstrip('/')}/{process}~process@1.0/compute&slot={slot}", timeout)
    results = _signed_results(source.answer(""), process, slot, address)
    if isinstance(data, dict) and data.get("type") == "result" and "/results/" not in path:
        _same_result(source, data, results)
    elif "/results/outbox/" in path:
        _same_message(source, path, data, results)
    else:
        _same_line(source, path, data, results)
    return Verified(address, results)


async def verify(event: Mapping[str, Any], *, node: str, address: str, timeout: float = 10) -> Verified:
    """Verifies in a thread, so that the client goes on: see `verify` in `dev_websocket.sync`."""
    return await asyncio.to_thread(verify_slot, event, node=node, address=address, timeout=timeout)


def _signed_results(answer: Answer, process: str, slot: int, address: str) -> str:
    """The content id of the results that the answer is signed for."""
    signatures = [signature for signature in signatures_of(answer) if signature.algorithm == "rsa-pss-sha512"]
    if not signatures:
        raise VerifyError("not_signed", "the answer has no signature with a public key")
    own = [signature for signature in signatures if signature.address == address]
    if not own:
        raise VerifyError("address", f"{', '.join(str(one.address) for one in signatures)} signed the slot, not {address}")
    covered = next((signature.covered for signature in own if _is_valid(signature)), None)
    if covered is None:
        raise VerifyError("signature", f"the signature of {address} does not fit the answer")
    # Only what the signature covers counts.
    found, results = covered.get("process+link") or covered.get("process"), covered.get("results+link")
    if found != process:
        raise VerifyError("content", f"the answer is signed for the process {found}")
    if covered.get("at-slot") != str(slot):
        raise VerifyError("content", f"the answer is signed for slot {covered.get('at-slot')}")
    if results is None:
        raise VerifyError("content", "the signature does not cover the results")
    return results


def _is_valid(signature: Signature) -> bool:
    try:
        # pylint: disable=import-outside-toplevel
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
        from cryptography.hazmat.primitives.hashes import SHA512
    except ImportError:
        raise ImportError("verify needs the package cryptography: pip install dev-websocket[verify]") from None
    if signature.key is None or signature.value is None or signature.base is None:
        return False
    padding = PSS(mgf=MGF1(SHA512()), salt_length=64)
    try:
        key = RSAPublicNumbers(65537, int.from_bytes(signature.key, "big")).public_key()
        key.verify(signature.value, signature.base, padding, SHA512())
    except (InvalidSignature, ValueError):
        return False
    return True


def _same_result(source: "_Source", data: Dict[str, Any], results: str) -> None:
    """The parts of a result that its event has are those of the slot."""
    if data.get("results-id", results) != results:
        raise VerifyError("content", f"results-id is {results} in the signed slot")
    found = source.message("/results", results)
    for key in OF_RESULT:
        source.same(data.get(key, ABSENT), found.get(key), f"/results/{key}")
    outbox = found.get("outbox", Field()).link
    count = 0 if outbox is None else len(source.message("/results/outbox", outbox))
    if data.get("outbox-count", 0) != count:
        raise VerifyError("content", f"the signed slot has {count} messages")


def _same_message(source: "_Source", path: str, data: Any, results: str) -> None:
    """Each message on the way to that of the event has the id by which the one before it names it."""
    place, field = source.find(path, results)
    if field.link is None:
        raise VerifyError("content", f"{place} is no message in the signed slot")
    source.same_keys(data, source.message(place, field.link), place, OF_NODE)


def _same_line(source: "_Source", path: str, data: Any, results: str) -> None:
    """One of the lines of an output is the event."""
    place, field = source.find(path, results)
    lines = (field.content or b"").decode(errors="replace").split("\n")
    wanted = _line(data)
    if wanted is None or not any('"_e"' in line and _line(_parsed(line)) == wanted for line in lines):
        raise VerifyError("content", f"{place} has no such line in the signed slot")


def _line(value: Any) -> Optional[str]:
    """A line without the keys that the node sets, in one order of its keys."""
    if not isinstance(value, dict):
        return None
    own = {key: _plain(item) for key, item in value.items() if key not in OF_NODE and key != "slot"}
    return json.dumps(own, sort_keys=True)


def _plain(value: Any) -> Any:
    """Numbers as text: the node writes large ones so."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


# The value of a key that an event does not have.
ABSENT = object()


class _Source:
    """The messages of one slot of a node, each proven by its content id."""

    def __init__(self, base: str, timeout: float) -> None:
        self._base, self._timeout = base, timeout

    def answer(self, place: str) -> Answer:
        url = self._base + quote(place)
        try:
            with urllib.request.urlopen(url, timeout=self._timeout) as answer:
                return Answer({name.lower(): value for name, value in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as error:
            told = f"answered {error.code}"
        except (OSError, http.client.HTTPException) as error:
            told = str(error)
        raise VerifyError("not_reachable", f"{url}: {told}")

    def message(self, place: str, link: str) -> Dict[str, Field]:
        """The fields of the message with this content id."""
        answer = self.answer(place)
        if link not in ids_of(answer):
            raise VerifyError("content", f"{place} is not the message {link} that is signed for")
        return fields_of(answer)

    def find(self, path: str, results: str) -> Tuple[str, Field]:
        """The place and the field at a path of the slot."""
        named = re.search(r"/results/([^/].*)$", path)
        if named is None:
            raise VerifyError("content", f"the path {path} is none of the slot")
        place, field = "/results", Field(link=results)
        for key in named[1].split("/"):
            following = None if field.link is None else self.message(place, field.link).get(key)
            place = f"{place}/{key}"
            if following is None:
                raise VerifyError("content", f"the signed slot has no {place}")
            field = following
        return place, field

    def same(self, value: Any, field: Optional[Field], place: str) -> None:
        """Raises unless a value of an event is that of a field."""
        if value is ABSENT and field is None:
            return
        # The event has a reference in place of this value.
        if isinstance(value, dict) and ("$get" in value or "$omitted" in value):
            return
        if field is not None and value is not ABSENT:
            if isinstance(value, dict) and "$link" in value:
                is_same = field.link == value["$link"]
            elif isinstance(value, (dict, list)) and field.link is not None:
                self.same_keys(value, self.message(place, field.link), place, frozenset())
                is_same = True
            elif field.empty is not None:
                is_same = value == {"empty-message": {}, "empty-list": [], "empty-binary": ""}.get(field.empty, ABSENT)
            else:
                is_same = field.content is not None and _is_text(value, field.content)
            if is_same:
                return
        raise VerifyError("content", f"{place} is not what the signed slot has")

    def same_keys(self, value: Any, fields: Dict[str, Field], place: str, but: FrozenSet[str]) -> None:
        entries: Dict[str, Any] = {str(at + 1): item for at, item in enumerate(value)} if isinstance(value, list) else value
        if not isinstance(entries, dict):
            raise VerifyError("content", f"{place} is not what the signed slot has")
        for key in {**entries, **fields}:
            if key not in but and key != "commitments" and not key.startswith("priv"):
                self.same(entries.get(key, ABSENT), fields.get(key), f"{place}/{key}")


def _is_text(value: Any, content: bytes) -> bool:
    if isinstance(value, dict):
        return bool(value.get("$base64url") == text_of(content))
    text = content.decode(errors="replace")
    if isinstance(value, bool) or value is None:
        return text == {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (int, float)):
        try:
            return text == str(value) or float(text) == value
        except ValueError:
            return False
    return bool(value == text)
