# shellcheck shell=sh disable=SC2015,SC2086,SC2154
# Sourced by ./dev: finds what a command needs and installs what is missing. Nothing is touched when all is there.

say() { printf 'dev: %s\n' "$*"; }
die() {
    printf 'dev: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# apt_install PACKAGE...: installs, telling what and why it would need rights
apt_install() {
    have apt-get || die "missing packages: $* (this system has no apt-get; install what corresponds to them)"
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || die "missing packages: $* (run as root: apt-get install $*)"
        as_root=sudo
    fi
    say "installing $*"
    mkdir -p build
    if [ ! -e build/.apt-updated ]; then
        $as_root apt-get update -qq || die "apt-get update failed; is the network there?"
        touch build/.apt-updated
    fi
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >build/apt.log 2>&1 || {
        tail -n 20 build/apt.log >&2
        die "installing $* failed (whole log: build/apt.log)"
    }
}

version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

need_build_tools() {
    missing=
    have cc && have gcc || missing="$missing gcc libc6-dev"
    have make || have ninja || missing="$missing make"
    have cmake || missing="$missing cmake"
    have pkg-config || missing="$missing pkg-config"
    for pair in jansson=libjansson-dev yaml-0.1=libyaml-dev libpng=libpng-dev libjpeg=libjpeg-dev \
        libpcre2-8=libpcre2-dev libcurl=libcurl4-openssl-dev cmocka=libcmocka-dev; do
        have pkg-config && pkg-config --exists "${pair%%=*}" || missing="$missing ${pair##*=}"
    done
    [ -z "$missing" ] || apt_install $missing
    version_at_least "$(cmake --version | awk 'NR == 1 { print $3 }')" 3.22 || die "cmake 3.22 or later is needed"
    need_onednn
}

# What tests run beside the program: rewards in Python, a certificate.
need_test_tools() {
    missing=
    have python3 && python3 -c 'import ssl' 2>/dev/null || missing="$missing python3"
    have openssl || missing="$missing openssl"
    [ -z "$missing" ] || apt_install $missing
}

# onednn_version INCLUDE_FOLDER: "3.2", nothing when it is not there
onednn_version() {
    awk '$2 == "DNNL_VERSION_MAJOR" { a = $3 } $2 == "DNNL_VERSION_MINOR" { b = $3 } END { if (a != "") print a "." b }' \
        "$1/oneapi/dnnl/dnnl_version.h" 2>/dev/null
}

need_python_pip() {
    have python3 && python3 -m pip --version >/dev/null 2>&1 || apt_install python3 python3-pip
}

# Sets ONEDNN to the value for cmake's ONEDNN_ROOT (empty: the system's).
need_onednn() {
    ONEDNN=${ONEDNN_ROOT:-}
    if [ -n "$ONEDNN" ]; then return; fi
    if version_at_least "$(onednn_version /usr/include)" 3.2; then return; fi
    ONEDNN=$root/build/onednn
    if [ -n "$(onednn_version build/onednn/include)" ]; then return; fi
    if have apt-cache; then
        candidate=$(apt-cache policy libdnnl-dev 2>/dev/null | awk '/Candidate:/ { print $2 }')
        if [ -n "$candidate" ] && [ "$candidate" != "(none)" ] && version_at_least "$candidate" 3.2; then
            apt_install libdnnl-dev
            ONEDNN=
            return
        fi
    fi
    [ "$(uname -m)" = x86_64 ] || die "oneDNN 3.2 or later is needed: build it, then ONEDNN_ROOT=<its folder> ./dev ..."
    need_python_pip
    say "fetching oneDNN 2023.2.0 (the system has none, or one before 3.2)"
    rm -rf build/onednn.new
    mkdir -p build/onednn.new
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: -d build/onednn.new \
        onednn-devel-cpu-gomp==2023.2.0 onednn-cpu-gomp==2023.2.0 || die "fetching oneDNN failed; is the network there?"
    for wheel in build/onednn.new/*.whl; do
        python3 -m zipfile -e "$wheel" build/onednn.new/unpacked || die "$wheel: cannot unpack"
    done
    for data in build/onednn.new/unpacked/*.data/data; do
        cp -r "$data/." build/onednn.new/ || die "build/onednn.new: cannot write"
    done
    rm -rf build/onednn.new/unpacked build/onednn.new/*.whl build/onednn
    mv build/onednn.new build/onednn
    [ -n "$(onednn_version build/onednn/include)" ] || die "build/onednn: oneDNN's headers are not where they should be"
}

fuzzer_works() {
    have clang || return 1
    mkdir -p build
    printf '%s\n%s\n' '#include <omp.h>' \
        'int LLVMFuzzerTestOneInput(const char *d, long n) { (void)d; return n > omp_get_max_threads() ? 0 : 0; }' >build/probe.c
    clang -fopenmp -fsanitize=fuzzer,address build/probe.c -o build/probe >/dev/null 2>&1
}

# clang with libFuzzer's and OpenMP's run-time libraries, whose packages are called differently everywhere
need_fuzzer() {
    fuzzer_works && return
    have clang || apt_install clang
    fuzzer_works && return
    major=$(clang -dumpversion | sed 's/\..*//')
    apt_install "libomp-$major-dev"
    fuzzer_works && return
    apt_install "libclang-rt-$major-dev"
    fuzzer_works || die "clang $major cannot build a fuzz target (see build/probe.c)"
}

# Other versions lay out a few lines differently; sets CLANG_FORMAT.
CLANG_FORMAT_VERSION=14
is_clang_format() { "$1" --version 2>/dev/null | grep -q "version $CLANG_FORMAT_VERSION\\."; }
need_clang_format() {
    for CLANG_FORMAT in clang-format-$CLANG_FORMAT_VERSION clang-format build/clang-format/clang_format/data/bin/clang-format; do
        is_clang_format "$CLANG_FORMAT" && return
    done
    if have apt-cache && [ -n "$(apt-cache search --names-only "^clang-format-$CLANG_FORMAT_VERSION\$" 2>/dev/null)" ]; then
        apt_install clang-format-$CLANG_FORMAT_VERSION
        CLANG_FORMAT=clang-format-$CLANG_FORMAT_VERSION
        return
    fi
    need_python_pip
    say "fetching clang-format $CLANG_FORMAT_VERSION"
    rm -rf build/clang-format
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: -d build/clang-format \
        clang-format==$CLANG_FORMAT_VERSION.0.6 || die "fetching clang-format failed; is the network there?"
    python3 -m zipfile -e build/clang-format/*.whl build/clang-format || die "clang-format: cannot unpack"
    chmod +x "$CLANG_FORMAT"
    is_clang_format "$CLANG_FORMAT" || die "$CLANG_FORMAT does not run here"
}

# Sets PYTHON to one that has everything the comparisons import.
need_parity_python() {
    modules='import torch, diffusers, transformers, peft, tensorboard, safetensors, PIL, numpy'
    for PYTHON in python3 "$root/build/parity/bin/python"; do
        "$PYTHON" -c "$modules" >/dev/null 2>&1 && return
    done
    have python3 && python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null ||
        apt_install python3 python3-venv
    say "making a Python environment in build/parity (large; once)"
    python3 -m venv build/parity || die "build/parity: cannot make the environment"
    "$PYTHON" -m pip install -q --disable-pip-version-check torch diffusers transformers peft tensorboard safetensors pillow numpy ||
        die "installing the Python packages failed; is the network there?"
    "$PYTHON" -c "$modules" || die "build/parity: the Python packages do not import"
}
