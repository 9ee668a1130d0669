"""A wallet of the stranger, and messages that it signs: data items (ANS-104) with RSA-PSS, by the standard library alone."""

import base64
import hashlib
import json
import os
import secrets
import struct

BITS = 4096
SALT = 32
EXPONENT = 65537
SMALL_PRIMES = [number for number in range(3, 2000, 2) if all(number % part for part in range(3, int(number**0.5) + 1, 2))]


def encoded(data):
    """Base64url without padding, as all ids have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def is_prime(number):
    """Trial division, and ten rounds of Miller and Rabin."""
    if any(number % prime == 0 for prime in SMALL_PRIMES):
        return False
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(10):
        power = pow(secrets.randbelow(number - 3) + 2, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


def new_prime(bits):
    while True:
        number = secrets.randbits(bits) | 3 << (bits - 2) | 1
        if number % EXPONENT != 1 and is_prime(number):
            return number


class Wallet:
    """An RSA key of 4096 bits. The file is the JSON Web Key that Arweave's wallets have."""

    def __init__(self, modulus, private, one, other):
        self.modulus = modulus
        # Both primes, with the exponent for each: four times as fast as the whole.
        self.primes = [(prime, private % (prime - 1)) for prime in (one, other)]
        self.inverse = pow(other, -1, one)
        self.owner = modulus.to_bytes(BITS // 8, "big")
        self.address = encoded(hashlib.sha256(self.owner).digest())

    @classmethod
    def load(cls, path):
        """The wallet in a file, which is made if it is not there."""
        if not os.path.exists(path):
            one, other = new_prime(BITS // 2), new_prime(BITS // 2)
            private = pow(EXPONENT, -1, (one - 1) * (other - 1))
            numbers = {"n": one * other, "e": EXPONENT, "d": private, "p": one, "q": other}
            key = {name: encoded(number.to_bytes((number.bit_length() + 7) // 8, "big")) for name, number in numbers.items()}
            with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                json.dump({"kty": "RSA"} | key, file)
        with open(path, encoding="utf-8") as file:
            key = json.load(file)
        return cls(*(int.from_bytes(decoded(key[name]), "big") for name in ("n", "d", "p", "q")))

    def sign(self, data):
        """RSA-PSS with SHA-256."""
        salt = secrets.token_bytes(SALT)
        digest = hashlib.sha256(bytes(8) + hashlib.sha256(data).digest() + salt).digest()
        block = bytes(BITS // 8 - SALT - len(digest) - 2) + b"\1" + salt
        masked = bytes(one ^ other for one, other in zip(block, mask(digest, len(block))))
        message = bytes([masked[0] & 0x7F]) + masked[1:] + digest + b"\xbc"
        return self.power(int.from_bytes(message, "big")).to_bytes(BITS // 8, "big")

    def power(self, number):
        """The number to the power of the private exponent, by the Chinese remainder theorem."""
        (one, first), (other, second) = self.primes
        rest = pow(number, second, other)
        return (rest + other * ((pow(number, first, one) - rest) * self.inverse % one)) % self.modulus


def mask(seed, size):
    blocks = (hashlib.sha256(seed + struct.pack(">I", number)).digest() for number in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def deep_hash(part):
    """Arweave's hash of a list of lists and bytes."""
    if isinstance(part, bytes):
        return hashlib.sha384(hashlib.sha384(b"blob%d" % len(part)).digest() + hashlib.sha384(part).digest()).digest()
    digest = hashlib.sha384(b"list%d" % len(part)).digest()
    for item in part:
        digest = hashlib.sha384(digest + deep_hash(item)).digest()
    return digest


def zigzag(number):
    number, out = number << 1, bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def avro(tags):
    if not tags:
        return b""
    texts = [text.encode() for tag in tags for text in tag]
    return zigzag(len(tags)) + b"".join(zigzag(len(text)) + text for text in texts) + b"\0"


def data_item(wallet, tags, data=b"", target=None, spoil=False):
    """A signed data item and its id. The node writes tags anew in the order of their names. `spoil` breaks the signature."""
    tags = [(name, str(value)) for name, value in sorted(tags.items())]
    receiver = decoded(target) if target else b""
    signature = wallet.sign(deep_hash([b"dataitem", b"1", b"1", wallet.owner, receiver, b"", avro(tags), data]))
    if spoil:
        signature = bytes([signature[0] ^ 1]) + signature[1:]
    item = struct.pack("<H", 1) + signature + wallet.owner + (b"\1" + receiver if target else b"\0") + b"\0"
    return item + struct.pack("<QQ", len(tags), len(avro(tags))) + avro(tags) + data, encoded(hashlib.sha256(signature).digest())
