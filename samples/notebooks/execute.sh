#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Executes notebooks, and writes them with their outputs to standard output as a tar file: what a
# guest of `kbridge run --root host` writes to files is gone with it.
#
#   execute.sh NOTEBOOK...
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# sockets in a folder of ours, not TCP ports that anybody may connect to; and an emulated processor
# takes its time to start a kernel
jupyter nbconvert --to notebook --execute --output-dir "$folder/out" \
	--KernelManager.transport=ipc --KernelManager.ip="$folder/kernel" \
	--ExecutePreprocessor.startup_timeout=600 --ExecutePreprocessor.iopub_timeout=60 "$@" >&2
tar -C "$folder/out" -cf - .
