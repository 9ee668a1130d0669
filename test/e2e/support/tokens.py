"""Tokens of the tests, and the key file that verifies them."""

import base64
import hashlib
import hmac
import json
import os
import random
import time

from .vm import OUT

SECRET = bytes(range(32))
ISSUER = "https://shop.example"
RSA_BYTES = 512
# No key has this modulus. It refuses each signature, after the work that one of RSA-4096 takes.
MODULUS = (random.Random(17).getrandbits(8 * RSA_BYTES) | 1 << (8 * RSA_BYTES - 1) | 1).to_bytes(RSA_BYTES, "big")


def part(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def keys():
    """Writes the key file of these tests, and gives its path."""
    os.makedirs(OUT, exist_ok=True)
    path = os.path.join(OUT, "token_keys.json")
    shared = {"kid": "shop-1", "alg": "HS256", "kty": "oct", "iss": ISSUER, "k": part(SECRET)}
    public = {"kid": "sso", "alg": "RS256", "kty": "RSA", "iss": ISSUER, "n": part(MODULUS), "e": "AQAB"}
    # A server of another test may be reading it.
    with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
        json.dump({"keys": [shared, public]}, file)
    os.replace(file.name, path)
    return path


def unsigned(header, seconds, topics, **claims):
    """Header and claims of a token that ends in so many seconds."""
    now = int(time.time())
    grants = [{"type": "dev_websocket", "actions": ["read"], "topics": topics}]
    claims = {"iss": ISSUER, "aud": "dev_websocket", "sub": "alice", "iat": now, "exp": now + seconds} | claims
    header = {"typ": "at+jwt"} | header
    return ".".join(part(json.dumps(value).encode()) for value in (header, claims | {"authorization_details": grants}))


def token(seconds, topics, **claims):
    """A token that ends in so many seconds."""
    signed = unsigned({"alg": "HS256", "kid": "shop-1"}, seconds, topics, **claims)
    return signed + "." + part(hmac.new(SECRET, signed.encode(), hashlib.sha256).digest())


def forged_token(seconds, topics):
    """A token in the right form, with the id of a real RSA key, that this key has not signed."""
    # A signature above the modulus would be refused without any work.
    signature = b"\0" + os.urandom(RSA_BYTES - 1)
    return unsigned({"alg": "RS256", "kid": "sso"}, seconds, topics) + "." + part(signature)
