# libtl. `make help` lists the targets.

VERSION = 0.1.0
SOMAJOR = 0
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DESTDIR ?=
BUILD ?= build

CC ?= cc
AR ?= ar
PKG_CONFIG ?= pkg-config
PYTHON ?= python3
OPTIMIZE ?=
WERROR ?=
SANITIZE ?=
# `make DEBUG=1` keeps assert(), as does every sanitizer build. No validation depends on it.
DEBUG ?=
FUZZ_SECONDS ?= 20

# Jobs for targets that build everything, unless make was told (-j).
PARALLEL = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

# What `make deps` and `make deps-dev` install where apt-get exists.
PACKAGES = build-essential pkg-config libjansson-dev libstb-dev libcmocka-dev python3 python3-pip
PACKAGES_DEV = clang libclang-rt-14-dev clang-format
# And what `make check-aarch64` runs with; without them it is skipped.
PACKAGES_AARCH64 = gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user libjansson-dev:arm64 libcmocka-dev:arm64

ifeq ($(SANITIZE)$(DEBUG),)
ASSERTIONS = -DNDEBUG
endif
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wvla $(WERROR)
JANSSON_CFLAGS := $(shell $(PKG_CONFIG) --cflags jansson 2>/dev/null)
JANSSON_LIBS := $(shell $(PKG_CONFIG) --libs jansson 2>/dev/null || echo -ljansson)
STB_CFLAGS := -isystem /usr/include/stb
# Pixels of JPEG pictures: libjpeg (libjpeg-turbo on most systems) where pkg-config knows it and this compiler can
# link it, or stb_image.
LIBJPEG_CFLAGS := $(shell $(PKG_CONFIG) --cflags libjpeg 2>/dev/null)
LIBJPEG_LIBS := $(shell $(PKG_CONFIG) --libs libjpeg 2>/dev/null)
TRY_LIBJPEG = printf '%s\n' '\#include <stdio.h>' '\#include <jpeglib.h>' \
	'int main(void) { struct jpeg_error_mgr e; return !jpeg_std_error(&e); }' | \
	$(CC) $(LIBJPEG_CFLAGS) -x c - -x none $(LIBJPEG_LIBS) -o /dev/null 2>/dev/null && echo found
ifeq ($(origin JPEG),undefined)
JPEG := $(if $(LIBJPEG_LIBS),$(if $(shell $(TRY_LIBJPEG)),libjpeg,stb),stb)
endif
JPEG_NAME = stb_image
ifeq ($(JPEG),libjpeg)
JPEG_CFLAGS = $(LIBJPEG_CFLAGS)
JPEG_LIBS = $(LIBJPEG_LIBS)
JPEG_NAME = libjpeg $(shell $(PKG_CONFIG) --modversion libjpeg)
endif
TL_CFLAGS = -std=c11 -D_GNU_SOURCE -DTL_VERSION='"$(VERSION)"' $(ASSERTIONS) $(or $(OPTIMIZE),$(LEVEL)) -g -fPIC \
	-fvisibility=hidden -ffp-contract=off -pthread -Iinclude -Isrc -Ikernels \
	$(JANSSON_CFLAGS) $(STB_CFLAGS) $(JPEG_CFLAGS) $(WARNINGS) $(SANITIZE)
TL_LIBS = $(JANSSON_LIBS) $(JPEG_LIBS) -pthread -lm

ARCH := $(shell $(CC) -dumpmachine 2>/dev/null | cut -d- -f1)

