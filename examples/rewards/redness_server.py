"""Likes red pictures, like redness.py, as a server: for rewards that live on another machine or are shared by several runs.

    python3 examples/rewards/redness_server.py 8000
    drpo train --reward 'http://127.0.0.1:8000/?images=rgb' ...
"""
import base64, json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

def redness(rgb):
    return (sum(rgb[0::3]) - (sum(rgb[1::3]) + sum(rgb[2::3])) / 2) / (255 * (len(rgb) // 3))

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open

    def do_POST(self):
        q = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        rgb = base64.b64decode(q["rgb_b64"])
        size = len(rgb) // q["count"]
        answer = json.dumps({"scores": [redness(rgb[i : i + size]) for i in range(0, len(rgb), size)]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *words):
        pass

server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8000), Handler)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
