#!/bin/sh
# The library as others get it: its symbols, and what `make install` puts where.
. "$(dirname "$0")/shell.sh"

not_sanitized() {
    nm -D "$build/libtl.so" | grep -qE ' U __(asan|tsan|ubsan)' &&
        skip "a sanitizer build has symbols of its own and is not installed"
    return 0
}

test_symbols() {
    not_sanitized
    tests/symbols "$build"
}

test_install_and_uninstall() {
    not_sanitized
    root=$work/root
    expect_status 0 make install BUILD="$build" DESTDIR="$root" PREFIX=/usr
    for file in bin/tl lib/libtl.a lib/libtl.so lib/pkgconfig/tl.pc include/tl/tl.h share/man/man1/tl.1 \
        share/libtl/weights/fetch; do
        [ -e "$root/usr/$file" ] || fail "$file is not installed"
    done
    readelf -d "$root/usr/lib/libtl.so" | grep -q 'SONAME.*libtl.so.0' || fail "no soname"

    # A program is built with what pkg-config says and runs on the installed library.
    flags=$(PKG_CONFIG_LIBDIR=$root/usr/lib/pkgconfig:$(pkg-config --variable pc_path pkg-config) \
        pkg-config --define-variable=prefix="$root/usr" --define-variable=libdir="$root/usr/lib" --cflags --libs tl)
    # shellcheck disable=SC2086 # several words
    expect_status 0 "${CC:-cc}" examples/classify.c -o "$work/classify" $flags
    ldd "$work/classify" | grep -q libtl.so.0 || fail "not linked with the shared library"
    expect_status 2 env LD_LIBRARY_PATH="$root/usr/lib" "$work/classify"
    expect_refusal 1 "nosuchnet" "$root/usr/bin/tl" fetch nosuchnet

    expect_status 0 make uninstall BUILD="$build" DESTDIR="$root" PREFIX=/usr
    left=$(find "$root" ! -type d)
    [ -z "$left" ] || fail "left behind: $left"
}

test_headers_are_enough_for_cplusplus() {
    command -v g++ >/dev/null || skip "no C++ compiler: headers are not tried with one"
    echo '#include <tl/tl.h>
int main() { return tl_version() == nullptr; }' >"$work/x.cpp"
    expect_status 0 g++ -std=c++17 -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only "$work/x.cpp"
}

run_tests
