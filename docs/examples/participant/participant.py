#!/usr/bin/env python3
"""The smallest service that moves in lockstep: it greets, by asking the engine who it is, and keeps docs/participant.md.

    participant.py --listen 127.0.0.1:9000 --state /var/lib/greeter/cutover.json --engine http://127.0.0.1:4445

Needs Python 3 and nothing else. `--engine` is the gateway's address: it leads to whichever side is open, so that this
service has no connections of its own to turn. `GET /greeting?seconds=N` is a user's request.
"""
import argparse
import json
import os
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HELD = ("holding", "switched", "refusing")
WAITING_AT_MOST = 100  # requests
WAIT_AT_MOST_S = 10
REFUSE_AFTER_S = 0.5  # after a hold's end; the gateway may be settling it just now


class Conflict(Exception):
    """409: the order is older than what was accepted, or contradicts it."""


class NotNow(Exception):
    """503: not as things stand."""


class Participant:
    def __init__(self, file):
        self.file = file
        self.changed = threading.Condition()  # guards everything below
        self.in_flight = 0
        self.waiting = 0
        self.ends = 0.0  # when the hold ends, on this machine's monotonic clock
        self.stand = {"epoch": 0, "nonce": "00000000-0000-0000-0000-000000000000",
                      "side": "blue", "state": "serving", "resolvers": []}
        if os.path.exists(file):
            with open(file, encoding="utf-8") as stored:
                self.stand = json.load(stored)
        if self.stand["state"] in HELD:
            self.stand["state"] = "refusing"  # rule 6: never serve from memory
        threading.Thread(target=self.watch, daemon=True).start()

    # ---- users' requests ----

    def enter(self):
        """Waits through a hold; the request is in flight from here until leave()."""
        with self.changed:
            if self.waiting >= WAITING_AT_MOST:
                raise NotNow("too many wait")
            self.waiting += 1
            try:
                self.changed.wait_for(lambda: self.stand["state"] not in ("holding", "switched"), WAIT_AT_MOST_S)
            finally:
                self.waiting -= 1
            if self.stand["state"] in HELD:
                raise NotNow("held: no side is known to be open")
            self.in_flight += 1

    def leave(self):
        with self.changed:
            self.in_flight -= 1
            self.changed.notify_all()

    # ---- orders ----

    def standing(self):
        with self.changed:
            told = {name: self.stand[name] for name in ("epoch", "nonce", "side", "state")}
            return {**told, "in_flight": self.in_flight}

    def admit(self, order):
        """True for an order of the proposal accepted last, false for one of a new proposal."""
        if order["epoch"] < self.stand["epoch"]:
            raise Conflict("a higher epoch was accepted")
        if order["epoch"] == self.stand["epoch"] and order["nonce"] != self.stand["nonce"]:
            raise Conflict("this epoch was accepted from another proposal")
        return order["epoch"] == self.stand["epoch"]

    def obey(self, verb, order):
        with self.changed:
            known, state = self.admit(order), self.stand["state"]
            {"prepare": self.prepare, "hold": self.hold, "switch": self.switch,
             "release": self.release, "verify": lambda *_: None}[verb](order, known, state)
        return self.standing()

    def prepare(self, order, known, state):
        if state == "refusing" or (state in HELD and not known):
            raise NotNow("a hold is not over")
        if not known:
            self.store(order, state="prepared")

    def hold(self, order, known, state):
        if state == "serving" and known:
            raise Conflict("this epoch was released already")
        if state in HELD and not (state == "holding" and known):
            raise NotNow("a hold is not over")
        if state != "holding":
            self.ends = time.monotonic() + order["deadline_ms"] / 1000
            self.store(order, state="holding")
        self.changed.wait_for(lambda: self.in_flight == 0, max(0, self.ends - time.monotonic()))
        if self.in_flight > 0:
            raise NotNow("work is still in flight")

    def switch(self, order, known, state):
        if state == "serving" and known and self.stand["side"] == order["side"]:
            return
        if not (known and state in HELD):
            raise Conflict("this epoch is not held here")
        self.ends = time.monotonic() + order["deadline_ms"] / 1000
        self.store(order, state="switched", side=order["side"])

    def release(self, order, known, state):
        if state == "serving" and known and self.stand["side"] != order["side"]:
            raise Conflict("this epoch was released to the other side")
        self.store(order, state="serving", side=order["side"])

    def store(self, order, **changes):
        """Rule 1: on the disk before it is answered, and before anybody is let in."""
        stand = {**self.stand, "epoch": order["epoch"], "nonce": order["nonce"],
                 "resolvers": order["resolvers"], **changes}
        new = self.file + ".new"
        with open(new, "w", encoding="utf-8") as stored:
            json.dump(stand, stored)
            stored.flush()
            os.fsync(stored.fileno())
        os.replace(new, self.file)
        folder = os.open(os.path.dirname(os.path.abspath(self.file)), os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        self.stand = stand
        self.changed.notify_all()

    # ---- a hold that ends without word ----

    def watch(self):
        """Rule 5: ask while users wait on, soon refuse, and obey a definite answer alone."""
        while True:
            time.sleep(0.05)
            with self.changed:
                stand, over_s = self.stand, time.monotonic() - self.ends
            refuses = stand["state"] == "refusing"
            if stand["state"] not in HELD or (over_s < 0 and not refuses):
                continue
            for resolver in stand["resolvers"]:
                said = ask(resolver + "/resolve", 1 if refuses else 0.15)
                if said and said["state"] == "open" and said["epoch"] >= stand["epoch"]:
                    with self.changed:
                        if self.stand is stand:  # no order came meanwhile
                            self.store(stand, state="serving", side=said["side"])
                    break
            with self.changed:
                if self.stand is stand and not refuses and over_s >= REFUSE_AFTER_S:
                    self.store(stand, state="refusing")
            if refuses:
                time.sleep(0.2)


def ask(url, timeout_s=1):
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


def serve(listen, participant, engine):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, body):
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            if status == 503:
                self.send_header("retry-after", "1")
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self):
            path = urllib.parse.urlsplit(self.path)
            if path.path == "/cutover/v1/state":
                return self.answer(200, participant.standing())
            if path.path != "/greeting":
                return self.answer(404, {"error": "no such page"})
            try:
                participant.enter()
            except NotNow as why:
                return self.answer(503, {"error": str(why)})
            try:
                time.sleep(min(10.0, float(urllib.parse.parse_qs(path.query).get("seconds", ["0"])[0])))
                said = ask(engine + "/version")
                return self.answer(200, {"hello": said["version"]}) if said else self.answer(502, {"error": "no engine"})
            finally:
                participant.leave()

        def do_POST(self):
            order = json.loads(self.rfile.read(int(self.headers["content-length"])))
            verb = self.path.removeprefix("/cutover/v1/")
            if verb not in ("prepare", "hold", "switch", "verify", "release"):
                return self.answer(404, {"error": "no such order"})
            try:
                standing = participant.obey(verb, order)
            except Conflict as why:
                stand = participant.standing()
                return self.answer(409, {"error": str(why), "epoch": stand["epoch"], "nonce": stand["nonce"]})
            except NotNow:
                return self.answer(503, participant.standing())
            if verb == "verify":  # rule 7: a user's way to the engine, also while users are held
                said = ask(engine + "/version")
                if not said:
                    return self.answer(503, {"error": "no engine"})
                standing["answered_by"] = said["version"]
            return self.answer(200, standing)

    host, port = listen.rsplit(":", 1)
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--listen", "--state", "--engine"):
        words.add_argument(name, required=True)
    given = words.parse_args()
    serve(given.listen, Participant(given.state), given.engine)
