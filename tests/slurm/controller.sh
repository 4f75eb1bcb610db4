#!/usr/bin/env bash
# Start the controller of the private Slurm in FOLDER, and wait until it answers.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin" SLURM_CONF="$1/slurm.conf"
slurmctld
for _ in $(seq 100); do
    scontrol ping 2> /dev/null | grep -q UP && exit 0
    sleep 0.1
done
tail -n 20 "$1/log/slurmctld" >&2
exit 1