LIB_SRC := $(filter-out src/cli/% src/image/jpeg_%,$(wildcard src/*/*.c)) src/image/jpeg_$(JPEG).c $(wildcard kernels/*.c) $(wildcard kernels/ref/*.c)
ifeq ($(ARCH),x86_64)
LIB_SRC += $(wildcard kernels/avx2/*.c) $(wildcard kernels/avx512/*.c) \
	$(wildcard kernels/avx512bf16/*.c) $(wildcard kernels/amx/*.c) \
	$(wildcard kernels/pclmul/*.c)
else ifeq ($(ARCH),aarch64)
LIB_SRC += $(wildcard kernels/neon/*.c)
endif
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
CLI_OBJ := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard src/cli/*.c))
EXAMPLES := $(patsubst %.c,$(BUILD)/%,$(wildcard examples/*.c))

# How hard the compiler tries follows from what the code is: loops over numbers; what runs once a process or
# once a file, or leaves its loops to kernels; and the rest. Setting OPTIMIZE overrides it. tests/lint holds the library's size.
HOT = kernels/ src/compute/ src/tensor/
COLD = src/io/ src/graph/ src/model/ src/data/ src/finetune/ src/cli/ src/image/encode.o src/image/exif.o \
	src/base/source.o src/base/writer.o src/base/error.o src/base/number.o src/layer/attr.o src/layer/registry.o \
	src/layer/shape.o src/tensor/npy.o src/layer/batch_norm.o src/layer/batch_norm_rows.o
LEVEL = -O2
$(foreach code,$(HOT),$(BUILD)/obj/$(code)%.o): LEVEL = -O3
$(BUILD)/obj/kernels/ref/%.o $(BUILD)/obj/kernels/avx512bf16/%.o \
	$(foreach code,gemm table,$(foreach isa,avx512 avx2 neon,$(BUILD)/obj/kernels/$(isa)/$(code).o)): LEVEL = -O2
$(foreach code,$(COLD),$(BUILD)/obj/$(code)$(if $(code:%.o=),%.o)): LEVEL = -Os

# What computes calls nothing of the caller's, who could throw through it: the tables for unwinding, a tenth of the
# library, are left out there. Debuggers have their own in the debugging information.
$(foreach code,kernels/ src/compute/ src/layer/,$(BUILD)/obj/$(code)%.o): UNWIND = -fno-asynchronous-unwind-tables -fno-unwind-tables

# Packed weights that outlive a process are trusted only by the sources that packed them.
SOURCES := $(sort $(LIB_SRC) $(wildcard src/*/*.h kernels/*.h kernels/*/*.h))
$(BUILD)/obj/src/io/packed.o: FILE_CFLAGS = -DTL_SOURCES=$(shell cat $(SOURCES) | cksum | cut -d' ' -f1)u

# Instruction-set flags are given to that instruction set's folder and nowhere else. Compilers allot registers better
# when they know of a processor that has it.
$(BUILD)/obj/kernels/avx2/%.o: FILE_CFLAGS = -mavx2 -mfma -mtune=haswell
$(BUILD)/obj/kernels/pclmul/%.o: FILE_CFLAGS = -mpclmul -msse4.1
AVX512 = -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mtune=skylake-avx512
$(BUILD)/obj/kernels/avx512/%.o: FILE_CFLAGS = $(AVX512)
$(BUILD)/obj/kernels/avx512bf16/%.o: FILE_CFLAGS = $(AVX512) -mavx512bf16
$(BUILD)/obj/kernels/amx/%.o: FILE_CFLAGS = $(AVX512) -mavx512bf16 -mamx-tile -mamx-bf16
# Overflowing shifts inside the stb headers are made defined; src/image/stb.c says more.
$(BUILD)/obj/src/image/stb.o $(BUILD)/obj/src/image/encode.o: FILE_CFLAGS = -fwrapv -fno-sanitize=shift

# Fuzzing is for parsers. clang takes minutes to instrument vector kernels, and they read no files.
ifneq ($(FUZZING),)
$(BUILD)/obj/kernels/%.o: override SANITIZE =
endif

.PHONY: all
all: $(BUILD)/libtl.a $(BUILD)/libtl.so $(BUILD)/tl $(EXAMPLES)  ## the library (static, shared), the program, the examples

# How a file is compiled stands here, too.
$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(TL_CFLAGS) $(UNWIND) $(FILE_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/src/io/packed.o: $(SOURCES)

# The libraries are made anew when this build folder had the other decoder.
$(BUILD)/jpeg-$(JPEG):
	@mkdir -p $(@D)
	@rm -f $(BUILD)/jpeg-*
	@echo "JPEG pictures are decoded by $(JPEG_NAME) (make JPEG=libjpeg or JPEG=stb chooses)"
	@touch $@

$(BUILD)/libtl.a: $(LIB_OBJ) $(BUILD)/jpeg-$(JPEG)
	@rm -f $@
	$(AR) rcs $@ $(LIB_OBJ)

$(BUILD)/libtl.so.$(VERSION): $(LIB_OBJ) $(BUILD)/jpeg-$(JPEG)
	$(CC) -shared -Wl,-soname,libtl.so.$(SOMAJOR) -Wl,-z,relro,-z,now,-z,noseparate-code $(if $(SANITIZE),,-Wl$(comma)--no-undefined) \
		$(SANITIZE) $(LIB_OBJ) -o $@ $(TL_LIBS)

$(BUILD)/libtl.so: $(BUILD)/libtl.so.$(VERSION)
	ln -sf libtl.so.$(VERSION) $(BUILD)/libtl.so.$(SOMAJOR)
	ln -sf libtl.so.$(SOMAJOR) $@

$(BUILD)/tl: $(CLI_OBJ) $(BUILD)/libtl.a
	$(CC) $(SANITIZE) $^ -o $@ $(TL_LIBS)

$(BUILD)/examples/%: examples/%.c $(BUILD)/libtl.a
	@mkdir -p $(@D)
	$(CC) $(TL_CFLAGS) -MMD -MP $< $(BUILD)/libtl.a -o $@ $(TL_LIBS)

-include $(shell find $(BUILD)/obj $(BUILD)/examples -name '*.d' 2>/dev/null)

comma := ,

# --- tests ---------------------------------------------------------------------------------
# Every tests/test_*.c is one cmocka program; it may include internal headers.
# Every tests/test_*.sh prints the same lines as cmocka does. TESTS="conv threads" runs those alone.
TESTS ?=
TEST_SRC := $(wildcard $(or $(TESTS:%=tests/test_%.c),tests/test_*.c))
TEST_BIN := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)
# Programs that the scripts use.
TEST_TOOLS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/tool_*.c))

