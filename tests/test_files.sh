#!/bin/sh
# From every kind of file that users bring to a classifier of their own, and on to ONNX; and what the program says
# about files that do not fit.
. "$(dirname "$0")/shell.sh"

pictures=$work/pictures # blue green red, 6 each
tests/make_inputs.py pictures "$pictures" 6 || exit 1
# Random weights by PyTorch's and by Keras's names.
"$build/tests/tool_weights" "$work/torch" shufflenet_v2_x0_5 torchvision || exit 1
"$build/tests/tool_weights" "$work/keras" mobilenet_v3_small keras || exit 1
tests/make_inputs.py npy "$work/x.npy" 5 2 224 224 3 || exit 1

# One of the files above as a framework writes it; prints its path.
make_file() { # kind, make_weights' options...
    kind=$1
    shift
    case $kind in
    h5 | weights.h5 | keras) source=$work/keras file=$work/network.$kind ;;
    checkpoint) source=$work/torch file=$work/checkpoint.pth ;;
    *) source=$work/torch file=$work/network.$kind ;;
    esac
    tests/make_weights.py "$kind" "$source" "$file" "$@" || exit 1
    [ "$kind" = sharded ] && file=$file/model.safetensors.index.json
    echo "$file"
}

# The same answers to the same numbers as $work/y.npy.
expect_same_answers() { # model
    expect_status 0 "$tl" run --model "$1" --input "$work/x.npy" --output "$work/z.npy" --layout nhwc
    difference=$(tests/make_inputs.py difference "$work/y.npy" "$work/z.npy")
    python3 -c "import sys; sys.exit(not $difference < 1e-5)" || fail "$1: answers differ by $difference"
}

# Fine-tune, predict, prove a copy, export, read the export.
walk() { # file, backbone, finetune's options...
    file=$1
    backbone=$2
    shift 2
    expect_status 0 "$tl" finetune --backbone "$file" --data "$pictures" --val-split 0.34 --epochs 4 --lr 0.01 --seed 1 \
        --out "$work/my.safetensors" --json "$@"
    expect_json "classes val_accuracy" 'd["images"] == 18 and d["skipped"] == 0 and d["epochs_run"] == 4'
    expect_status 0 "$tl" inspect "$work/my.safetensors" --json
    expect_json "backbone" "d['backbone'] == '$backbone' and d['classes'] == ['blue', 'green', 'red']"
    expect_status 0 "$tl" verify "$work/my.safetensors"
    expect_status 0 "$tl" predict --model "$work/my.safetensors" --json "$pictures/red/000.png"
    cp "$work/out" "$work/before"
    expect_status 0 "$tl" run --model "$work/my.safetensors" --input "$work/x.npy" --output "$work/y.npy" --layout nhwc
    expect_status 0 "$tl" convert "$work/my.safetensors" "$work/my.onnx"
    expect_same_answers "$work/my.onnx"
    # Classes and preprocessing came along: pictures are answered as before.
    expect_status 0 "$tl" predict --model "$work/my.onnx" --json "$pictures/red/000.png"
    python3 - "$work/before" "$work/out" <<'PYTHON' || fail "the ONNX file answers pictures otherwise"
import json, sys
before, after = ({t["class"]: t["probability"] for t in json.load(open(path))["top"]} for path in sys.argv[1:])
sys.exit(before.keys() != after.keys() or any(abs(before[c] - after[c]) > 1e-5 for c in before))
PYTHON
}

test_safetensors_becomes_a_classifier() {
    walk "$(make_file safetensors)" shufflenet_v2_x0_5
}

test_sharded_safetensors_become_a_classifier() {
    walk "$(make_file sharded)" shufflenet_v2_x0_5
}

test_pth_becomes_a_classifier() {
    walk "$(make_file pth)" shufflenet_v2_x0_5
}

test_training_checkpoint_becomes_a_classifier() {
    walk "$(make_file checkpoint)" shufflenet_v2_x0_5
}

test_h5_becomes_a_classifier() {
    walk "$(make_file h5)" mobilenet_v3_small
}

test_weights_h5_becomes_a_classifier() {
    walk "$(make_file weights.h5)" mobilenet_v3_small
}

test_keras_becomes_a_classifier() {
    walk "$(make_file keras)" mobilenet_v3_small
}

