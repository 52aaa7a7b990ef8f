"""Sends a file with http.client, then asks for /v2/ on the same connection object, and prints as one
line of JSON what it saw of both.

http.client writes the whole body before it looks for an answer, and waits for no 100 Continue, which
it skips when one comes.
"""

import argparse
import base64
import http.client
import json
import ssl


def pieces(path):
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def connect(arguments):
    if arguments.ca:
        context = ssl.create_default_context(cafile=arguments.ca)
        return http.client.HTTPSConnection(arguments.host, timeout=120, context=context)
    return http.client.HTTPConnection(arguments.host, timeout=120)


def code_of(text):
    try:
        return json.loads(text)["errors"][0]["code"]
    except (ValueError, LookupError, TypeError):
        return ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("method")
    parser.add_argument("path")
    parser.add_argument("file")
    parser.add_argument("--length", type=int)
    parser.add_argument("--ca")
    parser.add_argument("--user")
    parser.add_argument("--expect", action="store_true")
    arguments = parser.parse_args()

    headers = {}
    if arguments.length is not None:
        headers["Content-Length"] = str(arguments.length)
    if arguments.expect:
        headers["Expect"] = "100-continue"
    if arguments.user:
        token = base64.b64encode(arguments.user.encode()).decode()
        headers["Authorization"] = "Basic " + token

    connection = connect(arguments)
    seen = {"status": 0, "code": "", "proto": "", "next_status": 0, "next_reused": False}
    try:
        # Without a length http.client sends chunks.
        connection.request(arguments.method, arguments.path, pieces(arguments.file), headers)
        answer = connection.getresponse()
        seen["status"] = answer.status
        seen["proto"] = "HTTP/%d.%d" % divmod(answer.version, 10)
        seen["code"] = code_of(answer.read())
    except OSError as error:
        seen["error"] = repr(error)
    except http.client.HTTPException as error:
        seen["error"] = repr(error)
    # It is none where the server said that it closes; then the next request opens another.
    seen["next_reused"] = connection.sock is not None
    try:
        connection.request("GET", "/v2/")
        answer = connection.getresponse()
        answer.read()
        seen["next_status"] = answer.status
    except (OSError, http.client.HTTPException) as error:
        seen["next_error"] = repr(error)
    print(json.dumps(seen))


main()
