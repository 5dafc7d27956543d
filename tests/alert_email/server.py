"""A real SMTP server (aiosmtpd) for tests/alert_email.rs: writes each mail it takes to a folder, and its ports to stdout.

    server.py MODE CERTIFICATE KEY FOLDER     MODE: starttls | tls | none | offers-nothing
"""
import asyncio, json, ssl, sys, pathlib
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

mode, certificate, key, folder = sys.argv[1:5]
folder = pathlib.Path(folder)
count = 0


class Handler:
    async def handle_DATA(self, server, session, envelope):
        global count
        count += 1
        record = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or mode == "tls",
            "user": session.auth_data.login.decode() if session.authenticated else None,
            "content": envelope.content.decode("utf-8"),
        }
        (folder / f"{count}.json").write_text(json.dumps(record))
        return "250 2.0.0 queued as NUMBER%d" % count

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("busy"):
            return "451 4.3.0 try again later"
        if address.startswith("nobody"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    fine = isinstance(data, LoginPassword) and data.login == b"alerts" and data.password == b"pass phrase"
    return AuthResult(success=fine, auth_data=data, handled=False)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def protocol():
        options = {"authenticator": authenticate, "hostname": "mail.test"}
        if mode == "starttls":
            options |= {"tls_context": context, "require_starttls": True, "auth_required": True, "auth_require_tls": True}
        elif mode == "tls":
            options |= {"auth_required": True, "auth_require_tls": False}
        return SMTP(Handler(), **options)

    server = await asyncio.get_running_loop().create_server(
        protocol, "127.0.0.1", 0, ssl=context if mode == "tls" else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
