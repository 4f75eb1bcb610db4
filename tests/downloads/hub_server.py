"""The few addresses of the Hugging Face Hub that huggingface_hub asks for, on this machine."""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_good"


class Hub(BaseHTTPRequestHandler):
    """Subclasses hold the state.

    `repositories`: name -> path -> content. `private`: names. `asked`: requests so far. `blobs`: large files that were sent, by SHA-256.
    `cut`: path -> bytes after which its next download breaks off.
    """

    def log_message(self, *arguments):
        """Say nothing."""

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value, status=200, **headers):
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json", **headers)

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def refused(self, name):
        """Answer for a repository that is not there, or may not be seen."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given and given != TOKEN:
            self.json({"error": "Invalid credentials in Authorization header"}, 401)
        elif name not in self.repositories or (name in self.private and given != TOKEN):
            self.json({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        else:
            return False
        return True

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.asked.append(f"{self.command} {path}")
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?(?:/.*)?", path):
            name, what, revision = found.groups()
            if self.refused(name):
                return
            if revision not in (None, "main", "v1", COMMIT):
                self.json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
                return
            files = self.repositories[name]
            if what == "tree":
                self.json([{"type": "file", "path": file, "size": len(files[file]), "oid": "0" * 40} for file in files])
            else:
                self.json({"id": name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files], "private": False})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            name, _, file = found.groups()
            if not self.refused(name):
                self.send_file(self.repositories[name].get(file), file)
        else:
            self.json({"error": "no such address"}, 404)

    def send_file(self, content, file):
        if content is None:
            self.json({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
            return
        etag = hashlib.sha256(content).hexdigest()
        start = int(re.match(r"bytes=(\d+)", self.headers.get("Range", "bytes=0"))[1])
        ranged = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        part = content[start:]
        if self.command == "GET" and (after := self.cut.pop(file, None)) is not None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part[:after])
            self.close_connection = True
            return
        self.answer(206 if start else 200, part, ETag=f'"{etag}"', X_Repo_Commit=COMMIT, Accept_Ranges="bytes", **ranged)

    def do_POST(self):
        path, body = self.path.partition("?")[0], self.body()
        self.asked.append(f"POST {path}")
        if self.headers.get("Authorization", "").removeprefix("Bearer ") != TOKEN:
            self.json({"error": "Invalid credentials in Authorization header"}, 401)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.repositories:
                self.json({"error": "You already created this model repo", "url": f"{self.address()}/{name}"}, 409)
                return
            self.repositories[name] = {".gitattributes": b""}
            if asked.get("private") or asked.get("visibility") == "private":
                self.private.add(name)
            self.json({"url": f"{self.address()}/{name}"})
        elif path == "/api/validate-yaml":
            self.json({"errors": [], "warnings": []})
        elif path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            self.json({"files": [{"path": file["path"], "uploadMode": mode(file["path"]), "shouldIgnore": False} for file in files]})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            actions = [{**one, "actions": {"upload": {"href": f"{self.address()}/lfs/{one['oid']}", "header": {}}}} for one in objects]
            self.json({"transfer": "basic", "objects": actions})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            files = self.repositories[found[1]]
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "lfsFile":
                    files[entry["value"]["path"]] = self.blobs[entry["value"]["oid"]]
            self.json({"commitUrl": f"{self.address()}/{found[1]}/commit/{COMMIT}", "commitOid": COMMIT, "success": True})
        else:
            self.json({"error": "no such address"}, 404)

    def do_PUT(self):
        content = self.body()
        self.asked.append(f"PUT {self.path}")
        self.blobs[hashlib.sha256(content).hexdigest()] = content
        self.answer(200)

    def address(self):
        host, port = self.server.server_address
        return f"http://{host}:{port}"


def mode(path):
    """How the Hub wants a file: large ones apart."""
    return "lfs" if path.endswith((".safetensors", ".bin")) else "regular"
