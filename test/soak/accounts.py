"""What must add up whenever everything has come to rest."""

# What a source is told of a cast, and how the server counts it.
OUTCOMES = {
    "ok": "publications",
    "overload": "dropped_overload",
    "too_large": "dropped_too_large",
    "no_audience": "dropped_no_audience",
    "not_running": "dropped_not_running",
}


class Accounts:
    """Compares the counters of the server with those of sources and clients."""

    def __init__(self):
        self.failures = []
        self.cycles_exact = 0

    def expect(self, what, found, wanted):
        if found != wanted:
            self.failures.append(f"{what}: {found}, expected {wanted}")

    def casts(self, casts, stats):
        """Every cast is a publication or was dropped for a reason that is counted."""
        for outcome, counter in OUTCOMES.items():
            self.expect(f"casts with outcome {outcome} as {counter}", stats[counter], casts[outcome])
        self.expect("casts with another outcome", casts["other"], 0)

    def observers(self, casts, seen):
        """Who is subscribed to everything gets every message, or word that it is missing."""
        heard = casts["ok"] + casts["overload"]
        for number, observer in enumerate(seen):
            self.expect(f"messages that came to observer {number} or were told missing", sum(observer.values()), heard)

    def deliveries(self, stats):
        """Each pair of a publication and a connection that was to get it has one end."""
        ends = stats["deliveries"] + stats["dropped_slow"] + stats["dropped_disconnected"]
        self.expect("deliveries, dropped_slow and dropped_disconnected together, by matched", ends, stats["deliveries_expected"])

    def received(self, received, echoes, stats, is_whole):
        """`received`, `echoes` and `stats` are what a cycle added. If all clients read to the end, they got all that was handed to
        the system for them."""
        if is_whole:
            self.expect("publications received, by deliveries", received, stats["deliveries"])
            self.expect("echoes, by inbound_delivered", echoes, stats["inbound_delivered"])
            self.expect("echoes, by direct_messages", echoes, stats["direct_messages"])
            self.cycles_exact += 1
        elif received > stats["deliveries"]:
            self.failures.append(f"{received} publications received of {stats['deliveries']} deliveries")

    def broken(self, broken, stats):
        """Only a connection that was closed as too slow may end without its close frame: its client did not read for two seconds."""
        if broken > stats["closed_slow"]:
            self.failures.append(f"{broken} clients read no close frame, though {stats['closed_slow']} were closed as too slow")

    def rest(self, stats, connections):
        """Nothing is on the way, and nothing went wrong."""
        self.expect("connections", stats["connections"], connections)
        self.expect("connections_opened less connections_closed", stats["connections_opened"] - stats["connections_closed"], connections)
        for name in ("publish_queued_bytes", "handshakes", "panics", "accept_failures", "error_frames"):
            self.expect(name, stats[name], 0)

    def nothing_left(self, stats, process):
        """After the last client has gone. `process` is what the VM had before the first came, and what it has now."""
        for name in ("connections", "publish_queued_bytes", "handshakes", "regexes", "panics"):
            self.expect(f"{name} at the end", stats[name], 0)
        for name, (before, after) in process.items():
            self.expect(f"{name} of the VM at the end", after, before)
