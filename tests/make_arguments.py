#!/usr/bin/env python3
"""Writes calls of every public function with one bad argument each, for tests/test_arguments.c.

usage: make_arguments.py HEADER... >arguments_calls.h

The functions are read from the headers, so that a new one is tested from its first day: a parameter
that nothing here has a value for is an error.
"""
import re
import sys

# What a bad caller may pass. Sizes of the caller's own memory are never made larger than it is, which no
# library can notice.
INT = ["INT_MIN", "-1", "0", "INT_MAX"]
INT64 = ["INT64_MIN", "-1", "0", "INT64_MAX"]
DOUBLE = ["NAN", "INFINITY", "-1", "0", "1e308"]

# Good values: by function and parameter, else by parameter, else by type.
GOOD = {
    "tl_model_load name": "f->saved",
    "tl_backbone_describe name": '"resnet18"',
    "tl_tensor_load_npy path": "f->npy",
    "tl_finetune options": "f->finetune_options",
    "tl_dtype_parse name": '"f32"',
    "tl_finetune_options_set key": '"lr"',
    "tl_finetune_options_set value": '"0.5"',
    "tl_finetune_options_init options": "&f->finetune_space",
    "tl_loader_next labels": "(void *)&f->out",
    "tl_loader_options_init options": "&f->loader_space",
    "tl_optimizer_options_init options": "&f->optimizer_space",
    "tl_trainer_options_init options": "&f->trainer_space",
    "tl_context_options_init options": "&f->context_space",
    "tl_context_options_init size": "sizeof f->context_space",
    "tl_finetune_options_init size": "sizeof f->finetune_space",
    "tl_loader_options_init size": "sizeof f->loader_space",
    "tl_optimizer_options_init size": "sizeof f->optimizer_space",
    "tl_trainer_options_init size": "sizeof f->trainer_space",
    "tl_model_load_memory data": "f->saved_bytes",
    "tl_model_load_memory size": "f->saved_size",
    "tl_model_predict_encoded data": "f->picture_bytes",
    "tl_model_predict_encoded size": "f->picture_size",
    "tl_model_predict_rgb pixels": "f->pixels",
    "tl_model_predict_rgb stride": "(size_t)SIDE * 3",
    "tl_model_predict_rgb width": "SIDE",
    "tl_model_predict_rgb height": "SIDE",
    "tl_model_create_empty width": "SIDE",
    "tl_model_create_empty height": "SIDE",
    "tl_model_create_empty channels": "3",
    "tl_model_create backbone": '"resnet18"',
    "tl_model_add type": '"relu"',
    "tl_model_add name": '"added"',
    "tl_model_add attributes": '""',
    "tl_model_add inputs": "f->layer_names",
    "tl_model_add input_count": "1",
    "tl_model_set_head pool": '"gap"',
    "tl_model_set_head layers": '"4,relu"',
    "tl_model_set_head activation": '"softmax"',
    "tl_model_set_head classes": "2",
    "tl_model_freeze prefix": '"conv"',
    "tl_model_freeze_first count": "1",
    "tl_model_set_preprocess preset": '"keras-tf"',
    "tl_layer_create type": '"dense"',
    "tl_layer_create attributes": '"units=3"',
    "tl_layer_create input_count": "1",
    "tl_layer_create ranks": "f->ranks",
    "tl_layer_create shapes": "f->shape",
    "tl_layer_forward inputs": "f->layer_inputs",
    "tl_layer_backward grad_output": "f->gradient",
    "tl_tensor_create rank": "2",
    "tl_tensor_wrap rank": "2",
    "tl_tensor_wrap data": "f->floats",
    "tl_tensor_wrap bytes": "4 * 6 * sizeof(float)",
    "tl_tensor_create shape": "f->shape",
    "tl_tensor_wrap shape": "f->shape",
    "tl_tensor_reshape shape": "f->other_shape",
    "tl_tensor_reshape rank": "2",
    "tl_tensor_slice begin": "1",
    "tl_tensor_slice end": "2",
    "tl_tensor_permute order": "f->order",
    "tl_model_run input": "f->batch",
    "tl_model_memory out": "&f->memory",
    "tl_trainer_memory out": "&f->memory",
    "tl_trainer_step inputs": "f->batch",
    "tl_trainer_evaluate inputs": "f->batch",
    "tl_optimizer_update count": "4",
    "tl_optimizer_update weights": "f->floats",
    "tl_optimizer_update gradients": "f->floats",
    "tl_evaluation_create probabilities": "f->probabilities",
    "tl_evaluation_create classes": "2",
    "tl_evaluation_create count": "2",
    "tl_report_number key": '"val_accuracy"',
    "tl_string_free text": "NULL",
    "tl_isa_list names": "f->names",
    "tl_isa_list capacity": "8",
    "tl_dataset_split fraction": "0.5",
    "name": '"name"',
    "tl_model_predict_file path": "f->picture",
    "tl_model_features_file path": "f->picture",
    "path": "f->scratch",
    "root": "f->folder",
    "features": "f->floats",
    "probabilities": "f->floats",
    "labels": "f->labels",
    "names": "NULL",
    "lr": "0.1",
    "user": "NULL",
    "batch": "2",
}
BY_TYPE = {
    "int": "0", "int64_t": "0", "uint64_t": "7", "double": "0.5", "bool": "true", "size_t": "1",
    "tl_dtype": "TL_F32", "tl_status": "TL_OK", "tl_progress_fn": "NULL",
}
# Objects of the fixture.
OBJECTS = ["context", "dataset", "evaluation", "finetune_options", "layer", "loader", "model", "optimizer",
           "report", "tensor", "trainer"]
