# Shared by tests/lint and tests/symbols: collects violations.
export LC_ALL=C
bad=$(mktemp) || exit 1 # gets a line for each kind of violation
trap 'rm -f "$bad"' EXIT
report() { # what is wrong; the lines on standard input, if any, are the places
    places=$(cat)
    [ -z "$places" ] && return
    echo "$(basename "$0"): $1:"
    echo "$places" | sed 's/^/    /'
    echo "$1" >>"$bad"
}

report_end() {
    [ -s "$bad" ] && exit 1
    echo "$(basename "$0"): clean"
}
