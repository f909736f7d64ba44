"""A mail server that is not ours: aiosmtpd. Each mail is in the file, a line of JSON, before the sender hears that it was taken.

    mailserver.py PORT FILE
"""

import asyncio
import json
import os
import sys

from aiosmtpd.smtp import SMTP


class Keeper:
    def __init__(self, path):
        self.path = path

    async def handle_DATA(self, server, session, envelope):
        text = envelope.content.decode("utf-8").replace("\r\n", "\n")
        mail = {"from": envelope.mail_from, "to": envelope.rcpt_tos, "data": text}
        with open(self.path, "a", encoding="utf-8") as kept:
            kept.write(json.dumps(mail) + "\n")
            kept.flush()
            os.fsync(kept.fileno())
        return "250 2.0.0 kept"


async def serve(port, path):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Keeper(path), hostname="mail.example.org"), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
