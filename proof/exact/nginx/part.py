"""What is on both sides of nginx. part.py serve HOST: a WebSocket echo at 7001, and at 7002 a web
server that takes twelve seconds to answer. part.py load HOST KEPT SLOW CHATS LATE: so many connections to 7000, between two
requests, in a download that takes a while, WebSockets, and waiting for an answer; each says what it saw last: `kept eof`,
`slow whole`, `chat 1006`, `late whole`."""
import asyncio
import sys

import websockets


async def echo(chat, *_):
    async for message in chat:
        await chat.send(message)


async def answer(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(12)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await writer.drain()
    writer.close()


async def serve(host):
    async with websockets.serve(echo, host, 7001, ping_interval=None), await asyncio.start_server(answer, host, 7002):
        print("in", flush=True)
        await asyncio.sleep(300)


async def last(reader):
    try:
        return "eof" if await reader.read(65536) == b"" else "data"
    except ConnectionResetError:
        return "reset"


async def kept(host):
    reader, writer = await asyncio.open_connection(host, 7000)
    writer.write(b"HEAD /body HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    print("in", flush=True)
    print("kept", await last(reader), flush=True)
    writer.close()


async def slow(host):
    reader, writer = await asyncio.open_connection(host, 7000, limit=1 << 20)
    writer.write(b"GET /body HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    print("in", flush=True)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    try:
        await reader.readexactly(length)
        print("slow whole", flush=True)
    except (asyncio.IncompleteReadError, ConnectionResetError):
        print("slow cut", flush=True)
    writer.close()


async def chat(host):
    async with websockets.connect(f"ws://{host}:7000/ws", ping_interval=None) as chat:
        await chat.send("hello")
        assert await chat.recv() == "hello"
        print("in", flush=True)
        # It speaks for as long as it is asked to, and leaves by itself.
        try:
            for _ in range(12):
                await asyncio.sleep(0.5)
                await chat.send("still")
                await chat.recv()
        except websockets.ConnectionClosed as closed:
            print("chat", closed.code, flush=True)
            return
    print("chat whole", flush=True)


async def late(host):
    reader, writer = await asyncio.open_connection(host, 7000)
    writer.write(b"GET /late HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    print("in", flush=True)
    try:
        print("late", "whole" if (await reader.read()).endswith(b"ok") else "cut", flush=True)
    except ConnectionResetError:
        print("late reset", flush=True)
    writer.close()


async def load(host, *counts):
    kinds = zip((kept, slow, chat, late), counts)
    await asyncio.gather(*(kind(host) for kind, count in kinds for _ in range(int(count))))


asyncio.run(serve(*sys.argv[2:]) if sys.argv[1] == "serve" else load(*sys.argv[2:]))
