"""Gives back what it gets: echo.py PORT..., on IPv4 and IPv6. Says "ready" when all ports are open."""
import asyncio
import sys


async def serve(reader, writer):
    try:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main():
    for port in sys.argv[1:]:
        await asyncio.start_server(serve, None, int(port), backlog=4096)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
