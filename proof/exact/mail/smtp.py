"""SMTP clients (smtplib) with their sessions open, and the next hop (aiosmtpd), which takes mail only when it is told to.

smtp.py HOST COUNT OWN: sends one mail each to b@x.test, b@late.test and hold@x.test; then c000, c001 ... say EHLO and wait, and
"half" is half-way through a mail. OWN is where the next hop listens, at port 2525. Then, by lines on its standard input:
`leave N` has the first N say QUIT, `finish` sends the rest of the half mail, `deliver` has the next hop take mail.
"""

import asyncio
import smtplib
import sys
import threading

from aiosmtpd.controller import Controller

HOST, COUNT, OWN = sys.argv[1], int(sys.argv[2]), sys.argv[3]
SPEAKS = threading.Lock()
TAKES = threading.Event()


def say(text):
    with SPEAKS:
        print(text, flush=True)


class NextHop:
    async def handle_DATA(self, server, session, envelope):
        while not TAKES.is_set():
            await asyncio.sleep(0.05)
        say(f"next hop: {envelope.mail_from} to {envelope.rcpt_tos[0]}")
        return "250 taken"


def session():
    client = smtplib.SMTP(HOST, 25)
    client.ehlo()
    return client


def leave(name, client):
    say(f"{name}: {client.quit()[0]}")


hop = Controller(NextHop(), hostname=OWN, port=2525)
hop.start()
first = session()
for to in ("b@x.test", "b@late.test", "hold@x.test"):
    first.sendmail("a@x.test", [to], "Subject: first\r\n\r\nx\r\n")
first.quit()
clients = [session() for _ in range(COUNT)]
half = session()
half.mail("half@x.test")
half.rcpt("b@x.test")
assert half.docmd("DATA")[0] == 354, "DATA is not taken"
half.send("Subject: half\r\n")
say("ready")
for line in sys.stdin:
    words = line.split()
    if words[0] == "leave":
        for number in range(int(words[1])):
            leave(f"c{number:03}", clients[number])
    elif words[0] == "finish":
        half.send("\r\nhalf\r\n.\r\n")
        say(f"half: {half.getreply()[0]}")
        leave("half", half)
    else:
        TAKES.set()
hop.stop()
