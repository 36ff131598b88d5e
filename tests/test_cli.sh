#!/bin/sh
# The program `tl`: every command, its JSON, exit statuses, wrong usage and bad input.
. "$(dirname "$0")/shell.sh"

commands="finetune eval predict features run inspect verify convert backbones fetch bench"
model=$work/model.safetensors      # random weights
pictures=$work/pictures            # blue green red, 12 each
trained=$work/trained.safetensors  # made by test_finetune_prints_a_report
report=$work/trained.html

"$build/tests/tool_model" "$model" || exit 1
tests/make_inputs.py pictures "$pictures" 12 || exit 1

finetune() {
    "$tl" finetune --backbone "$model" --data "$pictures" --val-split 0.25 --freeze none --lr 0.02 \
        --epochs 6 --batch 9 --seed 3 "$@"
}

# --- usage -------------------------------------------------------------------------------------

test_no_command_is_wrong_usage() {
    expect_status 2 "$tl"
    grep -q 'usage: tl COMMAND' "$work/err" || fail "no usage on stderr"
    [ -s "$work/out" ] && fail "output on stdout"
    return 0
}

test_unknown_command_names_the_commands() {
    expect_refusal 2 "unknown command \"tune\"|finetune|bench" "$tl" tune
}

test_help_lists_commands_and_flags() {
    expect_status 0 "$tl" --help
    for command in $commands; do expect_output "$command"; done
    for command in $commands; do
        expect_status 0 "$tl" "$command" --help
        expect_output "usage: tl $command"
        expect_status 0 "$tl" help "$command"
    done
    expect_status 0 "$tl" finetune --help
    for flag in backbone data val val-split epochs batch optimizer lr head freeze augment dtype seed threads \
        out report json; do
        expect_output "--$flag"
    done
}

test_version() {
    expect_status 0 "$tl" --version
    expect_output "tl 0."
}

test_unknown_flag_names_it_and_the_flags() {
    for command in $commands; do
        expect_refusal 2 "tl $command: unknown flag --bogus|--help" "$tl" "$command" --bogus
    done
    expect_refusal 2 "--bogus|--model|--top" "$tl" predict --bogus=3
}

test_required_flags_are_named() {
    expect_refusal 2 "--backbone" "$tl" finetune
    expect_refusal 2 "--data" "$tl" finetune --backbone x
    expect_refusal 2 "--out" "$tl" finetune --backbone x --data y
    expect_refusal 2 "--model" "$tl" eval --data x
    expect_refusal 2 "--data" "$tl" eval --model x
    expect_refusal 2 "--model" "$tl" predict x.png
    expect_refusal 2 "IMAGE" "$tl" predict --model x
    expect_refusal 2 "--out" "$tl" features --model x y.png
    expect_refusal 2 "--input" "$tl" run --model x
    expect_refusal 2 "--arch" "$tl" bench
    expect_refusal 2 "--arch|required" "$tl" inspect
    for command in verify fetch; do expect_refusal 2 "required" "$tl" "$command"; done
}

