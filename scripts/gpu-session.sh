#!/usr/bin/env bash
# What a GPU has to say about this commit: tests, the software GPU's promises held against silicon, sanitizers,
# speed beside the peers, and the memory's counters. Takes what scripts/gpu-prepare.sh built, NVIDIA's driver, and
# for some parts PyTorch, compute-sanitizer or ncu; what is missing is said and left out. It changes no setting of
# the GPU. No cargo is needed.
#
#   scripts/gpu-session.sh [OPTION...] PART...
#
#   --bundle FOLDER   what gpu-prepare.sh wrote            (gpu-bundle)
#   --out FOLDER      where the results go                 (gpu-results)
#   --peers FOLDER    on PYTHONPATH for the part speed: liger_kernel, unsloth, quack as they lie in site-packages
#   --variants FILE   for the part variants: see benches/README.md
#   --budget-s N      seconds for the whole call; parts are cut short to fit       (540)
#   --software        on the software GPU: what needs a real one is left out
#   --speed ARGUMENTS further arguments of benches/peers.py, one word
#
#   suite     the tests on the real driver, and Unsloth's own test suite
#   bits      a shape for each kernel of the plan, bit for bit against the software GPU
#   sanitize  memcheck, racecheck, initcheck and synccheck over the same shapes
#   speed     benches/peers.py
#   variants  benches/peers.py over other builds of the kernels
#   ncu       DRAM bytes and throughput of two shapes, beside what the software GPU counts
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bundle=gpu-bundle out=gpu-results peers='' variants='' budget=540 driver=nvidia device=cuda more=() parts=()
while (($#)); do
    case $1 in
    --bundle) bundle=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    --peers) peers=$2 && shift 2 ;;
    --variants) variants=$2 && shift 2 ;;
    --budget-s) budget=$2 && shift 2 ;;
    --speed) read -ra more <<<"$2" && shift 2 ;;
    --software) driver=software device=software && shift ;;
    suite | bits | sanitize | speed | variants | ncu) parts+=("$1") && shift ;;
    *)
        sed -n '2,/^set /{s/^# \{0,1\}//;/^set /d;p}' "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
    esac
done
((${#parts[@]})) || parts=(suite bits sanitize speed ncu)

mkdir -p "$out"
out=$(cd "$out" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Python's tar where there is no xz.
tar -C "$scratch" -xf "$bundle/bundle.tar.xz" 2>/dev/null || python3 -m tarfile -e "$bundle/bundle.tar.xz" "$scratch"
bin=$scratch/bin
root=$PWD

export LAYERNORM_DRIVER=$driver
export CUDA_CACHE_MAXSIZE=$((1 << 30))
export PYTHONUNBUFFERED=1

log=$out/session.txt
say() {
    printf '%s\n' "$*" | tee -a "$log"
}

left() {
    echo $((budget - SECONDS))
}

# `limited NAME SECONDS FILE COMMAND...`: within SECONDS and what is left of the budget, its output to FILE. Says
# how it ended; goes on in any case.
limited() {
    local name=$1 limit=$2 file=$3 status=0 start=$SECONDS
    shift 3
    ((limit <= $(left))) || limit=$(left)
    if ((limit < 5)); then
        say "$name: NOT RUN, the time is used up"
        touch "$scratch/failed"
        return
    fi
    timeout "$limit" "$@" >>"$file" 2>&1 </dev/null || status=$?
    case $status in
    0) say "$name: passed, $((SECONDS - start)) s" ;;
    124) say "$name: CUT SHORT after $limit s" ;;
    *) say "$name: FAILED with exit status $status, $((SECONDS - start)) s" ;;
    esac
    ((status == 0)) || touch "$scratch/failed"
}

if [[ $driver == nvidia ]]; then
    gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -n 1) ||
        gpu="a GPU that nvidia-smi does not tell of"
else
    gpu="the software GPU"
fi
say "device: $gpu"
say "commit: $(<"$scratch/commit"), $(date -u +%Y-%m-%dT%H:%MZ)"
say "parts: ${parts[*]}"