# gcc 12 for aarch64 dies while it vectorises some tests.
$(BUILD)/tests/%: tests/%.c $(BUILD)/libtl.a
	@mkdir -p $(@D)
	$(CC) $(TL_CFLAGS) $(if $(filter aarch64,$(ARCH)),-fno-tree-vectorize) -Itests -I$(BUILD)/tests -MMD -MP $< $(BUILD)/libtl.a -o $@ -lcmocka $(TL_LIBS)

-include $(wildcard $(BUILD)/tests/*.d)

# Bad calls of every function that the headers declare.
$(BUILD)/tests/test_arguments: $(BUILD)/tests/arguments_calls.h
$(BUILD)/tests/arguments_calls.h: tests/make_arguments.py $(wildcard include/tl/*.h)
	@mkdir -p $(@D)
	$(PYTHON) tests/make_arguments.py $(wildcard include/tl/*.h) >$@.new && mv $@.new $@

.PHONY: check check-programs
# The second make sees what the first has installed.
check: deps  ## build everything and run every test
	@$(MAKE) --no-print-directory $(PARALLEL) check-programs
	tests/run $(BUILD) $(TESTS)

check-programs: all $(TEST_BIN) $(TEST_TOOLS)

# A sanitizer has a build folder of its own, so that no object of another build is reused.
ASAN = -fsanitize=address -fno-omit-frame-pointer
UBSAN = -fsanitize=undefined -fno-sanitize-recover=undefined
TSAN = -fsanitize=thread

.PHONY: asan ubsan tsan
asan:  ## the tests under AddressSanitizer
	$(MAKE) check BUILD=$(BUILD)-asan OPTIMIZE=-O1 SANITIZE="$(ASAN)"
ubsan:  ## the tests under UndefinedBehaviorSanitizer
	$(MAKE) check BUILD=$(BUILD)-ubsan OPTIMIZE=-O1 SANITIZE="$(UBSAN)"
tsan:  ## the tests under ThreadSanitizer
	$(MAKE) check BUILD=$(BUILD)-tsan OPTIMIZE=-O1 SANITIZE="$(TSAN)"

.PHONY: check-aarch64
check-aarch64:  ## build for aarch64 and run the C tests under qemu-user
	+tests/aarch64 $(BUILD)-aarch64 $(PARALLEL)

# Every tests/fuzz/NAME.c has one LLVMFuzzerTestOneInput(); seeds are in tests/fuzz/corpus/NAME.
FUZZ_BIN := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/*.c))

$(BUILD)/fuzz/%: tests/fuzz/%.c $(BUILD)/libtl.a
	@mkdir -p $(@D)
	$(CC) $(TL_CFLAGS) -fsanitize=fuzzer -Itests $< $(BUILD)/libtl.a -o $@ $(TL_LIBS)

.PHONY: fuzz fuzz-programs
fuzz:  ## fuzz every parser for FUZZ_SECONDS each (needs clang)
	$(MAKE) $(PARALLEL) fuzz-programs BUILD=$(BUILD)-fuzz CC=clang OPTIMIZE=-O1 FUZZING=1 \
		SANITIZE="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
	tests/fuzz/run $(BUILD)-fuzz $(FUZZ_SECONDS)

fuzz-programs: $(FUZZ_BIN)

# PARITY="architectures import_onnx" for some of its scripts, NETWORKS="resnet50 vgg16" for some networks.
PARITY ?=
NETWORKS ?=

.PHONY: parity
parity: all  ## compare with PyTorch, Keras, ONNX Runtime ...: those that PYTHON has
	@TL_TEST_BUILD=$(BUILD) $(PYTHON) tests/parity/run.py $(PARITY) $(if $(NETWORKS),-- $(NETWORKS))

.PHONY: lint fmt
lint: all  ## layer order, exported symbols, forbidden calls, formatting
	tests/lint $(BUILD)

fmt:  ## format the C sources with clang-format
	clang-format -i $$(find include src kernels tests examples -name '*.[ch]' ! -path '*/golden/*')

# --- weights, demo, benchmarks -------------------------------------------------------------
.PHONY: deps deps-dev weights demo bench
deps:  ## install what building and testing needs (Debian, Ubuntu), or name it
	@.ci/deps $(PACKAGES)

deps-dev: deps  ## the same for clang, the sanitizers, formatting and check-aarch64
	@.ci/deps $(PACKAGES_DEV)
	@.ci/deps $(PACKAGES_AARCH64) || echo "deps: check-aarch64 will be SKIPPED"

weights:  ## download every pretrained backbone of the manifest and check its hash
	weights/fetch --all

demo: deps  ## fine-tune a real network on real pictures, from nothing
	@echo "demo: building"
	@$(MAKE) --no-print-directory --silent $(PARALLEL) all
	@examples/demo/run $(BUILD)

BENCH_ARCH ?= efficientnet_lite0 resnet18 resnet50
BENCH_FLAGS ?= --batch 1 --threads 1

bench: all $(BUILD)/tests/test_kernelcheck  ## time kernels, then whole networks (BENCH_ARCH, BENCH_FLAGS)
	$(BUILD)/tests/test_kernelcheck --bench
	@for arch in $(BENCH_ARCH); do for mode in infer train; do \
		$(BUILD)/tl bench --arch $$arch --mode $$mode $(BENCH_FLAGS) || exit 1; \
	done; done

.PHONY: bench-peers
bench-peers: all  ## time beside ONNX Runtime, OpenVINO and PyTorch (PEERS_FLAGS; installs gigabytes)
	tests/peers/run $(BUILD) $(PEERS_FLAGS)

# --- installing ----------------------------------------------------------------------------
BINDIR = $(DESTDIR)$(PREFIX)/bin
INCDIR = $(DESTDIR)$(PREFIX)/include/tl
LIBDEST = $(DESTDIR)$(LIBDIR)
MANDIR = $(DESTDIR)$(PREFIX)/share/man/man1
SHAREDIR = $(DESTDIR)$(PREFIX)/share/libtl/weights

$(BUILD)/tl.pc: Makefile
	@mkdir -p $(@D)
	printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$(LIBDIR)' 'includedir=$${prefix}/include' '' \
		'Name: tl' 'Description: Transfer learning on images' 'Version: $(VERSION)' \
		'Requires.private: jansson$(if $(JPEG_LIBS), libjpeg)' 'Libs: -L$${libdir} -ltl' \
		'Libs.private: -pthread -lm' \
		'Cflags: -I$${includedir}' >$@

.PHONY: install uninstall clean
install: all $(BUILD)/tl.pc  ## install under PREFIX (DESTDIR is honoured)
	install -d $(BINDIR) $(INCDIR) $(LIBDEST)/pkgconfig $(MANDIR) $(SHAREDIR)
	install -m 755 $(BUILD)/tl $(BINDIR)/tl
	install -m 644 include/tl/*.h $(INCDIR)
	install -m 644 $(BUILD)/libtl.a $(LIBDEST)/libtl.a
	install -m 755 $(BUILD)/libtl.so.$(VERSION) $(LIBDEST)/libtl.so.$(VERSION)
	ln -sf libtl.so.$(VERSION) $(LIBDEST)/libtl.so.$(SOMAJOR)
	ln -sf libtl.so.$(SOMAJOR) $(LIBDEST)/libtl.so
	install -m 644 $(BUILD)/tl.pc $(LIBDEST)/pkgconfig/tl.pc
	install -m 644 docs/tl.1 $(MANDIR)/tl.1
	install -m 755 weights/fetch $(SHAREDIR)/fetch
	install -m 644 $(filter-out weights/fetch weights/cache,$(wildcard weights/*)) $(SHAREDIR)
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" -ne 0 ] || ldconfig  # the loader is to know of the new library

uninstall:  ## remove what install put there
	rm -f $(BINDIR)/tl $(MANDIR)/tl.1 $(LIBDEST)/libtl.a $(LIBDEST)/libtl.so $(LIBDEST)/libtl.so.$(SOMAJOR) \
		$(LIBDEST)/libtl.so.$(VERSION) $(LIBDEST)/pkgconfig/tl.pc
	rm -rf $(INCDIR) $(DESTDIR)$(PREFIX)/share/libtl

clean:  ## remove every build folder
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-ubsan $(BUILD)-tsan $(BUILD)-aarch64 $(BUILD)-fuzz $(BUILD)-clang $(BUILD)-gcc

.PHONY: help
help:  ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*##  *\(.*\)/  \1\t\2/p' Makefile | expand -t 14
	@echo
	@echo "Variables: TESTS BUILD PREFIX DESTDIR CC JPEG OPTIMIZE WERROR SANITIZE DEBUG PYTHON PARITY NETWORKS FUZZ_SECONDS"