test_wrong_values_name_flag_and_choices() {
    expect_refusal 2 "--optimizer|adagrad|sgd|adam|rmsprop" finetune --optimizer adagrad --out "$work/x"
    expect_refusal 2 "--dtype|f16|f32|bf16" finetune --dtype f16 --out "$work/x"
    expect_refusal 2 "--dtype|f16|f32|bf16" "$tl" bench --arch resnet18 --dtype f16
    expect_refusal 2 "--mode|infer|train" "$tl" bench --arch resnet18 --mode fast
    expect_refusal 2 "--arch|lenet|resnet18" "$tl" bench --arch lenet
    expect_refusal 2 "--layout|nchw" "$tl" run --model x --input y --output z --layout chwn
    expect_refusal 2 "--batch|0|from 1" "$tl" bench --arch resnet18 --batch 0
    expect_refusal 2 "some.onnx|resnet18|two networks" "$tl" bench some.onnx --arch resnet18
    expect_refusal 2 "--top|many" "$tl" predict --model x --top many y.png
    expect_refusal 2 "--lr|nan|number" "$tl" finetune --backbone x --data y --lr nan --out "$work/x"
    expect_refusal 2 "seed|-1" "$tl" finetune --backbone x --data y --seed -1 --out "$work/x"
    expect_refusal 2 "--batch|99999999999999999999" "$tl" finetune --backbone x --data y --batch 99999999999999999999 --out "$work/x"
    expect_refusal 2 "--top|needs a value" "$tl" predict --model x --top
    expect_refusal 2 "--json|no value" "$tl" predict --json=yes --model x y.png
    expect_refusal 2 "--model|twice" "$tl" predict --model x --model y z.png
    expect_refusal 2 "too many" "$tl" verify x y
    expect_refusal 2 "--threads|0" "$tl" predict --model x --threads 0 y.png
    expect_refusal 2 "--threads|1024" "$tl" predict --model x --threads 1025 y.png
    expect_refusal 2 "--threads|4294967297" "$tl" predict --model x --threads 4294967297 y.png
    expect_refusal 2 "--out|MODEL" "$tl" finetune --backbone x --data y --out ""
    expect_refusal 2 "--freeze|all|none" "$tl" finetune --backbone x --data y --freeze "" --out "$work/x"
    expect_refusal 2 "--model" "$tl" predict --model= y.png
    [ -e "$work/x" ] && fail "something was written"
    return 0
}

test_bad_recipe_values_are_refused() {
    expect_refusal 2 "--head|swoosh|relu6" finetune --head 256,swoosh --out "$work/x"
    expect_refusal 2 "--head|1.5|0.999" finetune --head 256,dropout:1.5 --out "$work/x"
    expect_refusal 2 "--augment|flop|rotation" finetune --augment flop --out "$work/x"
    expect_refusal 2 "--preprocess|caffe2|torchvision" finetune --preprocess caffe2 --out "$work/x"
    expect_refusal 1 "nosuchlayer" "$tl" finetune --backbone "$model" --data "$pictures" --freeze nosuchlayer --out "$work/x"
    expect_refusal 2 "--val-split" "$tl" finetune --backbone "$model" --data "$pictures" --val-split 1.5 --out "$work/x"
    expect_refusal 2 "--lr|-1" "$tl" finetune --backbone "$model" --data "$pictures" --lr -1 --out "$work/x"
    [ -e "$work/x" ] && fail "something was written"
    return 0
}

# --- the commands ------------------------------------------------------------------------------

test_finetune_prints_a_report() {
    expect_status 0 finetune --out "$trained" --report "$report"
    for text in "val_accuracy" "precision" "macro avg" "confusion matrix" "$trained" "$report"; do
        expect_output "$text"
    done
    [ "$(grep -cE '^ +[0-9]+ ( +[0-9.]+){4}$' "$work/out")" -eq 6 ] || { cat "$work/out"; fail "not 6 epoch rows"; }
    [ -s "$work/err" ] && { cat "$work/err"; fail "messages on stderr"; }
    [ -s "$trained" ] || fail "no model"
    grep -qi '</html>' "$report" || fail "no report"
    grep -qE '(src|href)="https?:' "$report" && fail "the report is not self-contained"
    return 0
}

test_finetune_json_has_the_summary() {
    expect_status 0 finetune --out "$work/again" --json
    expect_json "classes images skipped epochs_run best_epoch train_loss train_accuracy val_loss val_accuracy
        seconds features_seconds head_seconds threads peak_rss_mb" \
        'd["images"] == 36 and d["skipped"] == 0 and d["epochs_run"] == 6 and d["val_accuracy"] > 0.8'
    cmp "$trained" "$work/again" || fail "the same call gave another model"
}

test_finetune_is_the_same_at_any_thread_count() {
    for threads in 1 2 3; do
        expect_status 0 finetune --threads $threads --augment flip,zoom:0.2 --out "$work/threads$threads"
    done
    cmp "$work/threads1" "$work/threads2" && cmp "$work/threads1" "$work/threads3" ||
        fail "thread counts differ"
}

test_finetune_with_frozen_backbone_and_head() {
    expect_status 0 "$tl" finetune --backbone "$model" --data "$pictures" --val "$pictures" --epochs 2 \
        --head 8,relu,dropout:0.2 --optimizer sgd --momentum 0.9 --nesterov --style pytorch --out "$work/head" --json
    expect_json "val_accuracy" 'd["epochs_run"] == 2'
    expect_status 0 "$tl" inspect "$work/head" --json
    expect_json "layers" 'sum(l["type"] == "dense" for l in d["layers"]) == 2'
}

