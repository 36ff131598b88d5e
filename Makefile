# libtl. `make help` lists the targets.

VERSION = 0.1.0
SOMAJOR = 0
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
BUILD ?= build

CC ?= cc
AR ?= ar
PKG_CONFIG ?= pkg-config
OPTIMIZE ?= -O3
WERROR ?=
SANITIZE ?=

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wvla $(WERROR)
JANSSON_CFLAGS := $(shell $(PKG_CONFIG) --cflags jansson 2>/dev/null)
JANSSON_LIBS := $(shell $(PKG_CONFIG) --libs jansson 2>/dev/null || echo -ljansson)
STB_CFLAGS := -isystem /usr/include/stb
TL_CFLAGS = -std=c11 -D_GNU_SOURCE -DTL_VERSION='"$(VERSION)"' $(OPTIMIZE) -g -fPIC -fvisibility=hidden \
	-ffp-contract=off -pthread -Iinclude -Isrc -Ikernels $(JANSSON_CFLAGS) $(STB_CFLAGS) $(WARNINGS) $(SANITIZE)
TL_LIBS = $(JANSSON_LIBS) -pthread -lm

ARCH := $(shell $(CC) -dumpmachine | cut -d- -f1)

LIB_SRC := $(filter-out src/cli/%,$(wildcard src/*/*.c)) $(wildcard kernels/*.c) $(wildcard kernels/ref/*.c)
ifeq ($(ARCH),x86_64)
LIB_SRC += $(wildcard kernels/avx2/*.c) $(wildcard kernels/avx512/*.c)
endif
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
CLI_OBJ := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard src/cli/*.c))

# Instruction-set flags are given to that instruction set's folder and nowhere else.
$(BUILD)/obj/kernels/avx2/%.o: ISA_CFLAGS = -mavx2 -mfma
$(BUILD)/obj/kernels/avx512/%.o: ISA_CFLAGS = -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma

.PHONY: all
all: $(BUILD)/libtl.a $(BUILD)/libtl.so $(BUILD)/tl  ## the library (static, shared) and the program

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(TL_CFLAGS) $(ISA_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/libtl.a: $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/libtl.so.$(VERSION): $(LIB_OBJ)
	$(CC) -shared -Wl,-soname,libtl.so.$(SOMAJOR) -Wl,-z,relro,-z,now,--no-undefined $(SANITIZE) $^ -o $@ $(TL_LIBS)

$(BUILD)/libtl.so: $(BUILD)/libtl.so.$(VERSION)
	ln -sf libtl.so.$(VERSION) $(BUILD)/libtl.so.$(SOMAJOR)
	ln -sf libtl.so.$(SOMAJOR) $@

$(BUILD)/tl: $(CLI_OBJ) $(BUILD)/libtl.a
	$(CC) $(SANITIZE) $^ -o $@ $(TL_LIBS)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# --- tests ---------------------------------------------------------------------------------
# Every tests/test_*.c is one cmocka program; it may include internal headers.
TEST_SRC := $(wildcard tests/test_*.c)
TEST_BIN := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)

$(BUILD)/tests/%: tests/%.c $(BUILD)/libtl.a
	@mkdir -p $(@D)
	$(CC) $(TL_CFLAGS) -Itests -MMD -MP $< $(BUILD)/libtl.a -o $@ -lcmocka $(TL_LIBS)

-include $(wildcard $(BUILD)/tests/*.d)

.PHONY: check
check: all $(TEST_BIN)  ## build and run every test
	tests/run $(BUILD)
