"""Tries to connect again and again: knocks.py HOST PORT PAUSE_SECONDS [PATIENCE_SECONDS]

Counts what came of it until its input ends, then says so in one JSON line; `runs` is what came of it in order, with how
often in a row. An accepted connection is closed at once.
"""
import json
import socket
import sys
import threading
import time

HOST, PORT, PAUSE = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
PATIENCE = float((sys.argv[4:] or ["5"])[0])
count = {"accepted": 0, "refused": 0, "other": 0}
what = []
runs = []
over = threading.Event()


def knock():
    try:
        socket.create_connection((HOST, PORT), timeout=PATIENCE).close()
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
    came = knock()
    count[came] += 1
    if not runs or runs[-1][0] != came:
        runs.append([came, 0])
    runs[-1][1] += 1
    if sum(count.values()) == 1000:
        print("1000 knocks", flush=True)
    time.sleep(PAUSE)
print(json.dumps({**count, "what": what[:5], "runs": runs}), flush=True)