test_finetune_stops_on_interrupt() {
    "$tl" finetune --backbone "$model" --data "$pictures" --freeze none --epochs 1000000 --patience 0 \
        --out "$work/never" --report "$work/never.html" >"$work/out" 2>"$work/err" &
    pid=$!
    sleep 2
    kill -INT $pid
    wait $pid
    [ $? -eq 1 ] || fail "wrong status"
    grep -q cancelled "$work/err" || { cat "$work/err"; fail "no message"; }
    [ -e "$work/never" ] || [ -e "$work/never.html" ] && fail "something was written"
    return 0
}

test_eval_agrees_with_itself() {
    expect_status 0 "$tl" eval --model "$trained" --data "$pictures" --json
    expect_json "accuracy macro_f1 confusion per_class" 'len(d["confusion"]) == 3
        and sum(map(sum, d["confusion"])) == 36 and [c["support"] for c in d["per_class"]] == [12, 12, 12]
        and abs(sum(d["confusion"][i][i] for i in range(3)) / 36 - d["accuracy"]) < 1e-6
        and abs(sum(c["f1"] for c in d["per_class"]) / 3 - d["macro_f1"]) < 1e-6'
    expect_status 0 "$tl" eval --model "$trained" --data "$pictures"
    for text in precision recall f1-score support "macro avg" "weighted avg" "confusion matrix" red; do
        expect_output "$text"
    done
}

test_eval_refuses_other_classes() {
    mkdir -p "$work/other/blue" "$work/other/pink"
    cp "$pictures/blue/000.png" "$work/other/blue"
    cp "$pictures/red/000.png" "$work/other/pink"
    expect_refusal 1 "pink" "$tl" eval --model "$trained" --data "$work/other"
}

test_predict() {
    expect_status 0 "$tl" predict --model "$trained" --top 2 "$pictures/red/000.png"
    expect_output "red"
    [ "$(wc -l <"$work/out")" -eq 3 ] || fail "not 3 lines"
    expect_status 0 "$tl" predict --model "$trained" --json --top 99 "$pictures/red/001.png" "$pictures/blue/001.png"
    [ "$(wc -l <"$work/out")" -eq 2 ] || fail "not one line a picture"
    cp "$work/out" "$work/lines"
    head -n 1 "$work/lines" >"$work/out"
    expect_json "image top" 'd["image"].endswith("red/001.png") and d["top"][0]["class"] == "red"
        and len(d["top"]) == 3 and abs(sum(t["probability"] for t in d["top"]) - 1) < 1e-5'
}

test_predict_goes_on_after_a_bad_picture() {
    echo "no picture" >"$work/text.jpg"
    expect_status 1 "$tl" predict --model "$trained" --json "$work/text.jpg" "$work/absent.png" "$pictures/red/000.png"
    expect_json "image top" 'd["top"][0]["class"] == "red" and d["dtype"] == "f32"'
    [ "$(wc -l <"$work/err")" -eq 2 ] || fail "not one line a bad picture"
}

test_predict_reports_names_that_are_not_utf8() {
    name=$work/$(printf 'caf\351.png')
    cp "$pictures/red/000.png" "$name"
    expect_status 0 "$tl" predict --model "$trained" --json "$name"
    expect_json "image top" 'd["image"].endswith("caf\ufffd.png")'
}

test_control_characters_in_names_stay_on_their_line() {
    name=$work/$(printf 'two\nlines\033[31m.png')
    echo "no picture" >"$name"
    expect_status 1 "$tl" predict --model "$trained" "$name"
    [ "$(wc -l <"$work/err")" -eq 1 ] || fail "not one line"
    grep -qF 'two\nlines\x1b[31m.png' "$work/err" || { cat "$work/err"; fail "the name is not shown"; }
}

