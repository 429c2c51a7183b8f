#!/usr/bin/env bash
# Checks and measures this project on a machine with a GPU, in about 9 minutes: tests, training steps, peers, sampling,
# and a short training. Without a GPU everything is small, and the report names what is left out. The exit code is 1 if a
# part fails. A part that reaches its time limit is stopped, which is no failure.
#
#     scripts/gpu_check.sh
#     OUT=results DATA=cifar10/train MIMICRY=../mimicry R3GAN=../R3GAN scripts/gpu_check.sh
#
# Folders are relative to that of the project. Defaults are in brackets.
#
# OUT       folder of the results, 8 files (gpu_check)
# DATA      folder of images for the training, such as CIFAR-10's (the digits of scikit-learn)
# MINUTES   of the training (4; 0.3 without a GPU)
# WHEELS    folder of wheels to install from, for a machine without a network
# MIMICRY, R3GAN, PIX2PIX: folders of the peers to compare with
# PYTHON    the interpreter (python)

set -u
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONWARNINGS=ignore
python=${PYTHON:-python}
out=${OUT:-gpu_check}
mkdir -p "$out" || exit 2
report="$out/report.txt"
failed=0
: > "$report"

say() { echo "$*" | tee -a "$report"; }
has() { "$python" -c "import $1" 2> /dev/null; }

# part NAME SECONDS FILE COMMAND...: runs a command for at most so long, and appends its output to a file.
part() {
    local name=$1 seconds=$2 file=$3 begin=$SECONDS code last
    shift 3
    timeout --kill-after=10 "$seconds" "$@" >> "$out/$file" 2> "$out/errors.txt"
    code=$?
    case $code in
        0) say "$name: done in $((SECONDS - begin)) s, see $file" ;;
        124 | 137) say "$name: stopped after $seconds s, see $file for what was measured" ;;
        *)
            last=$(grep -v '^$' "$out/errors.txt" | tail -n 1)
            say "$name: failed with exit code $code: ${last:-$(tail -n 1 "$out/$file")}"
            failed=1
            ;;
    esac
    rm -f "$out/errors.txt"
}

if ! has lightning; then
    say "PYTHON is $python, which cannot import lightning; expected an interpreter with this project's requirements"
    exit 2
fi
if [ -n "${WHEELS:-}" ]; then
    for package in jsonargparse pytest pytest-xdist scikit-learn; do  # each where there is a wheel of it
        "$python" -m pip install --quiet --no-index --find-links "$WHEELS" "$package" > /dev/null 2>&1
    done
fi

"$python" - << 'END' | tee -a "$report"
import os, platform
import lightning, torch

device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
print(f"{device}, {os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}")
print(f"Python {platform.python_version()}, torch {torch.__version__}, CUDA {torch.version.cuda}, lightning {lightning.__version__}")
END

benchmark=("$python" scripts/benchmark.py)
if "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    gpu=1
    minutes=${MINUTES:-4}
    # The networks of papers first, at a batch that fills a GPU; then all models.
    papers=(--models dcgan-64 sngan-cifar10 r3gan-cifar10 --rounds 3 --steps 10 --batch_size 256 --no_memory)
    models=() rounds=(--rounds 3 --steps 10 --no_memory)
    size=(--full) width=256 workers=4
    limit_tests=50 limit_papers=15 limit_step=20 limit_compiled=30 limit_peers=15 limit_sampling=10
else
    gpu=0
    minutes=${MINUTES:-0.3}
    papers=()
    models=(--models gan) rounds=(--rounds 2 --steps 1 --batch_size 8 --no_memory)
    size=() width=16 workers=0
    limit_tests=60 limit_papers=0 limit_step=120 limit_compiled=240 limit_peers=120 limit_sampling=60
    say "left out without a GPU: tests on a GPU, the sizes of papers, all models but gan"
fi

if [ $gpu = 0 ]; then
    echo "no GPU" > "$out/tests.txt"
elif ! has pytest || ! has jsonargparse; then
    say "left out: tests on a GPU, because pytest or jsonargparse is not installed (give WHEELS)"
    echo "not run" > "$out/tests.txt"
else
    xdist=()
    has xdist && xdist=(-n 0)
    part "tests on a GPU" $limit_tests tests.txt "$python" -m pytest -o addopts= --import-mode=importlib -q "${xdist[@]}" -m gpu
fi

# Each setting against the bare loop in float32, which is never compiled.
: > "$out/step.txt"
settings=("--precision 32-true" "--precision bf16-mixed" "--precision bf16-mixed --compile")
for setting in "${settings[@]}"; do
    read -ra flags <<< "$setting --bare_precision 32-true"
    limit=$limit_step paper_limit=$limit_papers
    [[ $setting == *compile ]] && limit=$limit_compiled paper_limit=$((2 * limit_papers))
    if [ $gpu = 1 ]; then
        part "step of papers, $setting" $paper_limit step.txt "${benchmark[@]}" step "${papers[@]}" "${flags[@]}"
    fi
    part "step, $setting" $limit step.txt "${benchmark[@]}" step "${models[@]}" "${rounds[@]}" "${flags[@]}"
done

: > "$out/peers.txt"
for peer in mimicry r3gan pix2pix; do
    folder=${peer^^}
    folder=${!folder:-}
    if [ -z "$folder" ]; then
        say "left out: $peer, whose folder is not given (${peer^^}=FOLDER)"
    else
        part "$peer" $limit_peers peers.txt \
            "${benchmark[@]}" peers "--$peer" "$folder" "${size[@]}" --rounds 3 --no_memory
    fi
done

: > "$out/sampling.txt"
part "sampling" $limit_sampling sampling.txt "${benchmark[@]}" sampling "${models[@]}" --rounds 3

data=()
if [ -n "${DATA:-}" ]; then
    data=(--data "$DATA")
else
    say "left out: CIFAR-10, whose folder is not given (DATA=FOLDER); the training is on digits"
fi
limit_training=$("$python" -c "print(int(60 * $minutes + (60 if $gpu else 180)))")  # and the start
: > "$out/training.txt"
part "training" "$limit_training" training.txt "${benchmark[@]}" train "${data[@]}" --minutes "$minutes" --out "$out" \
    --width $width --workers $workers

say "all: $SECONDS s, results in $out"
exit $failed
