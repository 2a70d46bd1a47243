#!/usr/bin/env bash
# Starts a Slurm of this machine alone, on loopback, with its files in a folder; or stops it. As root.
#
#   bash tests/slurm.sh FOLDER         start it; then SLURM_CONF=FOLDER/slurm.conf
#
# The partition `main` has all cores. Jobs of `urgent` preempt those of `patient`, on a small node. `fragile` has two small nodes, to be killed.
#   bash tests/slurm.sh stop FOLDER
set -euo pipefail
if [ "$1" = stop ]; then
  for file in "$2"/*.pid; do
    [ -f "$file" ] || continue
    process=$(cat "$file")
    kill "$process" 2> /dev/null || continue
    # It writes its state before it ends.
    for _ in $(seq 50); do
      kill -0 "$process" 2> /dev/null || break
      sleep 0.2
    done
  done
  exit 0
fi
folder=$(realpath "$1")
mkdir -p "$folder/state" "$folder/log" /run/munge
name=$(hostname -s)
cat > "$folder/slurm.conf" << CONF
ClusterName=hamflow
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
SlurmctldPort=36817
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
SlurmdTimeout=30
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MaxArraySize=2001
MinJobAge=300
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=whole NodeHostname=$name NodeAddr=127.0.0.1 Port=36818 CPUs=$(nproc) RealMemory=4000 State=UNKNOWN
NodeName=shared NodeHostname=$name NodeAddr=127.0.0.1 Port=36821 CPUs=1 RealMemory=500 State=UNKNOWN
NodeName=small1 NodeHostname=$name NodeAddr=127.0.0.1 Port=36819 CPUs=1 RealMemory=500 State=UNKNOWN
NodeName=small2 NodeHostname=$name NodeAddr=127.0.0.1 Port=36820 CPUs=1 RealMemory=500 State=UNKNOWN
PartitionName=main Nodes=whole Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=patient Nodes=shared MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=shared MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=fragile Nodes=small1,small2 MaxTime=INFINITE State=UP PriorityTier=1
DefMemPerCPU=500
SchedulerParameters=sched_interval=1,sched_min_interval=1000,bf_interval=1,batch_sched_delay=0
CONF
if [ ! -f /etc/munge/munge.key ]; then
  mkdir -p /etc/munge
  head -c 1024 /dev/urandom > /etc/munge/munge.key
fi
chown munge: /etc/munge/munge.key /run/munge
chmod 400 /etc/munge/munge.key
pgrep -x munged > /dev/null || runuser -u munge -- munged
export SLURM_CONF="$folder/slurm.conf"
slurmctld
for node in whole shared small1 small2; do slurmd -N "$node"; done
# The nodes are idle after a moment.
for _ in $(seq 50); do
  [ "$(sinfo --noheader --Node --format=%t 2> /dev/null | sort -u)" != idle ] || exit 0
  sleep 0.2
done
echo "Slurm does not start:" >&2
tail -n 20 "$folder"/log/*.log >&2
exit 1
