"""What an attack is, and the spellings of one call: the same call in every form that a node takes for it."""

import dataclasses
import functools
import json
import urllib.parse

from node import Request
from signing import data_item

# In everything that an attack claims. No event of an honest process holds it.
FORGED = "FORGED"
FAR = 1_000_000


@dataclasses.dataclass(frozen=True)
class Attack:
    """Requests in their order. A function gives a request that is signed as it is sent: a signature takes long."""

    name: str
    requests: tuple


@dataclasses.dataclass
class Scene:
    """Who is attacked, and with what. A process has computed slots up to `newest`, and `next` is the slot after it."""

    victim: str
    newest: int
    sender: str
    operator: str
    wallet: object
    # Content ids of the newest slot, as its event tells them to everybody.
    results: str
    state: str
    assignment: str
    # Messages of the stranger in the node's cache, by what they pretend to be.
    stored: dict
    # A process of the stranger's own.
    own: str
    # Slots that are scheduled and not computed need other attacks: the documented limit is shown apart.
    pending: bool = False

    @property
    def next(self):
        return self.newest + 1

    def slots(self):
        """A slot that is computed, the next one, and one far ahead."""
        return {"computed": self.newest, "next": self.next, "far": FAR}


@dataclasses.dataclass(frozen=True)
class Call:
    """A path and keys for its last segment, before they are spelled. Names of keys have their types: `slot+integer`."""

    name: str
    path: tuple
    keys: dict


def quoted(text):
    return urllib.parse.quote(str(text), safe="")


def escaped(text):
    """Only what HTTP does not take."""
    return urllib.parse.quote(str(text), safe="/~@:&=+!$'()*,;%")


def encoded_all(text):
    return "".join(f"%{byte:02X}" for byte in text.encode())


def ampersand(keys):
    return "".join(f"&{name}={quoted(value)}" for name, value in keys.items())


def plain(call):
    return "/" + "/".join(escaped(part) for part in call.path)


def in_segment(call):
    return Request("GET", plain(call) + ampersand(call.keys))


def in_first_segment(call):
    first, *rest = call.path
    return Request("GET", "/".join(["", escaped(first) + ampersand(call.keys), *map(escaped, rest)]))


def in_every_segment(call):
    return Request("GET", "".join("/" + escaped(part) + ampersand(call.keys) for part in call.path))


def in_query(call):
    return Request("GET", plain(call) + "?" + urllib.parse.urlencode(call.keys))


def in_query_post(call):
    return Request("POST", plain(call) + "?" + urllib.parse.urlencode(call.keys))


def in_query_blank(call):
    """A blank in place of the sign before a type, as browsers have it."""
    return Request("GET", plain(call) + "?" + urllib.parse.urlencode(call.keys).replace("%2B", "%20"))


def slashes_encoded(call):
    first, *rest = call.path
    return Request("GET", "/" + escaped(first) + "".join("%2F" + quoted(part) for part in rest) + ampersand(call.keys))


def separators_encoded(call):
    return Request("GET", "/" + quoted("/".join(call.path) + "".join(f"&{name}={value}" for name, value in call.keys.items())))


def encoded_twice(call):
    return Request("GET", "/" + quoted(quoted("/".join(call.path)) + ampersand(call.keys)))


def every_byte_encoded(call):
    return Request("GET", "".join("/" + encoded_all(part) for part in call.path) + ampersand(call.keys))


def doubled_slashes(call):
    return Request("GET", "//" + "//".join(escaped(part) for part in call.path) + ampersand(call.keys) + "//")


def subpath(call):
    return Request("GET", "/(" + "/".join(escaped(part) for part in call.path) + ampersand(call.keys) + ")")


def subpath_then_key(call):
    *front, last = call.path
    return Request("GET", "/(" + "/".join(escaped(part) for part in front) + ")/" + escaped(last) + ampersand(call.keys))


def in_headers(call):
    return Request("GET", plain(call), tuple((name, str(value)) for name, value in call.keys.items()))


def in_scoped_headers(call):
    number = len(call.path)
    return Request("GET", plain(call), tuple((f"{number}.{name}", str(value)) for name, value in call.keys.items()))


def in_capital_headers(call):
    return Request("GET", plain(call), tuple((name.title(), str(value)) for name, value in call.keys.items()))


