"""A `speechft` that starts at once: a server imports torch and transformers once, and forks a process for each job of a workflow.

Small jobs spend most of their time importing. Tests that run hundreds of them give Snakemake the Python of `warm_environment`, beside which
stands this `speechft`. Verbs, arguments, exit status, output and signals are those of the installed one.
"""

import contextlib
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

IMPORTED = (
    *(f"transformers.models.{family}.modeling_{family}" for family in ("hubert", "wav2vec2", "wavlm")),
    *("speechft.cli", "speechft.evaluate.engine", "speechft.finetune.stage1", "speechft.merge.engine", "speechft.tables.render"),
)
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def call(address: str, arguments: list[str]) -> int:
    """The client: hand over a command with its folder, environment and files; returns its exit status."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        request = json.dumps({"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}).encode()
        socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(request)
        if not (job := int.from_bytes(connection.recv(8), "big")):
            return 128 + signal.SIGKILL
        for number in FORWARDED:
            signal.signal(number, lambda number, _: os.kill(job, number))
        status = connection.recv(1)
    return status[0] if status else 128 + signal.SIGKILL


def start(address: Path) -> subprocess.Popen[bytes]:
    """Start a server; clients can call it at once, and wait while it imports."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen(64)
        command = [sys.executable, __file__, "serve", str(listening.fileno())]
        return subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listening.fileno()])


def serve(descriptor: int) -> None:
    """Import what takes long, then fork a process for each connection, until the standard input ends."""
    with socket.socket(fileno=descriptor) as server, selectors.DefaultSelector() as selector:
        for name in IMPORTED:
            importlib.import_module(name)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the jobs
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        selector.register(server, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while [key.fileobj for key, _ in selector.select()] == [server]:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                run(connection)
            connection.close()


def run(connection: socket.socket) -> None:
    """Be the job."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    request = json.loads(connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False, errors="backslashreplace") for number in (1, 2))  # noqa: SIM115 (until the end)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["speechft", *request["arguments"]]
    connection.sendall(os.getpid().to_bytes(8, "big"))
    threading.Thread(target=end_with, args=(connection,), daemon=True).start()
    from speechft.cli import main

    status = 1
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        connection.sendall(bytes([status]))
        os._exit(status)


def end_with(connection: socket.socket) -> None:
    """A killed client takes its job along."""
    if not connection.recv(1):
        os.kill(os.getpid(), signal.SIGKILL)


def warm_environment(folder: Path, address: Path) -> str:
    """Make a stand-in of this virtual environment in `folder` with the client as its `speechft`; returns its Python."""
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
    (folder / "pyvenv.cfg").write_bytes((Path(sys.prefix) / "pyvenv.cfg").read_bytes())
    (folder / "bin/python").symlink_to(sys.executable)
    client = folder / "bin/speechft"
    base = Path(sys.base_prefix) / "bin/python3"
    client.write_text(f"#!/bin/sh\nexec '{base}' -IS '{Path(__file__).resolve()}' '{address}' \"$@\"\n")
    client.chmod(0o755)
    return str(folder / "bin/python")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        sys.exit(call(sys.argv[1], sys.argv[2:]))