test_onnx_becomes_a_classifier() {
    # What other tools export says nothing about pictures.
    tests/make_weights.py safetensors "$work/torch" "$work/plain.safetensors"
    expect_status 0 "$tl" convert "$work/plain.safetensors" "$work/said.onnx"
    python3 - "$work/said.onnx" "$work/network.onnx" <<'PYTHON'
import sys
data = open(sys.argv[1], "rb").read()
open(sys.argv[2], "wb").write(data.replace(b"libtl.preprocess", b"other.preprocess"))
PYTHON
    walk "$work/network.onnx" onnx --preprocess torchvision
}

# The same weights are the same network, whatever they came in.
test_kinds_of_file_agree() {
    expect_status 0 "$tl" run --model "$(make_file safetensors)" --input "$work/x.npy" --output "$work/y.npy" --layout nhwc
    for kind in sharded pth checkpoint; do expect_same_answers "$(make_file $kind)"; done
    expect_status 0 "$tl" run --model "$(make_file keras)" --input "$work/x.npy" --output "$work/y.npy" --layout nhwc
    for kind in h5 weights.h5; do expect_same_answers "$(make_file $kind)"; done
}

# --- what does not fit ---------------------------------------------------------------------------

test_tensors_that_do_not_fit_are_listed() {
    for kind in safetensors sharded pth checkpoint; do
        expect_refusal 1 "shufflenet_v2_x0_5|torchvision|missing 1 (conv1.0.weight [24, 3, 3, 3])" \
            "$tl" inspect "$(make_file $kind --drop conv1.0.weight)"
        expect_refusal 1 "shufflenet_v2_x0_5|left over 1 (extra.weight [2])" \
            "$tl" inspect "$(make_file $kind --add extra.weight)"
        expect_refusal 1 "of another shape 1 (conv1.0.weight is [25, 3, 3, 3], not [24, 3, 3, 3])" \
            "$tl" inspect "$(make_file $kind --widen conv1.0.weight)"
    done
    for kind in h5 weights.h5 keras; do
        expect_refusal 1 "mobilenet_v3_small|keras|missing 1 (conv/kernel [3, 3, 3, 16])" \
            "$tl" inspect "$(make_file $kind --drop conv/kernel)"
        expect_refusal 1 "mobilenet_v3_small|left over 1 (extra/kernel [2])" \
            "$tl" inspect "$(make_file $kind --add extra/kernel)"
        expect_refusal 1 "of another shape 1 (conv/kernel is [4, 3, 3, 16], not [3, 3, 3, 16])" \
            "$tl" inspect "$(make_file $kind --widen conv/kernel)"
    done
}

test_unknown_preprocessing_is_asked_for() {
    onnx=tests/golden/onnx/residual_unfolded.onnx
    expect_status 0 "$tl" inspect $onnx
    expect_output "preprocess  not known: --preprocess is to name it"
    expect_refusal 1 "residual_unfolded.onnx|torchvision|keras-caffe|keras-tf" \
        "$tl" finetune --backbone $onnx --data "$pictures" --out "$work/none"
    expect_refusal 1 "residual_unfolded.onnx|torchvision" "$tl" predict --model $onnx "$pictures/red/000.png"
    expect_refusal 1 "residual_unfolded.onnx|torchvision" \
        "$tl" features --model $onnx --out "$work/none" "$pictures/red/000.png"
    [ -e "$work/none" ] && fail "something was written"
    expect_status 0 "$tl" predict --model $onnx --preprocess keras-tf "$pictures/red/000.png"
}

test_unsupported_operators_are_named_together() {
    python3 - tests/golden/onnx/residual_unfolded.onnx "$work/odd.onnx" <<'PYTHON'
import sys
data = open(sys.argv[1], "rb").read()
assert data.count(b"Relu") >= 2 and data.count(b"Gemm") >= 1
open(sys.argv[2], "wb").write(data.replace(b"Relu", b"Loop").replace(b"Gemm", b"LSTM"))
PYTHON
    expect_refusal 1 "opset 13: 3 nodes use unsupported operators: Loop (node '|' and 1 more), LSTM (node '" \
        "$tl" inspect "$work/odd.onnx"
}

run_tests
