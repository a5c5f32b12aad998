#!/bin/sh
# Installs Volant into an environment. In: its python, what to install ("." or ".[dev]"), an index for torch or "".
# Out: the environment. pip's own progress stays visible; every package comes from constraints.txt.
set -eu
python=$1 target=$2 torch_index=$3

if [ -n "$torch_index" ]; then
    "$python" -m pip install -c constraints.txt --index-url "$torch_index" torch
fi
echo "Installing Volant (torch is the largest part: about 200 MB for CPU, 3 GB with CUDA)"
"$python" -m pip install -c constraints.txt -e "$target"
