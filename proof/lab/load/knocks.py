"""Tries to connect again and again: knocks.py HOST PORT PAUSE_SECONDS

Counts what came of it until its input ends, then says so in one JSON line. An accepted connection is closed at once.
"""
import json
import socket
import sys
import threading
import time

HOST, PORT, PAUSE = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
count = {"accepted": 0, "refused": 0, "other": 0}
what = []
over = threading.Event()


def knock():
    try:
        socket.create_connection((HOST, PORT), timeout=5).close()
        return "accepted"
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        what.append(repr(error))
        return "other"


def wait_for_end():
    sys.stdin.read()
    over.set()


threading.Thread(target=wait_for_end, daemon=True).start()
print("knocking", flush=True)
while not over.is_set():
    count[knock()] += 1
    time.sleep(PAUSE)
print(json.dumps({**count, "what": what[:5]}), flush=True)
