# Sourced by pods, parity, crash and bench: a cluster whose node has the runtime as the installer leaves it, and how to look at it.
# Wants: $name (of the cluster). Gives: cluster, kubectl, bundle, work, and the functions below. Takes all down however it ends.
began=$SECONDS
me=$(basename "$0")
work=$(mktemp -d)
cluster=e2e/cluster/bin/cluster
bundle=/opt/freehold/versions/test
say() { printf '%s: %4d s %s\n' "$me" $((SECONDS - began)) "$1"; }
cleanup() { "$cluster" down "$name" --purge >/dev/null 2>&1 || true; rm -rf "$work"; }
trap cleanup EXIT
# No gate ends without a word: what failed where nothing else says so.
set -E
trap 'echo "$me: line $LINENO of ${BASH_SOURCE[0]}: $BASH_COMMAND" >&2' ERR
admin() { "$kubectl" --kubeconfig "$work/admin" --request-timeout=30s "$@"; }
node() { "$cluster" exec "$name" -- "$@"; }
fail() {
  echo "$me: $1" >&2
  admin get pods -o wide >&2 || true
  admin get events --sort-by=.lastTimestamp 2>/dev/null | grep -v Normal | tail -n 8 | cut -c1-600 >&2 || true
  "$cluster" logs "$name" containerd 2>/dev/null | grep freehold | tail -n 12 | cut -c1-800 >&2 || true
  echo "$me: failed after $((SECONDS - began)) s: $1" >&2 # again, for who sees only the end
  exit 1
}
# What is expected, and a command that must print it (or, with *, contain it) within the time: conditions, not sleeps.
expect() { # what seconds pattern command…
  local what=$1 seconds=$2 pattern=$3 end=$((SECONDS + $2))
  said= # the caller may want it
  shift 3
  while :; do
    said=$("$@" 2>&1) || true
    # shellcheck disable=SC2053 # the pattern is one
    [[ $said == $pattern ]] && return 0
    [ $SECONDS -lt $end ] || { fail "$what: after $seconds s it is «$(head -c 400 <<<"$said")», not «$pattern»"; return 1; }
    sleep 0.3
  done
}
phase() { admin get pod "$1" -o 'jsonpath={.status.phase}'; }
status() { admin get pod "$1" -o "jsonpath={.status.containerStatuses[?(@.name==\"$2\")].$3}"; }
# Pids of the node whose command line holds a word (written so that it does not hold itself); the node has a pid namespace of its own.
pids() { node sh -c 'grep -la -- "$0" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3' "$1"; }
left() { # what a pod could leave on the node, one a line; nothing if all is well
  pids 'qemu-system-x86_6[4]'
  pids 'containerd-shim-freehol[d]'
  pids 'freehold-superviso[r]'
  node sh -c 'ls /run/containerd/s 2>/dev/null; ls /var/run/netns 2>/dev/null; ls /run/containerd/io.containerd.runtime.v2.task/k8s.io 2>/dev/null
    ls /run/freehold/users 2>/dev/null; ls /run/freehold/servers 2>/dev/null; ls /var/lib/freehold/layers 2>/dev/null | grep "[.]tmp"; ip -br link | grep -o "^veth[^@ ]*"
    find /sys/fs/cgroup -type d -path "*kubepods/*pod*"; ls /var/lib/kubelet/pods 2>/dev/null; grep -o "/var/lib/kubelet/pods[^ ]*" /proc/mounts; true'
}
gone() { left | diff "$work/before" - && echo nothing; }

# A folder that is a layer with a shell and little else.
shell_layer() { # folder
  mkdir -p "$1/bin"
  cp "$(command -v busybox)" "$1/bin/busybox"
  for applet in sh sleep echo head tail; do ln -s busybox "$1/bin/$applet"; done
}
# Makes an image of folders, a layer of each, and loads it into the node.
load_image() { # image folder…
  local image=$1
  shift
  e2e/cluster/bin/layers "$image" "$work/image.tar" "$@"
  "$cluster" load "$name" "$work/image.tar" >/dev/null 2>&1 || fail "the image $image can't be loaded"
  rm "$work/image.tar"
}

# Tells containerd of a handler whose file is there, as the installer does it; the caller restarts it.
register() { # handler
  local plugin=io.containerd.cri.v1.runtime file=/etc/containerd/conf.d/90-$1.toml head='version = 3'
  local kind=io.containerd.freehold.v2 program=$bundle/handlers/$1 options=''
  if [[ $(node containerd --version) == *' 1.'* ]]; then
    plugin=io.containerd.grpc.v1.cri file=/etc/containerd/config.toml head=''
    kind=$bundle/bin/containerd-shim-freehold-v2 program=$kind options="options = {ConfigPath = '/opt/freehold/handlers/$1.toml'}"
  fi
  node sh -c "mkdir -p $bundle/handlers && cd $bundle/handlers && ln -sf ../bin/containerd-shim-freehold-v2 $1 && ln -sf ../../../handlers/$1.toml ."
  node sh -c "cat >>$file" <<TOML
$head
[plugins.'$plugin'.containerd.runtimes.$1]
  runtime_type = "$kind"
  runtime_path = "$program"
  pod_annotations = []
  privileged_without_host_devices = true
  $options
TOML
}

machines_up() {
  [ "$(id -u)" = 0 ] || { echo "$me: needs root (namespaces, mounts, cgroups); run this with sudo" >&2; exit 1; }
  if [ -z "${FREEHOLD_BUNDLE:-}" ]; then
    FREEHOLD_BUNDLE=$(cargo run --quiet --package xtask -- images --only bundle)
  fi
  (cd e2e/cluster && CGO_ENABLED=0 GOWORK=off go build -trimpath -buildvcs=false -ldflags '-s -w' -o bin/ ./cmd/cluster ./cmd/layers)
  "$cluster" build pause runc cni containerd node
  "$cluster" up "$name"
  kubectl=$("$cluster" path kubectl)
  "$cluster" kubeconfig "$name" >"$work/admin"
  say "a cluster is up"

  # Bundle, templates of writable disks (as the installer makes them), the handler's file, containerd's configuration.
  node mkdir -p "$bundle" /opt/freehold/handlers /etc/containerd/conf.d
  tar -C "$FREEHOLD_BUNDLE" -ch . | node tar -C "$bundle" -x
  node sh -c "cd $bundle/guest && truncate -s 8G scratch.ext4 volume.ext4 && make='../qemu/lib/ld-linux-x86-64.so.2 --library-path ../qemu/lib ../e2fs/bin/mke2fs -q -F -t ext4 -m 0' &&
    \$make -O ^has_journal,^resize_inode -E lazy_itable_init=1,nodiscard scratch.ext4 &&
    \$make -O has_journal,^resize_inode -J size=4 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard volume.ext4"
  node sh -c 'cat >/opt/freehold/handlers/freehold-microvm.toml' <<TOML
version = 1
bundle = "$bundle"
acceleration = "tcg"
default_memory_mib = 256
layer_cache = "/var/lib/freehold/layers"
layer_cache_max_bytes = 1073741824
templates = "/var/lib/freehold/templates"
TOML
  register freehold-microvm
  node restart-containerd
  left >"$work/before"
  admin apply -f - >/dev/null <<'YAML'
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: freehold-microvm}
handler: freehold-microvm
overhead: {podFixed: {memory: 512Mi}}
YAML
}
