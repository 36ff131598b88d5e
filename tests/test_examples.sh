#!/bin/sh
# The examples: short, and they do what they say.
. "$(dirname "$0")/shell.sh"

model=$work/model.safetensors
pictures=$work/pictures
"$build/tests/tool_model" "$model" || exit 1
tests/make_inputs.py pictures "$pictures" 6 || exit 1

test_examples_are_short() {
    for example in examples/*.c; do
        [ "$(wc -l <"$example")" -lt 60 ] || fail "$example has 60 lines or more"
    done
}

test_classify() {
    expect_status 0 "$build/examples/classify" "$model" "$pictures/red/000.png" "$pictures/blue/000.png"
    [ "$(grep -cE ': (red|green|blue) \([0-9.]+%\)$' "$work/out")" -eq 2 ] || { cat "$work/out"; fail "wrong output"; }
}

test_classify_reports_errors() {
    expect_refusal 1 "NOT_FOUND|absent" "$build/examples/classify" "$work/absent" "$pictures/red/000.png"
    expect_status 2 "$build/examples/classify"
}

test_finetune() {
    expect_status 0 "$build/examples/finetune" "$model" "$pictures" "$work/c.safetensors"
    expect_output "validation accuracy"
    expect_output "epoch 10"
    expect_status 0 "$tl" verify "$work/c.safetensors"
}

test_finetune_from_python() {
    # A sanitizer's run-time library has to be loaded before Python's own allocations.
    preload=$(ldd "$build/libtl.so" | grep -oE '/[^ ]*lib(asan|ubsan|tsan|clang_rt)[^ ]*' | tr '\n' ' ')
    [ -z "$preload" ] && nm -D "$build/libtl.so" | grep -qE ' U __(asan|tsan|ubsan)' &&
        skip "this sanitizer's run-time library is static: it cannot be loaded into Python"
    case $preload in *tsan*) skip "ThreadSanitizer cannot be loaded into Python" ;; esac
    expect_status 0 env LD_PRELOAD="$preload" ASAN_OPTIONS=detect_leaks=0 TL_LIBRARY="$build/libtl.so" \
        python3 examples/finetune.py "$model" "$pictures" "$work/p.safetensors"
    expect_json "val_accuracy epochs_run"
    # The same recipe from another language gives the same bytes.
    expect_status 0 "$build/examples/finetune" "$model" "$pictures" "$work/d.safetensors"
    cmp "$work/p.safetensors" "$work/d.safetensors" || fail "C and Python differ"
    expect_status 1 env LD_PRELOAD="$preload" ASAN_OPTIONS=detect_leaks=0 TL_LIBRARY="$build/libtl.so" \
        python3 examples/finetune.py "$work/absent" "$pictures" "$work/q.safetensors"
    grep -q "NOT_FOUND: .*absent" "$work/err" || { cat "$work/err"; fail "no error text"; }
}

run_tests