suite() {
    local file=$out/suite.txt test name note own=()
    printf 'device: %s\ncommit: %s\n\n' "$gpu" "$(<"$scratch/commit")" >>"$file"
    limited "layernorm devices" 30 "$file" "$bin/layernorm" devices
    limited "layernorm run, the fixture" 60 "$file" \
        "$bin/layernorm" run tests/fixtures/minilm_layernorm.safetensors --device "$device"
    # All at once: the host's part of them, the float64 references, is the longer one.
    if [[ $driver == nvidia ]]; then
        limited "the suite" 240 "$scratch/suite-1.txt" \
            env LAYERNORM_TEST_DEVICE=cuda CARGO_MANIFEST_DIR="$root/tests" "$bin/test-cuda" &
    else
        say "the suite: left out, it is for a real GPU (cargo test runs it on the software GPU)"
    fi
    for test in "$bin"/test-*; do
        name=${test##*/test-}
        case $name in
        cuda) continue ;;
        # These ask for the software GPU, or for each device by its name, and need both drivers to be allowed.
        allocation | bench | cli | manners) own=(-u LAYERNORM_DRIVER) note=', devices of its own choice' ;;
        *) own=("LAYERNORM_DRIVER=$driver") note=", $driver" ;;
        esac
        limited "layernorm-host's tests, $name$note" 120 "$scratch/suite-2-$name.txt" \
            env "${own[@]}" CARGO_MANIFEST_DIR="$root/layernorm-host" CARGO_BIN_EXE_layernorm="$bin/layernorm" "$test" &
    done
    if [[ $driver == nvidia ]]; then
        limited "Unsloth's test suite" 300 "$scratch/suite-3.txt" "$bin/layernorm" verify --suite --device "$device" &
    else
        limited "one test of Unsloth's suite" 120 "$scratch/suite-3.txt" \
            "$bin/layernorm" verify --dim 512 --seqlen 349 --device "$device" &
    fi
    wait
    cat "$scratch"/suite-*.txt >>"$file"
}

bits() {
    local file=$out/bits.txt software elements=1000000 model=h100
    # With so many the blocks that stay on a GPU have a second row each. Here it would take minutes.
    [[ $driver == nvidia ]] || elements=50000
    printf 'device: %s\ncommit: %s\n' "$gpu" "$(<"$scratch/commit")" >>"$file"
    # Which kernel a row gets depends on the memory: the software GPU plays one like this device's.
    [[ $gpu != *H200* ]] || model=h200
    LAYERNORM_DRIVER=software SOFTWARE_GPU_MODEL=$model limited "plan-rows, the software GPU" 300 "$scratch/software.txt" \
        "$bin/plan-rows" run --elements "$elements" --out "$scratch/software.safetensors" &
    software=$!
    limited "plan-rows, $gpu" 150 "$file" \
        "$bin/plan-rows" run --elements "$elements" --out "$scratch/silicon.safetensors"
    wait "$software"
    cat "$scratch/software.txt" >>"$file"
    # What was cut short has left nothing, and the complaint would name this machine's folder.
    if [[ -e $scratch/silicon.safetensors && -e $scratch/software.safetensors ]]; then
        limited "bit for bit" 60 "$file" \
            "$bin/plan-rows" compare "$scratch/silicon.safetensors" "$scratch/software.safetensors"
    else
        say "bit for bit: NOT RUN, one of the two has no results"
        touch "$scratch/failed"
    fi
    sed -n '/ shapes, /,$p' "$file" | tee -a "$log"
}