# Options that may be missing: the defaults are taken.
OPTIONS = {"const tl_context_options *", "const tl_loader_options *", "const tl_optimizer_options *",
           "const tl_trainer_options *"}
# Bad numbers that say how much memory the caller gives.
LEFT_OUT = {
    ("tl_isa_list", "capacity", "INT_MAX"),
    ("tl_evaluation_create", "count", "INT64_MAX"),
    ("tl_optimizer_update", "count", "INT64_MAX"),
    ("tl_model_predict_rgb", "height", "INT_MAX"),
}


def prototypes(text):
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    for result, name, parameters in re.findall(r"TL_API\s+([\w\s*]+?)\s*\b(tl_\w+)\(([^;]*)\);", text):
        yield result.strip(), name, [] if parameters.strip() == "void" else parameters.split(",")


def parse(parameter):
    kind, name = re.fullmatch(r"\s*(.*?)(\w+)\s*", " ".join(parameter.split())).groups()
    return kind.strip(), name


def good(function, kind, name):
    for key in (f"{function} {name}", name):
        if key in GOOD:
            return GOOD[key]
    if kind in BY_TYPE:
        return BY_TYPE[kind]
    if kind in OPTIONS:
        return "NULL"
    if kind.endswith("**") or kind.endswith("*const *"):
        return "(void *)&f->out"
    base = kind.replace("const ", "").rstrip(" *")
    if kind.endswith("*") and base.startswith("tl_") and base[3:] in OBJECTS:
        return f"f->{base[3:]}"
    if kind.endswith("*") and base in ("int", "int64_t", "size_t", "double", "float", "int32_t", "tl_dtype"):
        return "(void *)&f->out"
    sys.exit(f"make_arguments.py: {function}: no value for {kind} {name}; add one")


def bad(function, kind, name):
    values = {"int": INT, "int64_t": INT64, "double": DOUBLE}.get(kind, [])
    if kind.endswith("*"):
        values = ["NULL"]
    if kind in ("tl_dtype", "tl_status"):
        values = [f"({kind})-1", f"({kind})99"]
    if kind == "const char *":
        values = ["NULL", '""', '"\\xff\\n%s"']
    if kind == "size_t":
        values = ["0"]
    return [v for v in values if (function, name, v) not in LEFT_OUT]


def main():
    headers = "".join(open(path).read() for path in sys.argv[1:])
    rows = []
    for result, function, parameters in prototypes(headers):
        parameters = [parse(p) for p in parameters]
        values = [good(function, kind, name) for kind, name in parameters]
        calls = [("good", values)]
        for i, (kind, name) in enumerate(parameters):
            for value in bad(function, kind, name):
                calls.append((f"{name} = {value}", values[:i] + [value] + values[i + 1:]))
        for number, (what, arguments) in enumerate(calls):
            call = f"{function}({', '.join(arguments)})"
            if result == "tl_status":
                body = f"return {call};"
            else:
                body = f"{'' if result == 'void' else '(void)'}{call};\n    return TL_OK;"
            print(f"static tl_status {function}_{number}(fixture *f) {{\n    (void)f;\n    {body}\n}}")
            kind = "true" if what == "good" else "false"
            text = what.replace("\\", "\\\\").replace('"', '\\"')
            rows.append(f'    {{{function}_{number}, "{function}: {text}", {kind}}},')
    print("\nstatic const call calls[] = {\n" + "\n".join(rows) + "\n};")


main()
