#!/usr/bin/env bash
# One machine.
#
#   ./run.sh                                          quick start: environment, sample corpus, all stages, table, videos
#   ./run.sh test [pytest arguments]                  the tests
#   ./run.sh CONFIG MODE [NUM_GPUS] [key=value ...]   one stage; MODE is train, eval, visgt, anl, sample or dance
#   ./run.sh CONFIG dance SONG... [--out DIR] [key=value ...]   dances to songs: sound files, or folders of them
#
# PYTHON chooses the interpreter that makes .venv (default python3), CONSTRAINTS the file of versions that are installed
# (default constraints.txt, the ones last tested). A second call reuses what is there.
# Training that is told to stop (Ctrl-C, SIGTERM, SIGUSR1) saves first; the same command then goes on.
set -euo pipefail
from=$PWD
cd "$(dirname "$0")"
python=.venv/bin/python constraints=${CONSTRAINTS:-constraints.txt}

fail() {
    echo "error: $1" >&2
    exit 2
}

environment() { # $1: requirements file
    if [ -x "$python" ] && cmp -s "$1" ".venv/$1" && cmp -s "$constraints" .venv/constraints.txt; then return; fi
    local base=${PYTHON:-python3} supported='import sys; sys.exit(sys.version_info < (3, 11))'
    if ! "$python" -m pip --version >/dev/null 2>&1; then # none, or half-made
        [ ! -L .venv ] || fail ".venv is a link to an environment without pip; remove the link: rm .venv"
        command -v "$base" >/dev/null || fail "there is no $base; install Python 3.11 to 3.13, or name one: PYTHON=... $0"
        "$base" -c "$supported" || fail "$base is $("$base" --version 2>&1); 3.11 to 3.13 is needed: PYTHON=python3.11 $0"
        echo "making .venv"
        rm -rf .venv
        "$base" -m venv .venv && "$python" -m pip --version >/dev/null 2>&1 || {
            rm -rf .venv
            fail "$base makes no environment with pip; on Debian and Ubuntu: apt install python3-venv"
        }
    fi
    "$python" -c "$supported" || fail ".venv is $("$python" --version 2>&1); 3.11 to 3.13 is needed: rm -r .venv"
    echo "installing $1 (a few minutes the first time)"
    "$python" -m pip install --quiet --disable-pip-version-check -c "$constraints" -r "$1"
    cp "$1" .venv/
    cp "$constraints" .venv/constraints.txt
}

usage() {
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 2
}

stage() { # $1: config in configs/sample; $2: mode; then overrides
    "$python" main.py --config "configs/sample/$1.yaml" "--$2" "${@:3}"
}

beside() { # a command that runs while the next stage trains, with its output in a file
    local log=experiments/sample/$1.log
    shift
    mkdir -p experiments/sample
    "$@" >"$log" 2>&1 || {
        echo "failed, see $log: $*" >&2
        return 1
    }
}

quick_start() {
    environment requirements.txt
    "$python" prepare_aistpp_data.py --sample
    # The memory is trained on one processor; what there is to look at meanwhile is made on the other.
    trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
    beside visgt stage sep_vqvae visgt evaluation.videos=1 &
    stage sep_vqvae train
    wait $!
    echo "A first video, a dance of the corpus: $(ls experiments/sample/sep_vqvae/visgt/*.mp4)"
    # Velocity branch and GPT both need the memory's codes only.
    beside velocity stage sep_vqvae_root train &
    stage cc_motion_gpt train vqvae=experiments/sample/sep_vqvae/ckpt/last.pt
    wait $!
    beside codes stage sep_vqvae_root anl &
    stage actor_critic train
    wait $!
    stage actor_critic eval
    echo
    echo "Done. Videos:"
    ls experiments/sample/actor_critic/eval/*/videos/*.mp4
    echo "All dances on one page: experiments/sample/actor_critic/eval/*/index.html"
    echo "What the codes look like: experiments/sample/sep_vqvae_root/anl/"
    echo "Curves: $python -m tensorboard.main --logdir experiments"
}

case "${1:-}" in
"") quick_start ;;
-h | --help) usage ;;
test)
    shift
    environment requirements-dev.txt
    exec "$python" -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile "$@"
    ;;
*)
    [ $# -ge 2 ] || usage
    config=$1 mode=$2
    shift 2
    gpus=1
    if [[ "${1:-}" =~ ^[0-9]+$ ]]; then
        gpus=$1
        shift
    fi
    if [ "$mode" = dance ] && [ "$from" != "$PWD" ]; then # songs are named as seen from where this is called
        for argument in "$@"; do
            shift
            if [[ $argument != /* ]] && [ -e "$from/$argument" ]; then argument=$from/$argument; fi
            set -- "$@" "$argument"
        done
    fi
    environment requirements.txt
    if [ "$gpus" -gt 1 ]; then
        exec "$python" -m utils.training.launch --standalone --nproc_per_node "$gpus" \
            main.py --config "$config" "--$mode" "$@"
    fi
    exec "$python" main.py --config "$config" "--$mode" "$@"
    ;;
esac
