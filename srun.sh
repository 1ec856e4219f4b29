#!/usr/bin/env bash
# One stage on Slurm:
#
#   ./srun.sh CONFIG MODE PARTITION NUM_GPUS [key=value ...]
#   ./srun.sh CONFIG dance PARTITION NUM_GPUS SONG... [--out DIR] [key=value ...]
#
# MODE is train, eval, visgt, anl, sample or dance. NUM_GPUS counts all nodes; NODES (default 1) says over how many they
# are spread, GPUS_PER_NODE (default 8) how many one has. Runs in the foreground, as srun does. With BATCH=1 it is submitted
# and starts again by itself, where training stopped, whenever its time limit comes near or it is preempted:
#
#   BATCH=1 NODES=2 SRUN_OPTIONS="--time 4:00:00" ./srun.sh configs/cc_motion_gpt.yaml train gpu 16
#
# The environment is .venv (made by run.sh); PYTHON names another interpreter; more options for srun or sbatch go into
# SRUN_OPTIONS. Training that is told to stop (SIGTERM, SIGUSR1) saves and exits with code 75: start it again.
set -euo pipefail
from=$PWD
[ -n "${IN_BATCH:-}" ] || cd "$(dirname "$0")" # sbatch runs a copy of this file, in the folder it was called from

if [ $# -lt 4 ]; then
    sed -n '2,14s/^# \{0,1\}//p' "$0"
    exit 2
fi
fail() {
    echo "error: $1" >&2
    exit 2
}
config=$1 mode=$2 partition=$3 gpus=$4
shift 4
if [ "$mode" = dance ] && [ "$from" != "$PWD" ]; then # songs are named as seen from where this is called
    for argument in "$@"; do
        shift
        if [[ $argument != /* ]] && [ -e "$from/$argument" ]; then argument=$from/$argument; fi
        set -- "$@" "$argument"
    done
fi
arguments=("$config" "$mode" "$partition" "$gpus" "$@")
nodes=${NODES:-1} most=${GPUS_PER_NODE:-8}
case $mode in
train | eval | visgt | anl | sample | dance) ;;
*) fail "MODE must be train, eval, visgt, anl, sample or dance, got '$mode'" ;;
esac
[[ $nodes =~ ^[1-9][0-9]*$ ]] || fail "NODES must be a number, got '$nodes'"
[[ $gpus =~ ^[0-9]+$ ]] && [ "$gpus" -le $((most * nodes)) ] ||
    fail "NUM_GPUS must be 0 to $((most * nodes)) ($nodes node(s) of $most; NODES and GPUS_PER_NODE), got '$gpus'"
[ $((gpus % nodes)) -eq 0 ] && { [ "$nodes" -eq 1 ] || [ "$gpus" -gt 0 ]; } ||
    fail "NUM_GPUS must divide among NODES=$nodes nodes, got '$gpus'"
[ -f "$config" ] || fail "there is no config $config"

python=${PYTHON:-.venv/bin/python}
here=$((gpus / nodes)) # GPUs of one node
command=("$python" main.py)
if [ "$gpus" -gt 1 ]; then
    if [ "$nodes" -eq 1 ]; then
        command=("$python" -m utils.training.launch --standalone --nproc_per_node "$here" main.py)
    else # the nodes meet at the first of them, on a port of this job's own
        # shellcheck disable=SC2016
        command=(bash -c 'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
exec "$0" -m utils.training.launch --nnodes "$1" --nproc_per_node "$2" --rdzv-backend c10d \
--rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:$((20000 + SLURM_JOB_ID % 20000))" main.py "${@:3}"'
            "$python" "$nodes" "$here")
    fi
fi
command+=(--config "$config" "--$mode" "$@")
place=(--partition "$partition")
[ "$gpus" -gt 0 ] && place+=("--gres=gpu:$here")
place+=(--nodes "$nodes" --ntasks "$nodes" --cpus-per-task "$((here > 0 ? 4 * here : 4))"
    --job-name "$(basename "$config" .yaml)_$mode")
notice=120 # seconds before the time limit

if [ -z "${BATCH:-}" ]; then
    [ "$mode" = train ] && place+=(--signal "USR1@$notice")
    # shellcheck disable=SC2086
    exec srun "${place[@]}" --kill-on-bad-exit 1 ${SRUN_OPTIONS:-} "${command[@]}"
fi
if [ -z "${IN_BATCH:-}" ]; then
    # shellcheck disable=SC2086
    exec sbatch "${place[@]}" --requeue --open-mode append --signal "B:USR1@$notice" --export ALL,IN_BATCH=1 \
        ${SRUN_OPTIONS:-} srun.sh "${arguments[@]}"
fi

# Inside the job: hand the signal on; when training has saved and ended, wait in the queue for the next turn.
told=
srun --kill-on-bad-exit 1 "${command[@]}" &
step=$!
trap 'told=1; kill -USR1 "$step" 2>/dev/null || true' USR1 TERM
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do # a signal interrupts the wait
    code=0
    wait "$step" || code=$?
done
if [ -n "$told" ]; then # it may have ended just as the signal came: ask again
    code=0
    wait "$step" || code=$?
fi
# Where srun ends its tasks itself, their code is not 75.
if [ "$code" -eq 75 ] || { [ -n "$told" ] && [ "$code" -ne 0 ]; }; then
    echo "training was told to stop and has saved; it goes on when job $SLURM_JOB_ID starts again"
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
