"""XMPP clients: clients.py HOST PORT DOMAIN COUNT ROOM FRIEND. Each says what it reads, one line each: `in NAME`, then
`error NAME CONDITION TEXT`, then `out NAME`. The first 40 sit
in ROOM. Lines on standard input: `sleep NAME` cuts a connection without a word.
The first is of the domain HOST, has stream management and writes to FRIEND, the second a resource as long as it may be, the third one that is no plain text."""
import asyncio
import sys

import slixmpp

host, port, domain, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
room, friend = sys.argv[5:]
HOSTILE = "[2J<&'\"\\]]>{%s}$(id)ß日本"


def say(*words):
    print(*words, flush=True)


class Client(slixmpp.ClientXMPP):
    def __init__(self, number):
        self.called = f"u{number:04d}"
        resource = {1: "r" * 1023, 2: HOSTILE}.get(number, f"r{number}")
        name = "n" * 1019 + "0001" if number == 1 else self.called
        super().__init__(f"{name}@{domain if number else host}/{resource}", "secret")
        self.register_plugin("xep_0045")
        if number == 0:
            self.register_plugin("xep_0198")
        self["feature_mechanisms"].unencrypted_plain = True
        self.add_event_handler("session_start", self.began)
        self.add_event_handler("stream_error", self.wrong)
        self.add_event_handler("disconnected", lambda _: say("out", self.called))
        self.add_event_handler("failed_auth", lambda _: say("refused", self.called))

    async def began(self, _):
        self.send_presence()
        if self.called == "u0000":
            self.send_message(friend, "hello")
        if self.called < "u0040":
            self.plugin["xep_0045"].join_muc(room, self.called)
        say("in", self.called)

    def wrong(self, error):
        say("error", self.called, error["condition"], error["see_other_host"] or error["text"])


async def main():
    clients = {}
    for number in range(count):
        client = Client(number)
        clients[client.called] = client
        client.connect((host, port), force_starttls=False, disable_starttls=True)
        await asyncio.sleep(0.01)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        clients[line.split()[1].decode()].transport.abort()


asyncio.get_event_loop().run_until_complete(main())
