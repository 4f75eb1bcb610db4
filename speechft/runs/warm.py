"""A `speechft` that starts at once: a server imports torch and transformers, and forks for each job of a workflow on this machine.

Small jobs spend most of their time importing; SPEECHFT_WARM=1 in Snakemake's environment avoids that. Commands, arguments, exit status,
output and signals are those of the installed `speechft`. Snakemake's benchmark files measure the waiting client: their seconds are
right, CPU time and memory are not. Without the server, jobs start normally.
"""

import contextlib
import importlib
import json
import os
import random
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

VARIABLE = "SPEECHFT_WARM"
"""Environment variable that enables the server."""
_IMPORTED = (
    *(f"transformers.models.{family}.modeling_{family}" for family in ("hubert", "wav2vec2", "wavlm")),
    *("speechft.cli", "speechft.evaluate.engine", "speechft.finetune.stage1", "speechft.merge.engine", "speechft.tables.render"),
)
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SOCKET, _COMMAND = "socket", "speechft"
_LONGEST_ADDRESS = 100
"""Maximum bytes of a socket path; the system's limit is 107."""
_servers: list[subprocess.Popen[bytes]] = []


def start() -> Path:
    """Start a server that ends with this process; return the folder with a `speechft` that calls it.

    The server imports nothing before the first call, and removes the folder when it ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="speechft-"))
    if len(os.fsencode(folder / _SOCKET)) > _LONGEST_ADDRESS:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="speechft-", dir="/tmp"))
    client = [sys.executable, "-IS", str(Path(__file__).resolve()), "call", str(folder / _SOCKET)]
    (folder / _COMMAND).write_text(f'#!/bin/sh\nexec {shlex.join([*client, str(Path(sys.executable).with_name(_COMMAND))])} "$@"\n')
    (folder / _COMMAND).chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / _SOCKET))
        listening.listen(64)
        # In its own session, so that Ctrl-C reaches jobs only once, through their clients.
        command, quiet = [sys.executable, "-P", __file__, "serve", str(listening.fileno()), str(folder)], subprocess.DEVNULL
        server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, pass_fds=[listening.fileno()], start_new_session=True
        )
    _servers.append(server)
    return folder


def call(address: str, installed: str, arguments: list[str]) -> int:
    """Client: pass a command with its folder, environment and open files to the server; return its exit status."""
    with socket.socket(socket.AF_UNIX) as connection:
        job = 0
        with contextlib.suppress(OSError):
            connection.connect(address)
            request = json.dumps({"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}).encode()
            socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
            connection.sendall(request)
            job = int.from_bytes(connection.recv(8), "big")
        if not job:
            os.execv(installed, [installed, *arguments])
        for number in _FORWARDED:
            signal.signal(number, lambda number, _: os.kill(job, number))
        status = connection.recv(1)
    return status[0] if status else 128 + signal.SIGKILL


def serve(descriptor: int, folder: str) -> None:
    """Server: fork a process per connection until the standard input ends; slow imports happen before the first fork."""
    with socket.socket(fileno=descriptor) as server, selectors.DefaultSelector() as selector:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the jobs
        selector.register(server, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while [key.fileobj for key, _ in selector.select()] == [server]:
            for name in _IMPORTED:
                with contextlib.suppress(ImportError):  # not installed: jobs that need it report it
                    importlib.import_module(name)
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _run(connection)
            connection.close()
    shutil.rmtree(folder, ignore_errors=True)


def _run(connection: socket.socket) -> None:
    """Run the job in the forked process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    request = json.loads(connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False, errors="backslashreplace") for number in (1, 2))  # noqa: SIM115 (until the end)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [_COMMAND, *request["arguments"]]
    random.seed()  # forked jobs would otherwise share one state
    connection.sendall(os.getpid().to_bytes(8, "big"))
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    from speechft.cli import main

    status = 1
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        connection.sendall(bytes([status]))
        os._exit(status)


def _end_with(connection: socket.socket) -> None:
    """End the job if its client is killed."""
    if not connection.recv(1):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), sys.argv[3])
    else:
        sys.exit(call(sys.argv[2], sys.argv[3], sys.argv[4:]))
