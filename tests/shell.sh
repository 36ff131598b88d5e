# Shared by the shell tests: runs functions as tests and prints cmocka's lines, which tests/run counts.
# A test is a function that returns 0, or 77 after a line that says why it was skipped.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${TL_TEST_BUILD:-build}
tl=$build/tl
work=$(mktemp -d "${TMPDIR:-/tmp}/tl-test-XXXXXX") || exit 1
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
failures=0

run_test() { # function
    echo "[ RUN      ] $1"
    ("$1") >"$work/.log" 2>&1
    case $? in
    0) echo "[       OK ] $1" ;;
    77)
        tail -n 1 "$work/.log"
        echo "[  SKIPPED ] $1"
        ;;
    *)
        sed 's/^/    /' "$work/.log"
        echo "[  FAILED  ] $1"
        failures=$((failures + 1))
        ;;
    esac
}

# Runs the tests named test_* of the calling script in the order of the file.
run_tests() {
    for test in $(grep -oE '^test_[a-z0-9_]+' "$0"); do run_test "$test"; done
    [ $failures -eq 0 ]
}

fail() {
    echo "$*"
    exit 1
}

skip() {
    echo "$*"
    exit 77
}

# Runs a command; its output is in $work/out and $work/err afterwards.
expect_status() { # status, command...
    expected=$1
    shift
    "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    [ $status -eq "$expected" ] && return
    cat "$work/out" "$work/err"
    fail "status $status instead of $expected: $*"
}

# A refusal: this status, nothing on stdout, one line on stderr that has each of the words.
expect_refusal() { # status, "word|word", command...
    words=$2
    code=$1
    shift 2
    expect_status "$code" "$@"
    [ -s "$work/out" ] && fail "output on stdout: $*"
    [ "$(wc -l <"$work/err")" -eq 1 ] || { cat "$work/err"; fail "not one line on stderr: $*"; }
    echo "$words" | tr '|' '\n' | while read -r word; do
        grep -qF -- "$word" "$work/err" || { cat "$work/err"; fail "no \"$word\" in the message of: $*"; }
    done || exit 1
}

expect_output() { # text that $work/out holds
    grep -qF -- "$1" "$work/out" && return
    cat "$work/out"
    fail "no \"$1\" in the output"
}

# One JSON object on stdout, with these keys, for which the Python expression (over d) holds.
expect_json() { # "key key", expression
    python3 - "$work/out" "$1" "${2:-True}" <<'PYTHON' || fail "JSON not as expected: $(head -c 600 "$work/out")"
import json, sys
def unique(pairs):
    assert len(pairs) == len(dict(pairs)), "duplicate key"
    return dict(pairs)
def refuse(name):
    raise ValueError(name + " is no JSON")
with open(sys.argv[1], encoding="utf-8") as f:
    d = json.load(f, object_pairs_hook=unique, parse_constant=refuse)
missing = [k for k in sys.argv[2].split() if k not in d]
if missing:
    sys.exit(f"missing: {missing}")
if not eval(f"({sys.argv[3]})"):
    sys.exit(f"does not hold: {sys.argv[3]}")
PYTHON
}
