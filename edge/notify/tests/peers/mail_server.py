"""A real SMTP server (aiosmtpd): argv are mode (plain, starttls, tls), certificate, key; its address may be in HOST and PORT. Prints its port, then each mail as JSON."""
import asyncio, json, os, ssl, sys
from aiosmtpd.smtp import AuthResult, SMTP

mode, cert, key = sys.argv[1:4]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
if mode != "plain":
    context.load_cert_chain(cert, key)

class Keep:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 no such user"
        if address.startswith("later@"):
            return "451 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({"tls": session.ssl is not None, "login": session.authenticated, "to": envelope.rcpt_tos,
                          "mail": envelope.content.decode()}), flush=True)
        return "250 OK"

def login(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"ebb", b"s3cret"), handled=False)

kwargs = {}
if mode == "starttls":
    kwargs = {"tls_context": context, "require_starttls": True, "auth_required": True, "authenticator": login}
async def serve():
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(Keep(), **kwargs), os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", 0)),
        ssl=context if mode == "tls" else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(serve())
