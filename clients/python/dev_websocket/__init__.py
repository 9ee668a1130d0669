"""A client of dev_websocket that stays connected."""

from ._client import Client
from ._errors import ClientError, Closed, GaveUp, RequestRefused
from ._subscription import Subscription
from ._verify import Verified, VerifyError, verify
from .types import (
    Direct, Established, Event, Gap, Headers, Live, Message, Overflow, Reply, Slow, Stale, State, StateChange, Template, Templates,
    Texts, Token, TransportName, Update, Url,
)

__all__ = [
    "Client",
    "ClientError",
    "Closed",
    "Direct",
    "Established",
    "Event",
    "Gap",
    "GaveUp",
    "Headers",
    "Live",
    "Message",
    "Overflow",
    "Reply",
    "RequestRefused",
    "Slow",
    "Stale",
    "State",
    "StateChange",
    "Subscription",
    "Template",
    "Templates",
    "Texts",
    "Token",
    "TransportName",
    "Update",
    "Url",
    "Verified",
    "VerifyError",
    "verify",
]
__version__ = "0.2.0"