def as_json(call):
    body = {"path": "/" + "/".join(call.path)} | {name.split("+")[0]: value for name, value in call.keys.items()}
    return Request("POST", plain(call), (("codec-device", "json@1.0"), ("content-type", "application/json")), json.dumps(body).encode())


def as_typed_json(call):
    types = ", ".join(f'{name.split("+")[0]}="{name.split("+")[1]}"' for name in call.keys if "+" in name)
    body = {name.split("+")[0]: str(value) for name, value in call.keys.items()} | {"ao-types": types}
    return Request("POST", plain(call), (("codec-device", "json@1.0"),), json.dumps(body).encode())


def as_flat(call):
    lines = [f"{name.split('+')[0]}: {value}" for name, value in call.keys.items()]
    return Request("POST", plain(call), (("codec-device", "flat@1.0"),), "\n".join(lines).encode())


def as_structured(call):
    body = json.dumps({name: str(value) for name, value in call.keys.items()})
    return Request("POST", plain(call), (("codec-device", "structured@1.0"),), body.encode())


def as_multipart(call):
    parts = [f'--part\r\ncontent-disposition: form-data;name="{name}"\r\n\r\n{value}\r\n' for name, value in call.keys.items()]
    kind = (("content-type", 'multipart/form-data; boundary="part"'),)
    return Request("POST", plain(call), kind, ("".join(parts) + "--part--\r\n").encode())


def as_form(call):
    kind = (("content-type", "application/x-www-form-urlencoded"),)
    return Request("POST", plain(call), kind, urllib.parse.urlencode(call.keys).encode())


def with_made_up_signature(call):
    """An httpsig signature that nobody made, over all keys, of the victim as its key."""
    names = " ".join(f'"{name}"' for name in call.keys)
    key = quoted(call.path[0][:43])
    signed = (("signature-input", f'sig1=({names});alg="rsa-pss-sha512";keyid="{key}"'), ("signature", "sig1=:QUFBQQ==:"))
    return Request("GET", plain(call), (*((name, str(value)) for name, value in call.keys.items()), *signed))


def with_hmac_signature(call):
    """An unsigned commitment, which anybody can make for any content."""
    names = " ".join(f'"{name}"' for name in call.keys)
    signed = (("signature-input", f'sig1=({names});alg="hmac-sha256";keyid="ao"'), ("signature", "sig1=:QUFBQQ==:"))
    return Request("POST", plain(call), (*((name, str(value)) for name, value in call.keys.items()), *signed))


# The spellings that any stranger can send without a key.
SPELLINGS = (
    in_segment,
    in_first_segment,
    in_every_segment,
    in_query,
    in_query_post,
    in_query_blank,
    slashes_encoded,
    separators_encoded,
    encoded_twice,
    every_byte_encoded,
    doubled_slashes,
    subpath,
    subpath_then_key,
    in_headers,
    in_scoped_headers,
    in_capital_headers,
    as_json,
    as_typed_json,
    as_flat,
    as_structured,
    as_multipart,
    as_form,
    with_made_up_signature,
    with_hmac_signature,
)


def as_signed_item(call, wallet, spoil=False):
    """The stranger's own signature, or a broken one."""
    tags = {name.split("+")[0]: value for name, value in call.keys.items()}
    item, _ = data_item(wallet, {"path": "/" + "/".join(call.path)} | tags, spoil=spoil)
    return Request("POST", plain(call), (("codec-device", "ans104@1.0"),), item)


def spelled(calls, wallet, spellings=SPELLINGS):
    """Each call in each spelling, and signed by the stranger."""
    for call in calls:
        for spelling in spellings:
            yield Attack(f"{call.name} / {spelling.__name__}", (spelling(call),))
        yield Attack(f"{call.name} / as_signed_item", (functools.partial(as_signed_item, call, wallet),))
        yield Attack(f"{call.name} / as_broken_item", (functools.partial(as_signed_item, call, wallet, spoil=True),))


FEW = (in_segment, in_query, slashes_encoded, in_headers, as_json, as_typed_json, subpath)


def results(name="results"):
    """Keys that claim the results of a slot, of several kinds."""
    return {f"{name}+map": f'output="{FORGED}", data="{FORGED}"'}
