import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from slurm.cluster import HERE, Slurm


@pytest.fixture(scope="session")
def slurm():
    """A private Slurm on this machine for the tests of this session."""
    needed = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol", "scancel")
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if missing := [name for name in needed if shutil.which(name, path=path) is None]:
        packages = "slurmctld slurmd slurm-client munge"
        pytest.skip(f"Slurm is not installed ({', '.join(missing)} not found); Debian and Ubuntu: apt-get install {packages}")
    # Sockets have short names, so not below pytest's folder.
    folder = Path(tempfile.mkdtemp(prefix="slurm-")) / "s"
    folder.parent.chmod(0o755)  # munge wants its socket to be reachable for all
    port = 21000 + os.getpid() % 3000 * 3
    try:
        done = subprocess.run(
            ["timeout", "-s", "KILL", "120", HERE / "start.sh", folder, str(port)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        yield Slurm(folder)
    finally:
        subprocess.run(["timeout", "-s", "KILL", "60", HERE / "stop.sh", folder], stdin=subprocess.DEVNULL, check=False)
        shutil.rmtree(folder.parent, ignore_errors=True)
