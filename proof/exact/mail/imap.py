"""IMAP clients (imaplib) in IDLE; every fourth over TLS. Prints what each of them reads to its end.

imap.py HOST COUNT: u000, u001 ... in IDLE, one more ("appends") half-way through an APPEND, one ("silent") not logged in.
Then, by lines on its standard input: `leave N` has the first N log out, `append` ends the APPEND.
"""

import imaplib
import socket
import ssl
import sys
import threading

HOST, COUNT = sys.argv[1], int(sys.argv[2])
TLS = ssl.create_default_context()
TLS.check_hostname = False
TLS.verify_mode = ssl.CERT_NONE
SPEAKS = threading.Lock()
MESSAGE = b"Subject: half\r\n\r\n" + b"x" * 5000 + b"\r\n"


def login(user, tls):
    client = imaplib.IMAP4_SSL(HOST, 993, ssl_context=TLS) if tls else imaplib.IMAP4(HOST, 143)
    client.login(user, "pw")
    client.select()
    return client


def say(who, line):
    with SPEAKS:
        print(f"{who}: {line.decode(errors='replace').strip()}", flush=True)


def read(who, readline):
    try:
        while line := readline():
            if not line.startswith(b"* OK Still here"):
                say(who, line)
        say(who, b"end")
    except OSError as error:
        say(who, str(error).encode())


threads, idle = [], []


def start(who, readline):
    threads.append(threading.Thread(target=read, args=(who, readline)))
    threads[-1].start()


for number in range(COUNT):
    client = login(f"u{number:03}", number % 4 == 0)
    client.send(b"i IDLE\r\n")
    assert client.readline().startswith(b"+"), "IDLE is not taken"
    idle.append(client)
    start(f"u{number:03}", client.readline)
appends = login("appends", True)
appends.send(b"a APPEND INBOX {%d}\r\n" % len(MESSAGE))
assert appends.readline().startswith(b"+"), "APPEND is not taken"
appends.send(MESSAGE[:1000])
start("appends", appends.readline)
silent = socket.create_connection((HOST, 143))
start("silent", silent.makefile("rb").readline)
print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    if words[0] == "leave":
        for client in idle[: int(words[1])]:
            client.send(b"DONE\r\nl LOGOUT\r\n")
    else:
        appends.send(MESSAGE[1000:] + b"\r\nl LOGOUT\r\n")
for thread in threads:
    thread.join()
