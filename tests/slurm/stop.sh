#!/usr/bin/env bash
# End what start.sh started in FOLDER: first the jobs, then the daemons, each by its own process id.
folder=$(cd "$1" && pwd -P) || exit 1
export PATH="$PATH:/usr/sbin:/sbin" SLURM_CONF="$folder/slurm.conf"
if jobs=$(timeout 10 squeue -h -t PD,R,S,CG -o %A 2> /dev/null) && [ -n "$jobs" ]; then
    # shellcheck disable=SC2086 # a list
    scancel --signal=KILL $jobs
    # shellcheck disable=SC2086
    scancel $jobs
    for _ in $(seq 50); do
        [ -z "$(timeout 10 squeue -h -t R,S,CG -o %A)" ] && break
        sleep 0.2
    done
fi
for name in slurmd-node1 slurmd-node2 slurmctld munged; do
    pid=$(cat "$folder/pid/$name.pid" 2> /dev/null) || continue
    # The number may belong to somebody else by now.
    tr '\0' ' ' < "/proc/$pid/cmdline" 2> /dev/null | grep -q "${name%%-*}" || continue
    kill "$pid"
    for _ in $(seq 50); do
        kill -0 "$pid" 2> /dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2> /dev/null
done
exit 0
