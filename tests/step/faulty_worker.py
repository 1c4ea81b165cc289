"""A reward that misbehaves on purpose: every request gets the next fault of a list, then good answers for ever.

    faulty_worker.py exec FOLDER FAULT,FAULT,...      lines of JSON on stdin and stdout
    faulty_worker.py http FOLDER FAULT,FAULT,...      a server; prints its port
    faulty_worker.py https FOLDER FAULT,FAULT,...     the same with TLS; FOLDER/server.pem has its key and certificate

FOLDER holds how many requests came, so that a worker that is started anew goes on in the list. A good answer scores
picture k by the first of its bytes. Needs ?images=rgb.
"""
import base64, fcntl, json, os, ssl, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

mode, folder, faults = sys.argv[1], sys.argv[2], sys.argv[3].split(",")


def next_fault():
    with open(os.path.join(folder, "requests"), "a+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        f.seek(0)
        count = len(f.read())
        f.write("x")
    return faults[count] if count < len(faults) else "ok"


def good(request):
    q = json.loads(request)
    rgb = base64.b64decode(q["rgb_b64"])
    return [rgb[k * q["width"] * q["height"] * 3] for k in range(q["count"])]


def answer(fault, request):
    """What both ways can do wrong, as text."""
    scores = good(request)
    if fault == "nan": scores[0] = float("nan")
    if fault == "inf": scores[-1] = float("inf")
    if fault == "overflow": scores[0] = 1e39
    if fault == "null": scores[0] = None
    if fault == "text": scores[0] = "good"
    if fault == "few": scores.pop()
    if fault == "many": scores.append(1)
    if fault == "none": return "{}"
    if fault == "number": return '{"scores": 3}'
    if fault == "error": return '{"error": "out of paint"}'
    if fault == "malformed": return '{"scores": [1, 2'
    if fault == "huge": return '{"scores": [' + "1, " * 1000000 + "1]}"
    if fault == "slow": time.sleep(0.3)
    if fault == "hang": time.sleep(60)
    if fault == "crash":
        sys.stderr.write("the last words\n")
        sys.stderr.flush()
        os._exit(3)
    if fault == "killed": os.kill(os.getpid(), 9)
    if fault == "flood":
        sys.stderr.write("x" * 1000000)
        sys.stderr.flush()
    return json.dumps({"scores": scores})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connections = 0

    def setup(self):
        super().setup()
        with open(os.path.join(folder, "connections"), "a") as f: f.write("x")

    def do_POST(self):
        if self.path.startswith("/secret") and self.headers["Authorization"] != "Bearer sesame":
            return self.reply(401, "who are you?")
        request, fault = self.rfile.read(int(self.headers["Content-Length"])), next_fault()
        if fault == "drop":
            self.close_connection = True
            return
        if fault == "half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"scores": [')
            self.close_connection = True
            return
        if fault.isdigit(): return self.reply(int(fault), "something\nbroke")
        if fault == "empty": return self.reply(200, "")
        self.reply(200, answer(fault, request))

    def reply(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        try:
            self.wfile.write(text.encode())
        except OSError:
            pass

    def log_message(self, *words):
        pass


if mode == "exec":
    print(json.dumps({"status": "ready"}), flush=True)
    for line in sys.stdin:
        print(answer(next_fault(), line), flush=True)
else:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if mode == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(folder, "server.pem"))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(server.server_port, flush=True)
    server.serve_forever()
