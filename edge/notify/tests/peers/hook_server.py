"""A real HTTP server: argv are certificate and key, or nothing; its address may be in HOST and PORT. Prints its port, then each request as JSON."""
import http.server, json, os, ssl, sys, time

class Keep(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        print(json.dumps({"method": self.command, "path": self.path, "headers": dict(self.headers), "body": body}), flush=True)
        if self.path.startswith("/hang"):
            time.sleep(60)
        code = int(self.path[1:4]) if self.path[1:4].isdigit() else 200
        self.send_response(code)
        if 300 <= code < 400:
            self.send_header("Location", "http://elsewhere.example.org/secret")
        self.end_headers()
        try:
            self.wfile.write(b"said \x1b[31m" + b"x" * (50_000_000 if self.path.endswith("/endless") else 10))
        except OSError:
            pass
    do_POST = do_PUT = do_GET = answer
    def log_message(self, *a):
        pass

server = http.server.ThreadingHTTPServer((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", 0))), Keep)
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
