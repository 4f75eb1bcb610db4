#!/usr/bin/env bash
# A private Slurm in one folder: munge, a controller, and two nodes that are both this machine, the second with two pretended GPUs.
#   start.sh FOLDER [PORT]      FOLDER must be new; three ports from PORT on are used (default 21800)
# Prints what a shell must evaluate to use it. stop.sh FOLDER ends it. Works as root and as a user; touches nothing outside FOLDER.
set -euo pipefail
folder=$1
port=${2:-21800}
export PATH="$PATH:/usr/sbin:/sbin"
user=$(id -un)
host=$(hostname -s)
umask 022
mkdir "$folder"
folder=$(cd "$folder" && pwd -P)
mkdir "$folder"/{bin,devices,log,node1,node2,pid,state}
mkdir -m 700 "$folder/munge"

# Identity of messages: a key, a socket and a daemon of our own.
(umask 077 && head -c 512 /dev/urandom > "$folder/munge/key")
munged --key-file="$folder/munge/key" --seed-file="$folder/munge/seed" --log-file="$folder/munge/log" \
    --socket="$folder/pid/munge" --pid-file="$folder/pid/munged.pid"

# A GPU is a numbered device file, and plain files are refused. Root makes copies of /dev/null; others name terminals, which nobody opens.
gpus="$folder/devices/gpu"
mknod "${gpus}0" c 1 3 2> /dev/null && mknod "${gpus}1" c 1 3 || gpus=/dev/tty

cat > "$folder/slurm.conf" << END
ClusterName=private
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
# A requeued job waits until the credentials of its first start have expired.
AuthInfo=socket=$folder/pid/munge,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
SlurmctldPidFile=$folder/pid/slurmctld.pid
SlurmdPidFile=$folder/pid/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd-%n
AccountingStorageType=accounting_storage/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=2,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=7200
KillWait=20
InactiveLimit=0
ReturnToService=2
SlurmctldTimeout=60
SlurmdTimeout=120
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=node1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=4 RealMemory=8000
NodeName=node2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=4 RealMemory=8000 Gres=gpu:pretended:2
PartitionName=cpu Nodes=node1 Default=YES MaxTime=60 PriorityTier=1
PartitionName=gpu Nodes=node2 MaxTime=60 PriorityTier=1
PartitionName=urgent Nodes=node2 MaxTime=60 PriorityTier=9 PreemptMode=OFF
END
cat > "$folder/gres.conf" << END
AutoDetect=off
NodeName=node2 Name=gpu Type=pretended File=$gpus[0-1]
END

# Commands that know this Slurm by themselves: Snakemake removes every variable SLURM_* before it calls them.
for command in sbatch scancel scontrol sinfo squeue srun sacct; do
    printf '#!/bin/sh\nSLURM_CONF="%s" exec "%s" "$@"\n' "$folder/slurm.conf" "$(command -v "$command")" > "$folder/bin/$command"
    chmod 755 "$folder/bin/$command"
done

export SLURM_CONF="$folder/slurm.conf"
"$(dirname "$0")/controller.sh" "$folder"
for node in node1 node2; do
    slurmd -N "$node"
done
for _ in $(seq 100); do
    [ "$(sinfo -h -N -t idle -o %N | sort -u | wc -l)" = 2 ] && break
    sleep 0.2
done
if [ "$(sinfo -h -N -t idle -o %N | sort -u | wc -l)" != 2 ]; then
    echo "the nodes did not become idle; the ends of the logs:" >&2
    tail -n 20 "$folder"/log/* >&2
    exit 1
fi
echo "export PATH=$folder/bin:\$PATH"