test_features() {
    expect_status 0 "$tl" features --model "$trained" --out "$work/f.npy" "$pictures/red/000.png" "$pictures/blue/000.png"
    [ "$(tests/make_inputs.py shape "$work/f.npy")" = "2 16" ] || fail "wrong shape"
    expect_refusal 1 "text.jpg" "$tl" features --model "$trained" --out "$work/g.npy" "$pictures/red/000.png" "$work/text.jpg"
    [ -e "$work/g.npy" ] && fail "something was written"
    return 0
}

test_run_takes_both_layouts() {
    tests/make_inputs.py npy "$work/nhwc.npy" 5 3 24 24 3
    tests/make_inputs.py transpose "$work/nhwc.npy" "$work/nchw.npy"
    expect_status 0 "$tl" run --model "$trained" --input "$work/nhwc.npy" --output "$work/a.npy" --layout nhwc
    expect_status 0 "$tl" run --model "$trained" --input "$work/nchw.npy" --output "$work/b.npy" --layout nchw --json
    expect_json "output shape" 'd["shape"] == [3, 3] and d["dtype"] == "f32"'
    cmp "$work/a.npy" "$work/b.npy" || fail "the layouts differ"
}

# Packed weights that are kept: written by the first, used by the next, and no harm when they cannot be.
test_packed_cache() {
    tests/make_inputs.py npy "$work/x.npy" 5 2 24 24 3
    cp "$trained" "$work/kept"
    for state in written used; do
        expect_status 0 "$tl" run --model "$work/kept" --input "$work/x.npy" --output "$work/$state.npy" \
            --packed-cache auto --json
        expect_json packed_cache "d[\"packed_cache\"][\"state\"] == \"$state\""
        expect_json packed_cache 'd["packed_cache"]["file"].endswith("/kept.packed")'
    done
    expect_status 0 "$tl" run --model "$work/kept" --input "$work/x.npy" --output "$work/no.npy" \
        --packed-cache /nonexistent/x
    grep -q "warning: packed weights are not kept: /nonexistent/x" "$work/err" || fail "no warning"
    cmp "$work/written.npy" "$work/used.npy" && cmp "$work/used.npy" "$work/no.npy" || fail "answers differ"
    expect_status 0 "$tl" run --model "$work/kept" --input "$work/x.npy" --output "$work/no.npy" --json
    expect_json output '"packed_cache" not in d'
}

test_run_refuses_wrong_input() {
    expect_status 0 "$tl" run --model "$trained" --input "$work/nhwc.npy" --out "$work/a2.npy"
    cmp "$work/a.npy" "$work/a2.npy" || fail "--out of tl run is not --output"
    expect_refusal 1 "24" "$tl" run --model "$trained" --input "$work/nchw.npy" --output "$work/c.npy" --layout nhwc
    expect_refusal 1 "24|--layout nchw" "$tl" run --model "$trained" --input "$work/nhwc.npy" --output "$work/c.npy" --layout nchw
    expect_refusal 1 "trained.safetensors" "$tl" run --model "$trained" --input "$trained" --output "$work/c.npy"
    expect_refusal 1 "absent.npy" "$tl" run --model "$trained" --input "$work/absent.npy" --output "$work/c.npy"
    [ -e "$work/c.npy" ] && fail "something was written"
    return 0
}

test_inspect() {
    expect_status 0 "$tl" inspect "$trained"
    for text in conv1 12x12x8 "red" trainable memory; do expect_output "$text"; done
    expect_status 0 "$tl" inspect "$trained" --json
    expect_json "classes layers parameters memory preprocess training" \
        'd["parameters"] == 8*27+8 + 16*72+16 + 3*16+3 and d["classes"] == ["blue", "green", "red"]'
    expect_status 0 "$tl" inspect --arch resnet18 --dtype f32 --json
    expect_json "layers parameters memory" 'd["trainable_parameters"] == 11689512'
}

test_bench_of_a_file() {
    expect_status 0 "$tl" bench "$trained" --batch 2 --iters 2 --json
    expect_json "ms_per_image_min" 'd["network"].endswith("trained.safetensors") and d["mode"] == "infer"'
    expect_status 0 "$tl" bench "$trained" --mode train --iters 1
    expect_refusal 1 "absent" "$tl" bench "$work/absent.onnx"
}

