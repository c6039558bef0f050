"""What is on both sides of HAProxy. part.py serve HOST: echoes at 7001, HTTP at 7081 (`/slow` takes four seconds).
part.py load HOST TCP SLOW KEPT: so many connections of each kind to 7000 and 7080, each of which says what it reads last:
`tcp eof`, `slow 200`, `kept reset`."""
import asyncio
import sys


async def echo(reader, writer):
    while some := await reader.read(65536):
        writer.write(some)
    writer.close()


async def web(reader, writer):
    while head := await reader.readuntil(b"\r\n\r\n"):
        if b"/slow" in head:
            await asyncio.sleep(4)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def serve(host):
    async with await asyncio.start_server(echo, host, 7001), await asyncio.start_server(web, host, 7081):
        print("in", flush=True)
        await asyncio.sleep(300)


async def last(name, reader):
    try:
        some = await reader.read(65536)
        text = some.split(b"\r\n")[0].decode().removeprefix("HTTP/1.1 ").split(" ")[0] or "eof"
    except ConnectionResetError:
        text = "reset"
    print(name, text, flush=True)


async def one(name, host, port, first, answer):
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(first)
    if answer:
        await reader.readuntil(answer)
    print("in", flush=True)
    await last(name, reader)
    writer.close()


async def load(host, tcp, slow, kept):
    get = b"GET /%b HTTP/1.1\r\nHost: x\r\nConnection: %b\r\n\r\n"
    some = [one("tcp", host, 7000, b"hello", b"hello") for _ in range(int(tcp))]
    some += [one("kept", host, 7080, get % (b"", b"keep-alive"), b"ok") for _ in range(int(kept))]
    some += [one("slow", host, 7080, get % (b"slow", b"close"), b"") for _ in range(int(slow))]
    await asyncio.gather(*some)


asyncio.run(serve(*sys.argv[2:]) if sys.argv[1] == "serve" else load(*sys.argv[2:]))
