#!/usr/bin/env bash
# Build images with docker or podman: docker/build.sh [access | cpu | gpu ...], all three without an argument.
# `make images` calls it. Variables:
#   ENGINE      docker or podman; without it the first of them that works
#   BUILD_ARGS  more options of the engine's build, such as "--build-arg TORCH_INDEX_URL=..."
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Print why an engine cannot be used; nothing where it can.
fault() {
    if ! command -v "$1" >/dev/null; then
        echo "not installed"
    elif ! "$1" info >/dev/null 2>&1; then
        echo "installed, but \`$1 info\` fails: is it running, and may you use it?"
    elif [ "$1" = docker ] && ! docker buildx version >/dev/null 2>&1; then
        echo "installed without buildx: install its package docker-buildx-plugin"
    fi
}

choose_engine() {
    local engine why faults=""
    for engine in ${ENGINE:-docker podman}; do
        why=$(fault "$engine")
        if [ -z "$why" ]; then
            echo "$engine"
            return
        fi
        faults+="    $engine: $why"$'\n'
    done
    printf 'images: no container engine that works:\n%s' "$faults" >&2
    echo "    Install podman (apt-get install podman, dnf install podman) or Docker Engine (docs.docker.com/engine)." >&2
    return 1
}

engine=$(choose_engine)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
# Docker's image format: the other one, podman's default, has no place for HEALTHCHECK.
options=()
[ "$engine" != podman ] || options+=(--format docker)
[ $# -gt 0 ] || set -- access cpu gpu
for name in "$@"; do
    # BUILD_ARGS holds several words.
    # shellcheck disable=SC2086
    "$engine" build "${options[@]}" ${BUILD_ARGS:-} --file "docker/Dockerfile.$name" \
        --tag "dl-inference-$name:$version" --tag "dl-inference-$name:latest" .
    echo "images: dl-inference-$name:$version"
done