# The layers together take what the network takes.
test_bench_of_layers() {
    for mode in infer train; do
        for threads in 1 2; do
            expect_status 0 "$tl" bench --arch efficientnet_lite0 --mode $mode --batch 4 --iters 2 --threads $threads --layers --json
            expect_json "layers" 'len(d["layers"]) > 50 and 0.4 < sum(l["forward_ms"] + l["backward_ms"] for l in d["layers"]) / d["ms_per_image_min"] < 1.05'
        done
    done
    expect_status 0 "$tl" bench "$trained" --iters 1 --layers
    expect_output "12x12x8"
    expect_status 0 "$tl" bench "$trained" --iters 1 --json
    expect_json "" '"layers" not in d'
}

test_convert() {
    expect_status 0 "$tl" convert "$trained" "$work/converted.onnx"
    expect_status 0 "$tl" convert "$work/converted.onnx" "$work/back.safetensors" --json
    expect_status 0 "$tl" eval --model "$trained" --data "$pictures" --json
    before=$(sed 's/"loss": *[^,]*,//' "$work/out")
    expect_status 0 "$tl" eval --model "$work/back.safetensors" --data "$pictures" --json
    [ "$(sed 's/"loss": *[^,]*,//' "$work/out")" = "$before" ] || fail "other answers after ONNX"
    expect_refusal 2 ".safetensors or .onnx" "$tl" convert "$trained" "$work/converted.tflite"
    expect_refusal 1 "absent" "$tl" convert "$work/absent.pth" "$work/x.onnx"
    [ ! -e "$work/x.onnx" ] || fail "a file was written"
}

test_verify() {
    expect_status 0 "$tl" verify "$trained"
    expect_status 0 "$tl" verify "$trained" --json
    expect_json "ok max_error" 'd["ok"] is True and d["max_error"] < 1e-3'
    # Other weights give other answers.
    python3 - "$trained" "$work/spoiled.safetensors" <<'PYTHON'
import json, struct, sys
data = bytearray(open(sys.argv[1], "rb").read())
(length,) = struct.unpack("<Q", data[:8])
begin, end = json.loads(data[8:8 + length])["conv2.weight"]["data_offsets"]
data[8 + length + begin:8 + length + end] = bytes(end - begin)
open(sys.argv[2], "wb").write(data)
PYTHON
    expect_refusal 1 "tl verify" "$tl" verify "$work/spoiled.safetensors"
}

test_backbones() {
    expect_status 0 "$tl" backbones
    expect_output efficientnet_lite0
    expect_status 0 "$tl" backbones --json
    expect_json "backbones networks" '"resnet50" in d["backbones"]'
    expect_json "backbones networks" '[n["parameters"] for n in d["networks"] if n["name"] == "resnet50"] == [25557032]'
}

test_fetch_refuses_unknown_names() {
    expect_refusal 1 "nosuchnet|efficientnet_lite0" "$tl" fetch nosuchnet
}

test_instruction_sets() {
    expect_status 0 "$tl" bench --list-isa
    expect_output "ref"
    expect_output "(chosen)"
    expect_status 0 env TL_ISA=ref "$tl" bench --list-isa
    expect_output "ref (chosen)"
    expect_status 0 env TL_ISA=ref "$tl" bench --list-isa --json
    expect_json "isa chosen" 'd["chosen"] == "ref" and "ref" in d["isa"]'
    best=$("$tl" bench --list-isa | tail -n 1)
    expect_status 0 "$tl" bench --list-isa --isa "${best% (chosen)}" --json
    expect_json "isa chosen" 'd["chosen"] == d["isa"][-1]'
    expect_refusal 2 "mmx|TL_ISA|ref" env TL_ISA=mmx "$tl" bench --list-isa
    expect_refusal 2 "mmx|ref" "$tl" bench --arch resnet18 --isa mmx
}

test_more_threads_than_are_of_use() {
    expect_status 0 timeout 60 "$tl" bench --arch efficientnet_lite0 --iters 1 --threads 1000
    grep -q 'warning: 1000 threads are too many' "$work/err" || fail "no warning"
}

test_bench() {
    for mode in infer train; do
        expect_status 0 "$tl" bench --arch efficientnet_lite0 --mode $mode --iters 2 --threads 1 --json
        expect_json "network mode batch threads dtype ms_per_image_min ms_per_image_median gflops peak_rss_mb" \
            "d['mode'] == '$mode' and d['batch'] == 1 and 0 < d['ms_per_image_min'] <= d['ms_per_image_median']"
    done
    expect_status 0 "$tl" bench --arch efficientnet_lite0 --iters 1 --isa ref
    expect_output "GFLOP/s"
}

