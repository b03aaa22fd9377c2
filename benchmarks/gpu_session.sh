#!/bin/bash
# All that a machine with an NVIDIA GPU can tell of vpr_ros, in ten minutes or less:
#
#     benchmarks/gpu_session.sh [OUT]        # results below OUT, gpu_session by default; the page below docs/hardware
#
# PYTHON: which one; IMAGES: a folder of a camera's images; MODELS: exported models at other sizes (WIDTHxHEIGHT.onnx), else
# they are exported. Nothing is installed and no network is used. What is not there is a line with the reason.
#
# A machine without package registries gets its wheels in parts that are small enough to travel:
#
#     benchmarks/gpu_session.sh pack FOLDER 3.12     # where there is a network: wheels for that Python, in parts of 50 MB
#     benchmarks/gpu_session.sh unpack FOLDER SITE   # there: into SITE, to be named in PYTHONPATH
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
WHEELS="tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs onnxruntime-gpu faiss-cpu rosbags apsw backports.zstd lz4
ruamel.yaml pydantic typing-inspection annotated-types pytorch-metric-learning pytools siphash24 platformdirs"

pack() {
    local folder=$1 python=$2 name platforms=()
    for name in manylinux1 manylinux2014 manylinux_2_17 manylinux_2_27 manylinux_2_28; do platforms+=(--platform "${name}_x86_64"); done
    mkdir -p "$folder/wheels"
    for name in $WHEELS; do
        "$PYTHON" -m pip download -q --no-deps --only-binary=:all: --python-version "$python" --implementation cp \
            "${platforms[@]}" -d "$folder/wheels" "$name" || echo "$name: no wheel for Python $python"
    done
    # pydantic runs with one version of its core only
    local core
    core=$(unzip -p "$folder"/wheels/pydantic-*.whl '*/METADATA' | sed -n 's/^Requires-Dist: \(pydantic-core==[0-9.]*\).*/\1/p')
    "$PYTHON" -m pip download -q --no-deps --only-binary=:all: --python-version "$python" --implementation cp \
        "${platforms[@]}" -d "$folder/wheels" "$core"
    echo "pycuda and the meta package tensorrt-rtx-cu13 are no wheels: build them there (pip wheel --no-deps), or there is nvcc"
    tar cf - -C "$folder" wheels | split -b 50M -d - "$folder/part."
    ls -l "$folder"
}

unpack() {
    mkdir -p "$2"
    cat "$1"/part.* | tar xf - -C "$2"
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$2" "$2"/wheels/*.whl
}

# step NAME SECONDS COMMAND...: its output in a file, its end in a line
step() {
    local name=$1 seconds=$2 start=$SECONDS
    shift 2
    timeout -k 5 "$seconds" "$@" > "$OUT/$name.txt" 2>&1
    local status=$?
    echo "$name: exit status $status after $((SECONDS - start)) s; $(tail -n 1 "$OUT/$name.txt" | cut -c1-200)" | tee -a "$OUT/steps.txt"
}

session() {
    OUT=$1
    mkdir -p "$OUT"
    : > "$OUT/steps.txt"
    export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
    step facts 30 nvidia-smi
    step tests 150 "$PYTHON" -m pytest test/gpu -v -rs --tb=short -p no:cacheprovider &
    step check 150 "$PYTHON" -m vpr_ros.cli benchmark --check --rounds 5 --batches 4 --out "$OUT/check" &
    wait
    # alone: it measures
    step benchmark $((60 * ${MINUTES:-4} + 90)) "$PYTHON" benchmarks/gpu.py --out "$OUT" --minutes "${MINUTES:-4}" \
        ${IMAGES:+--images "$IMAGES"} ${MODELS:+--models "$MODELS"}
    step page 60 "$PYTHON" benchmarks/gpu.py --page docs/hardware --out "$OUT"
}

case ${1:-} in
    pack) pack "$2" "$3" ;;
    unpack) unpack "$2" "$3" ;;
    *) session "${1:-gpu_session}" ;;
esac
