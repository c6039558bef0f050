"""A queue that cannot leave, and the server that takes it. queue.py HOST COUNT OWN: hands in COUNT mails for q0@x.test,
q1@x.test ..., and one for bad@x.test, which the other server (aiosmtpd at OWN, port 2526) refuses for now. Then, by lines on its
standard input: `listen` has that server listen, `end` ends it all. Prints each mail that it takes."""

import smtplib
import sys

from aiosmtpd.controller import Controller

HOST, COUNT, OWN = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Other:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == "bad@x.test":
            return "450 not now"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server, session, envelope):
        print(f"other: {envelope.rcpt_tos[0]}", flush=True)
        return "250 taken"


client = smtplib.SMTP(HOST, 25)
for to in [f"q{number}@x.test" for number in range(COUNT)] + ["bad@x.test"]:
    client.sendmail("a@x.test", [to], "Subject: queued\r\n\r\nx\r\n")
client.quit()
other = Controller(Other(), hostname=OWN, port=2526)
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "listen":
        other.start()
        print("listens", flush=True)
    else:
        break
