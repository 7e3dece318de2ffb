#!/usr/bin/env bash
# Starts a cluster, runs a pod on runc, restarts containerd under it, starts a second cluster beside it, stops both, and asserts
# that the host is as it was.
# usage: e2e/cluster/smoke.sh      (root; builds what is missing)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
began=$SECONDS
name=smoke-$$
work=$(mktemp -d)
cluster=$here/bin/cluster
fail() { echo "smoke: $1" >&2; exit 1; }
say() { printf 'smoke: %4d s %s\n' $((SECONDS - began)) "$1"; }
[ "$(id -u)" = 0 ] || fail "needs root (namespaces, mounts, cgroups); run this with sudo"

cleanup() {
  "$cluster" down "$name" --purge >/dev/null 2>&1 || true
  "$cluster" down "$name-b" --purge >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT

# What a cluster could leave behind. Counters and caches of the kernel, which change by themselves, are not in it.
snapshot() {
  cut -d' ' -f3- /proc/self/mountinfo
  ip -o link | awk '{print $2}'
  ip route
  find /sys/fs/cgroup -type d -name "freehold-$name*"
  nft list ruleset
  for key in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes \
    kernel/hostname net/netfilter/nf_conntrack_max net/ipv4/ip_forward net/ipv4/conf/all/forwarding net/bridge/bridge-nf-call-iptables; do
    [ ! -e /proc/sys/$key ] || echo "$key $(cat /proc/sys/$key)"
  done
  for dir in /etc/cni /etc/containerd /etc/kubernetes /opt/cni /opt/containerd /var/lib/kubelet /var/lib/containerd /var/lib/etcd /var/lib/cni \
    /var/log/pods /var/log/containers /run/containerd /run/netns /usr/local/bin/restart-containerd; do
    [ ! -e "$dir" ] || echo "exists $dir"
  done
}

(cd "$here" && CGO_ENABLED=0 GOWORK=off go build -trimpath -buildvcs=false -ldflags '-s -w' -o bin/ ./cmd/cluster)
"$cluster" build pause runc cni containerd node
say "built"
snapshot >"$work/before"
"$cluster" up "$name"
say "up"
if "$cluster" up "$name" 2>"$work/twice"; then fail "a second up of the same name was not refused"; fi
grep -q "is up already" "$work/twice" || fail "a second up was refused with: $(cat "$work/twice")"
"$cluster" kubeconfig "$name" >"$work/admin.kubeconfig"
"$cluster" kubeconfig "$name" --user alice --group tenants >"$work/alice.kubeconfig"
kubectl=$("$cluster" path kubectl)
admin() { "$kubectl" --kubeconfig "$work/admin.kubeconfig" --request-timeout=20s "$@"; }
who=$("$kubectl" --kubeconfig "$work/alice.kubeconfig" --request-timeout=20s auth whoami -o jsonpath='{.status.userInfo.username} {.status.userInfo.groups}')
[ "$who" = 'alice ["tenants","system:authenticated"]' ] || fail "the certificate for alice was read as: $who"

admin apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: hello}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: hello
    image: freehold.dev/test:dev
    command: [sh, -c, "echo hello from $(hostname); sleep 600"]
YAML
admin wait --for=condition=Ready pod/hello --timeout=60s >/dev/null || { admin describe pod hello | tail -n 15 >&2; "$cluster" logs "$name" kubelet | tail -n 15 >&2; fail "waited 60 s for the pod"; }
# Ready says that the process started, not that it has written yet.
for _ in $(seq 50); do
  said=$(admin logs hello)
  [ -z "$said" ] || break
  sleep 0.1
done
[ "$said" = "hello from hello" ] || fail "the pod's log is: $said"
say "a pod runs on runc"
"$cluster" exec "$name" -- restart-containerd
[ "$(admin exec hello -- cat /proc/sys/kernel/hostname)" = hello ] || fail "the pod did not answer after containerd was restarted"
say "the pod outlived a restart of containerd"

"$cluster" up "$name-b"
"$cluster" kubeconfig "$name-b" >"$work/second.kubeconfig"
[ -z "$("$kubectl" --kubeconfig "$work/second.kubeconfig" --request-timeout=20s get pod hello --ignore-not-found -o name)" ] || fail "the second cluster is the first"
[ "$(admin exec hello -- cat /proc/sys/kernel/hostname)" = hello ] || fail "the first cluster's pod did not answer while a second cluster runs"
"$cluster" down "$name-b" --purge
[ "$(admin exec hello -- cat /proc/sys/kernel/hostname)" = hello ] || fail "the first cluster's pod did not outlive the second cluster"
say "a second cluster came and went beside the first"

"$cluster" down "$name"
say "down"
snapshot >"$work/after"
diff -u "$work/before" "$work/after" >&2 || fail "the host is not as it was before (above: before and after)"
"$cluster" down "$name" --purge
say "passed: mounts, links, routes, cgroups, nft rules, sysctls and folders of the host are as before"