# Of a sanitizer's reports: how each ended, and the first lines of those that found something.
sanitize() {
    local file=$out/sanitizer.txt tool part report
    local parts_of=3
    printf 'device: %s\ncommit: %s\n' "$gpu" "$(<"$scratch/commit")" >>"$file"
    if [[ $driver != nvidia ]] || ! command -v compute-sanitizer >/dev/null; then
        say "sanitizers: left out, they take a real GPU and compute-sanitizer"
        limited "a planted write past the end" 60 "$file" "$bin/plan-rows" planted
        return
    fi
    compute-sanitizer --version | tail -n 2 >>"$file" || true
    # That memcheck finds what is there to find.
    report=$scratch/planted.txt
    if timeout 60 compute-sanitizer --tool memcheck --error-exitcode 9 "$bin/plan-rows" planted >"$report" 2>&1; then
        say "memcheck: found NOTHING in a write past the end of y; its silence means nothing"
        touch "$scratch/failed"
    else
        say "memcheck, a planted write past the end: found, $(grep -m 1 -o 'Invalid .*' "$report" || tail -n 1 "$report")"
    fi
    local limit=$(($(left) - 10)) pids=() names=()
    ((limit < 240)) || limit=240
    for tool in memcheck racecheck initcheck synccheck; do
        for ((part = 0; part < parts_of; part++)); do
            timeout "$limit" compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 \
                "$bin/plan-rows" run --elements 20000 --part "$part/$parts_of" >"$scratch/$tool-$part.txt" 2>&1 </dev/null &
            pids+=($!) names+=("$tool-$part")
        done
    done
    local i status
    for i in "${!pids[@]}"; do
        status=0
        wait "${pids[i]}" || status=$?
        report=$scratch/${names[i]}.txt
        {
            printf '\n== %s, exit status %s\n' "${names[i]}" "$status"
            head -c 100000 "$report"
        } >>"$file"
        ((status == 0)) || touch "$scratch/failed"
        say "sanitizer ${names[i]}: exit status $status; $(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$report" | tail -n 1); $(tail -n 40 "$report" | grep -m 1 'shapes within' || echo 'not all shapes were reached')"
    done
}

speed() {
    local name=$1 && shift
    if [[ $driver != nvidia ]]; then
        say "$name: left out, the software GPU has no speed"
        return
    fi
    if ! python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
        say "$name: left out, python3 has no PyTorch that sees a GPU"
        return
    fi
    local limit
    limit=$(left)
    [[ " ${parts[*]} " == *" ncu "* ]] && limit=$((limit - 75))
    PYTHONPATH=${peers:+$peers:}${PYTHONPATH:-} limited "$name" "$limit" "$out/$name.txt" \
        python3 benches/peers.py --plan "$bin/plan" --launch-cost "$bin/launch_cost" --out "$out/$name.csv" \
        --budget-s $((limit - 15)) "$@"
    tail -n 400 "$out/$name.txt"
}

# What is asked for in the first place, and what any ncu has.
readonly FEW_METRICS=dram__bytes_read.sum,dram__bytes_write.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed,gpu__time_duration.sum
readonly METRICS=$FEW_METRICS,lts__t_sectors_op_read.sum,lts__t_sectors_op_write.sum,l1tex__t_bytes_pipe_lsu_mem_global_op_ld.sum,l1tex__t_bytes_pipe_lsu_mem_global_op_st.sum,smsp__inst_executed.sum,launch__registers_per_thread,sm__warps_active.avg.pct_of_peak_sustained_active

counters() {
    local shape metrics read_out file=$out/ncu.csv
    if [[ $driver != nvidia ]] || ! command -v ncu >/dev/null; then
        say "ncu: left out, it takes a real GPU and Nsight Compute"
        return
    fi
    while read -r shape; do
        read_out=$scratch/ncu-$shape.csv
        for metrics in "$METRICS" "$FEW_METRICS"; do
            limited "ncu, $shape bf16" 60 "$read_out" \
                ncu --clock-control none --csv --page raw --metrics "$metrics" --kernel-name regex:layernorm \
                "$bin/plan-rows" once "${shape%x*}" "${shape#*x}" bf16
            if grep -q '^"' "$read_out"; then break; fi
            tail -n 5 "$read_out" >>"$log"
        done
        printf '# %s bf16, %s, commit %s\n' "$shape" "$gpu" "$(<"$scratch/commit")" >>"$file"
        grep '^"' "$read_out" >>"$file" || say "ncu, $shape: NO figures"
    done <"$scratch/profiled"
    [[ ! -e $scratch/software-counters.json ]] || cp "$scratch/software-counters.json" "$out/"
}

for part in "${parts[@]}"; do
    say "== $part (at $SECONDS s)"
    case $part in
    suite) suite ;;
    bits) bits ;;
    sanitize) sanitize ;;
    speed) speed peers --workers 8 "${more[@]}" ;;
    variants) speed variants --variants "$variants" --providers '' --small '' "${more[@]}" ;;
    ncu) counters ;;
    esac
done
if [[ -e $scratch/failed ]]; then
    say "ended after $SECONDS s, NOT all passed"
    exit 1
fi
say "ended after $SECONDS s, all passed"
