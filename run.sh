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

new_enough() { # $1: an interpreter
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

environment() { # $1: requirements file
    local installed=.venv/$1.installed wanted maker=${PYTHON:-python3}
    wanted=$(cat "$1" requirements.txt "$constraints")
    if [ -x "$python" ] && [ "$(cat "$installed" 2>/dev/null)" = "$wanted" ]; then return; fi
    if [ ! -x "$python" ] || ! "$python" -m pip --version >/dev/null 2>&1 || ! new_enough "$python"; then
        command -v "$maker" >/dev/null || fail "there is no $maker; name a Python 3.11 or newer: PYTHON=python3.12 $0"
        new_enough "$maker" || fail "Python 3.11 or newer is needed, but $maker is $("$maker" --version 2>&1); \
name another one: PYTHON=python3.12 $0"
        [ ! -L .venv ] || fail ".venv is a link to an environment that cannot be used; remove the link: rm .venv"
        echo "making .venv"
        rm -rf .venv # one that is half made, or of an older Python
        if ! "$maker" -m venv .venv || ! "$python" -m pip --version >/dev/null 2>&1; then
            rm -rf .venv
            fail "$maker cannot make .venv; on Debian and Ubuntu: apt install python3-venv"
        fi
    fi
    echo "installing $1 (a few minutes the first time)"
    "$python" -m pip install --quiet --disable-pip-version-check -r "$1" -c "$constraints"
    printf '%s\n' "$wanted" >"$installed"
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
        exec "$python" -m torch.distributed.run --standalone --nproc_per_node "$gpus" \
            --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGUSR1 --shutdown-timeout 110 \
            main.py --config "$config" "--$mode" "$@"
    fi
    exec "$python" main.py --config "$config" "--$mode" "$@"
    ;;
esac
