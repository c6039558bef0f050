"""Holds echo sessions open and checks every byte: echoes.py HOST PORT COUNT [PATH]

With PATH each session begins with an HTTP upgrade to WebSocket. Each sends a line of its own now and then and wants
exactly it back. Says "open" when all are. Reads commands: "end N" ends so many sessions politely (the client's end
first), "count" says how many live; the end of input ends all the rest. Every answer is one JSON object in a line.
"""
import asyncio
import json
import os
import sys

HOST, PORT, COUNT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
PATH = sys.argv[4] if len(sys.argv) > 4 else None
PAUSE = 0.25  # between two lines of a session
PATIENCE = 20  # for an answer: longer than any pause of a busy machine
UPGRADE = ("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")

count = {"opened": 0, "failed": 0, "ended": 0, "harmed": 0, "echoes": 0}
harms = []
living = []


def say(**more):
    print(json.dumps({**count, "living": len(living), "harms": harms[:5], **more}), flush=True)


class Session:
    def __init__(self, number, reader, writer):
        self.number, self.reader, self.writer = number, reader, writer
        self.wants_end = asyncio.Event()

    async def talk(self):
        beat = 0
        while not self.wants_end.is_set():
            beat += 1
            line = b"session %d beat %d\n" % (self.number, beat)
            self.writer.write(line)
            await self.writer.drain()
            answer = await asyncio.wait_for(self.reader.readexactly(len(line)), PATIENCE)
            if answer != line:
                raise ValueError("sent %r, got %r" % (line, answer))
            count["echoes"] += 1
            try:
                await asyncio.wait_for(self.wants_end.wait(), PAUSE)
            except asyncio.TimeoutError:
                pass

    async def live(self):
        try:
            await self.talk()
            self.writer.close()
            await self.writer.wait_closed()
            count["ended"] += 1
        except Exception as error:
            count["harmed"] += 1
            harms.append("session %d: %r" % (self.number, error))
            self.writer.close()
        finally:
            if self in living:
                living.remove(self)


async def connect(number):
    reader, writer = await asyncio.open_connection(HOST, PORT)
    if PATH:
        writer.write((UPGRADE % (PATH, HOST)).encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head:
            raise ValueError(head.decode(errors="replace"))
    count["opened"] += 1
    return Session(number, reader, writer)


async def main():
    for made in await asyncio.gather(*map(connect, range(COUNT)), return_exceptions=True):
        if isinstance(made, Exception):
            count["failed"] += 1
            harms.append("not opened: %r" % made)
        else:
            living.append(made)
    tasks = [asyncio.create_task(session.live()) for session in living]
    say(said="open")
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), os.fdopen(0, "rb"))
    while line := await commands.readline():
        verb, *rest = line.split()
        if verb == b"end":
            for session in living[:int(rest[0])]:
                session.wants_end.set()
        say(said=verb.decode())
    for session in list(living):
        session.wants_end.set()
    await asyncio.gather(*tasks)
    say(said="over")


asyncio.run(main())
