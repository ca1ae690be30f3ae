#!/bin/sh
# Serve one PyTorch model folder, as dl_inference's script of this name did:
#   startPredict.sh [MODEL_DIR] [option of `dl-inference predict` ...]
# Defaults: the folder this script was started in, all interfaces, dl_inference's port 8866.
set -eu
model_dir=.
case "${1:-}" in
    "" | -*) ;;
    *) model_dir=$1 && shift ;;
esac
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
command=$here/.venv/bin/dl-inference
[ -x "$command" ] || command=dl-inference
case " $* ${DL_INFERENCE_LISTEN:+--listen}" in
    *" --listen"*) exec "$command" predict "$model_dir" "$@" ;;
    *) exec "$command" predict "$model_dir" --listen 0.0.0.0:8866 "$@" ;;
esac
