"""Conversations of clients with a server whose access is open: test/fixtures/conversations has their recordings."""

from . import ends, endpoints, events, handshakes, refusals, replays, requests, results

__all__ = ["ends", "endpoints", "events", "handshakes", "refusals", "replays", "requests", "results"]
