#!/usr/bin/env bash
# One stage on Slurm:
#
#   ./srun.sh CONFIG MODE PARTITION NUM_GPUS [key=value ...]
#
# MODE is train, eval, visgt, anl or sample. Runs in the foreground, as srun does. Up to GPUS_PER_NODE (default 8) GPUs
# of one node. The environment is .venv (made by run.sh); PYTHON names another interpreter; more options for srun go
# into SRUN_OPTIONS.
set -euo pipefail
cd "$(dirname "$0")"

if [ $# -lt 4 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 2
fi
config=$1 mode=$2 partition=$3 gpus=$4
shift 4
case $mode in
train | eval | visgt | anl | sample) ;;
*)
    echo "error: MODE must be train, eval, visgt, anl or sample, got '$mode'" >&2
    exit 2
    ;;
esac
if ! [[ $gpus =~ ^[0-9]+$ ]] || [ "$gpus" -gt "${GPUS_PER_NODE:-8}" ]; then
    echo "error: NUM_GPUS must be 0 to ${GPUS_PER_NODE:-8} (one node), got '$gpus'" >&2
    exit 2
fi
if [ ! -f "$config" ]; then
    echo "error: there is no config $config" >&2
    exit 2
fi
python=${PYTHON:-.venv/bin/python}
name=$(basename "$config" .yaml)_$mode
command=("$python" main.py)
if [ "$gpus" -gt 1 ]; then
    command=("$python" -m torch.distributed.run --standalone --nproc_per_node "$gpus" main.py)
fi
gres=()
[ "$gpus" -gt 0 ] && gres=("--gres=gpu:$gpus")
# shellcheck disable=SC2086
exec srun --partition "$partition" "${gres[@]}" --nodes 1 --ntasks 1 --cpus-per-task "$((gpus > 0 ? 4 * gpus : 4))" \
    --job-name "$name" --kill-on-bad-exit 1 ${SRUN_OPTIONS:-} \
    "${command[@]}" --config "$config" "--$mode" "$@"