# Where there is no bf16: a line that names what is missing, and f32.
test_dtype_falls_back_to_f32() {
    expect_status 0 "$tl" bench --arch efficientnet_lite0 --iters 1 --isa ref --dtype bf16 --json
    expect_json "dtype" 'd["dtype"] == "f32"'
    grep -q 'bf16.*AVX512-BF16.*(ref).*computing in f32' "$work/err" || fail "stderr does not say why"
    [ "$(wc -l <"$work/err")" -eq 1 ] || fail "more than one line"
    TL_ISA=ref expect_status 0 finetune --dtype bf16 --out "$work/fallback" --json
    expect_json "settings" 'd["settings"]["dtype"] == "f32"'
    TL_ISA=ref expect_status 0 "$tl" eval --model "$trained" --data "$pictures" --dtype bf16 --json
    expect_json "dtype" 'd["dtype"] == "f32"'
}

test_dtype_bf16() {
    expect_status 0 "$tl" bench --arch efficientnet_lite0 --iters 1 --dtype bf16 --json
    if [ -s "$work/err" ]; then skip "this machine has no bf16"; fi
    expect_json "dtype" 'd["dtype"] == "bf16"'
    expect_status 0 "$tl" eval --model "$trained" --data "$pictures" --dtype bf16 --json
    expect_json "dtype" 'd["dtype"] == "bf16"'
    set -- "$pictures"/red/*
    expect_status 0 "$tl" predict --model "$trained" --dtype bf16 --json "$1"
    expect_json "dtype" 'd["dtype"] == "bf16"'
    expect_status 0 "$tl" features --model "$trained" --dtype bf16 --out "$work/bf16.npy" --json "$1"
    expect_json "dtype" 'd["dtype"] == "bf16"'
    expect_status 0 finetune --dtype bf16 --out "$work/bf16" --json
    expect_json "settings" 'd["settings"]["dtype"] == "bf16"'
    expect_status 0 "$tl" verify "$work/bf16"
}

test_full_disk_is_reported() {
    [ -e /dev/full ] || skip "no /dev/full here"
    "$tl" backbones >/dev/full 2>"$work/err"
    [ $? -eq 1 ] || fail "wrong status"
    grep -q 'standard output' "$work/err" || fail "no message"
}

# --- bad model files ----------------------------------------------------------------------------

test_bad_model_files_are_refused() {
    : >"$work/empty.safetensors"
    head -c 7 "$trained" >"$work/seven.safetensors"
    head -c 1000 "$trained" >"$work/short.safetensors"
    (cat "$trained" && printf x) >"$work/long.safetensors"
    printf '\377\377\377\377\377\377\377\177{}' >"$work/header.safetensors"
    echo "not a model" >"$work/text.pth"
    mkdir -p "$work/folder.pth"
    for bad in empty.safetensors seven.safetensors short.safetensors long.safetensors header.safetensors text.pth \
        folder.pth absent.pth; do
        expect_refusal 1 "$bad" "$tl" inspect "$work/$bad"
        expect_refusal 1 "$bad" "$tl" predict --model "$work/$bad" "$pictures/red/000.png"
        expect_refusal 1 "$bad" "$tl" finetune --backbone "$work/$bad" --data "$pictures" --out "$work/x"
    done
    [ -e "$work/x" ] && fail "something was written"
    return 0
}

test_unknown_backbone_name_is_refused() {
    expect_refusal 1 "nosuchnet" "$tl" inspect nosuchnet
}

test_missing_weights_name_the_remedy() {
    expect_refusal 1 "resnet18" env TL_WEIGHTS_DIR="$work/none" "$tl" inspect resnet18
}

# --- bad data folders ---------------------------------------------------------------------------

refused_folder() { # words, folder
    expect_refusal 1 "$1" "$tl" finetune --backbone "$model" --data "$2" --epochs 1 --out "$work/x" --report "$work/x.html"
    [ -e "$work/x" ] || [ -e "$work/x.html" ] && fail "something was written"
    return 0
}

# A copy of the pictures to spoil.
spoiled() { # name
    rm -rf "${work:?}/$1"
    cp -r "$pictures" "$work/$1"
}

test_folder_missing() {
    refused_folder "nowhere" "$work/nowhere"
}

test_folder_is_a_file() {
    refused_folder "model.safetensors" "$model"
}

test_folder_without_classes() {
    mkdir -p "$work/flat"
    refused_folder "flat" "$work/flat"
    cp "$pictures"/red/*.png "$work/flat"
    refused_folder "flat" "$work/flat"
}

test_folder_with_one_class() {
    mkdir -p "$work/single"
    cp -r "$pictures/red" "$work/single"
    refused_folder "--data|class" "$work/single"
}

test_folder_with_an_empty_class() {
    spoiled hollow
    mkdir "$work/hollow/yellow"
    refused_folder "yellow" "$work/hollow"
}

test_folder_with_one_picture_in_a_class() {
    spoiled lone
    mkdir "$work/lone/yellow"
    cp "$pictures/red/000.png" "$work/lone/yellow"
    refused_folder "yellow" "$work/lone"
}

test_folder_with_only_bad_pictures() {
    for class in a b; do
        mkdir -p "$work/rotten/$class"
        for i in 1 2 3 4; do echo "no picture" >"$work/rotten/$class/$i.jpg"; done
    done
    refused_folder "" "$work/rotten"
}

test_folder_with_too_many_bad_pictures() {
    spoiled mostly
    for i in 1 2 3 4 5 6 7 8 9 10 11 12; do : >"$work/mostly/red/empty$i.jpg"; done
    expect_refusal 1 "skip" "$tl" finetune --backbone "$model" --data "$work/mostly" --epochs 1 --max-skipped 0.1 --out "$work/x"
    [ -e "$work/x" ] && fail "something was written"
    return 0
}

# What is no picture is passed over, counted and named, and never blocks.
test_folder_with_odd_entries() {
    spoiled odd
    echo "no picture" >"$work/odd/red/text.jpg"
    : >"$work/odd/red/empty.png"
    head -c 60 "$pictures/red/000.png" >"$work/odd/red/cut.png"
    ln -s nowhere "$work/odd/green/dangling.png"
    ln -s .. "$work/odd/green/loop"
    mkfifo "$work/odd/blue/pipe.png"
    cp "$pictures/blue/000.png" "$work/odd/blue/$(printf 'caf\351.png')"
    cp "$pictures/blue/001.png" "$work/odd/blue/$(printf 'new\nline.png')"
    cp "$pictures/blue/002.png" "$work/odd/blue/$(printf '%0251d' 0).png"
    echo "read me" >"$work/odd/notes.txt"
    expect_status 0 timeout 60 "$tl" finetune --backbone "$model" --data "$work/odd" --epochs 2 --out "$work/z" --json
    expect_json "skipped images" 'd["skipped"] == 5'
    for name in text.jpg empty.png cut.png dangling.png pipe.png; do
        grep -qF "$name" "$work/err" || { cat "$work/err"; fail "$name is not named"; }
    done
}

test_folder_that_cannot_be_read() {
    # Root may read everything, so as root this runs as nobody.
    user=
    [ "$(id -u)" -eq 0 ] && user="setpriv --reuid=65534 --regid=65534 --clear-groups"
    chmod 755 "$work"
    $user "$tl" --version >/dev/null 2>&1 || skip "no user other than root can run $tl: unreadable folders are not tested"
    spoiled closed
    chmod 0 "$work/closed/red"
    mkdir -m 777 "$work/public"
    # shellcheck disable=SC2086 # several words
    expect_refusal 1 "red" $user "$tl" finetune --backbone "$model" --data "$work/closed" --epochs 1 --out "$work/public/x"
    [ -e "$work/public/x" ] && fail "something was written"
    return 0
}

test_output_folder_missing() {
    expect_refusal 1 "nowhere" finetune --out "$work/nowhere/x"
    expect_refusal 1 "nowhere" finetune --out "$work/x" --report "$work/nowhere/x.html"
    [ -e "$work/x" ] && fail "something was written"
    return 0
}

run_tests
