#!/bin/sh
# The peak of memory that is predicted before anything runs, against the peak that the system then reports.
. "$(dirname "$0")/shell.sh"

slack_mb=2 # the program itself: code, stacks, what the C library keeps

needs_plain_memory() {
    nm "$tl" | grep -qE '__(asan|tsan)_init' && skip "a sanitizer's own memory would be measured"
    return 0
}

expect_near() { # what, predicted, measured: in MB, within 5 % and the slack
    python3 -c 'import sys; p, m, s = map(float, sys.argv[1:]); sys.exit(abs(p - m) > 0.05 * m + s)' "$2" "$3" $slack_mb ||
        fail "$1: $2 MB were predicted, $3 MB were taken"
}

number_of() { # key of the JSON in $work/out, as a Python expression over d
    python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$work/out" "$1"
}

bench() { # flags of tl bench
    expect_status 0 "$tl" bench --iters 1 --json "$@"
    expect_near "$*" "$(number_of 'd["predicted_rss_mb"]')" "$(number_of 'd["peak_rss_mb"]')"
}

test_inference() {
    needs_plain_memory
    for arch in resnet50 vgg16 mobilenet_v2 efficientnet_lite0; do
        bench --arch $arch --batch 1
        bench --arch $arch --batch 6
    done
}

test_training() {
    needs_plain_memory
    bench --arch resnet50 --mode train --batch 4
    bench --arch vgg16 --mode train --batch 1
    bench --arch mobilenet_v2 --mode train --batch 8
    bench --arch efficientnet_lite0 --mode train --batch 6
}

# `tl inspect` of a file, against `tl run` with it.
test_inspect() {
    needs_plain_memory
    python3 - "$work/x.npy" <<'PYTHON' || exit 1
import struct, sys
header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 224, 224, 3), }"
header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
open(sys.argv[1], "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(4 * 3 * 224 * 224 * 3))
PYTHON
    for arch in resnet50 vgg16 mobilenet_v2 efficientnet_lite0; do
        "$build/tests/tool_model" "$work/$arch" $arch || fail "no $arch"
        expect_status 0 "$tl" inspect "$work/$arch" --batch 3 --json
        predicted=$(number_of 'd["memory"]["inference"]["peak_bytes"] / 2**20')
        measured=$(python3 -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)' \
            "$tl" run --model "$work/$arch" --input "$work/x.npy" --output "$work/y.npy") || fail "tl run with $arch"
        expect_near "$arch" "$predicted" "$measured"
        rm "$work/$arch"
    done
}

# What the optimiser keeps is part of it, and a network that cannot be trained is told so.
test_optimizers() {
    "$build/tests/tool_model" "$work/model" || exit 1
    moments=
    for optimizer in sgd rmsprop adam; do
        expect_status 0 "$tl" inspect "$work/model" --optimizer $optimizer --json
        moments="$moments $(number_of 'd["memory"]["training"]["optimizer_bytes"] / d["memory"]["training"]["gradients_bytes"]')"
    done
    [ "$moments" = " 0.0 1.0 2.0" ] || fail "moments a weight:$moments"
    expect_refusal 2 "--optimizer|rmsprop" "$tl" inspect "$work/model" --optimizer lion
    expect_refusal 2 "--batch" "$tl" inspect "$work/model" --batch 0
}

run_tests
