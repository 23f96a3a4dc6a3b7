"""What Python's http.client makes of the server: python3 client.py PORT. Silent when all is well."""
import http.client
import socket
import sys

port = int(sys.argv[1])
conn = http.client.HTTPConnection("127.0.0.1", port, timeout=20)


def ask(method, target, body=None, chunked=False, **fields):
    fields = {name.replace("_", "-"): value for name, value in fields.items()}
    conn.request(method, target, body=body, headers=fields, encode_chunked=chunked)
    answer = conn.getresponse()
    return answer, answer.read()


def check(condition, what):
    if not condition:
        sys.exit(f"http.client: {what}")


answer, body = ask("GET", "/a.txt")
sock = conn.sock
check(answer.status == 200 and body == b"0123456789", "GET")
etag = answer.headers["ETag"]
answer, body = ask("HEAD", "/a.txt")
check(answer.status == 200 and body == b"" and answer.headers["Content-Length"] == "10", "HEAD")
answer, body = ask("GET", "/a.txt", If_None_Match=etag)
check(answer.status == 304 and body == b"", "304")
answer, body = ask("GET", "/a.txt", Range="bytes=2-4")
check(answer.status == 206 and body == b"234", "206")
answer, body = ask("HEAD", "/chunks?n=4")
check(answer.status == 200 and body == b"", "HEAD of a stream")
answer, body = ask("GET", "/chunks?n=4")
check(answer.status == 200 and len(body) == 40, "a stream")
answer, body = ask("OPTIONS", "*")
check(answer.status == 200 and "GET" in answer.headers["Allow"], "OPTIONS *")
answer, body = ask("POST", "/body", body=b"x" * 100000)
check(answer.status == 200 and b"bytes=100000 " in body, f"a body: {body[:80]}")
answer, body = ask("POST", "/body", body=(b"y" * 1000 for _ in range(50)), chunked=True,
                   Transfer_Encoding="chunked")
check(answer.status == 200 and b"bytes=50000 " in body, f"a chunked body: {body[:80]}")
answer, body = ask("GET", "/none")
check(answer.status == 404, "404")
check(conn.sock is sock, "all of that on one connection")

# A client that shuts its half down after the request still gets the answer.
half = socket.create_connection(("127.0.0.1", port), timeout=20)
half.sendall(b"GET /big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
half.shutdown(socket.SHUT_WR)
answer = http.client.HTTPResponse(half)
answer.begin()
check(len(answer.read()) == 300000, "half-closed")
