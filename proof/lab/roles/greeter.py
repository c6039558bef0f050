"""Socket-activated: systemd hands the listening socket over as file 3. Greets, then gives back what it gets."""
import asyncio
import socket


async def serve(reader, writer):
    try:
        writer.write(b"hello from %s\n" % socket.gethostname().encode())
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, sock=socket.socket(fileno=3))
    await server.serve_forever()


asyncio.run(main())
