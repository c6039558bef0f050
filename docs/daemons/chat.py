#!/usr/bin/env python3
"""A WebSocket chat, and what ebb needs to see into it.

chat.py serve HOST PORT CONTROL   the chat; CONTROL is a unix socket of its own
chat.py ebb CONTROL               ebb's `command`: passes one question on, and prints the answer
"""
import asyncio, json, socket, sys, time
import websockets

people = {}  # key -> (connection, name, since, last word)
refusing = False


async def talk(connection):
    if refusing:
        return await connection.close(1012, "maintenance: come back later")
    name = connection.path.strip("/") or "somebody"
    key = f"{id(connection):x}"
    people[key] = [connection, name, time.time(), time.time()]
    try:
        async for words in connection:
            people[key][3] = time.time()
            websockets.broadcast([one[0] for one in people.values()], f"{name}: {words}")
    finally:
        del people[key]


def session(key, connection, name, since, last):
    now = time.time()
    host, port = connection.remote_address[:2]
    peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return {"key": key, "kind": "http", "user": name, "what": "chat", "peer": peer, "age_seconds": now - since,
            "idle_seconds": now - last, "busy": "idle" if now - last > 5 else "active"}


async def answer(question):
    global refusing
    ask = question["ask"]
    if ask == "abilities":
        return {"version": "1", "can": ["sessions", "refuse", "end"]}
    if ask == "sessions":
        return {"sessions": [session(key, *one) for key, one in list(people.items())[: question["most"]]]}
    if ask in ("refuse", "admit"):
        refusing = ask == "refuse"
    if ask in ("refuse", "admit", "refuses"):
        return {"refuses": refusing}
    ended = []
    for key in question["keys"]:
        ended.append("asked" if key in people else "gone")
        if key in people:  # the protocol's own goodbye: a close frame with a reason
            asyncio.create_task(people[key][0].close(1001, question["text"]))
    return {"ended": ended}


async def control(reader, writer):
    writer.write(json.dumps(await answer(json.loads(await reader.readline()))).encode())
    await writer.drain()
    writer.close()


async def serve(host, port, path):
    async with websockets.serve(talk, host, int(port)):
        async with await asyncio.start_unix_server(control, path) as server:
            await server.serve_forever()


if sys.argv[1] == "serve":
    asyncio.run(serve(*sys.argv[2:]))
else:
    with socket.socket(socket.AF_UNIX) as chat:
        chat.connect(sys.argv[2])
        chat.sendall(sys.stdin.buffer.readline())
        sys.stdout.buffer.write(b"".join(iter(lambda: chat.recv(65536), b"")))
