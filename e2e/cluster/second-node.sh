#!/usr/bin/env bash
# A second node in a cluster that is up: its own network and mounts inside the first one's namespaces, with containerd, kubelet and kube-proxy of its own.
# Pods on runc only, no Freehold runtime. It goes with the cluster.
# usage: e2e/cluster/second-node.sh NAME IMAGE.tar…      (root; the images are loaded before the kubelet starts)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cluster=$here/bin/cluster
name=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
node() { "$cluster" exec "$name" -- "$@"; }
kubectl() { "$("$cluster" path kubectl)" --kubeconfig "$work/admin" --request-timeout=20s "$@"; }
"$cluster" kubeconfig "$name" >"$work/admin"
for who in "kubelet system:node:node2 --group system:nodes" "proxy system:kube-proxy"; do
  set_of() { shift; "$cluster" kubeconfig "$name" --user "$@"; }
  # shellcheck disable=SC2086 # words
  set_of $who | sed 's#https://127.0.0.1:[0-9]*#https://10.200.0.10:6443#' >"$work/${who%% *}"
done
# Its serving certificate, by the cluster's own authority: logs and exec come by it.
pki=$(node sh -c 'cat /etc/kubernetes/pki/ca.crt' >"$work/ca.crt" && node sh -c 'cat /etc/kubernetes/pki/ca.key' >"$work/ca.key" && echo done)
[ "$pki" = done ]
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/serving.key" -subj /CN=node2 -out "$work/serving.csr" 2>/dev/null
printf 'subjectAltName=DNS:node2,IP:10.200.0.11\nextendedKeyUsage=serverAuth\n' >"$work/extensions"
openssl x509 -req -in "$work/serving.csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" -CAcreateserial -days 1 -extfile "$work/extensions" -out "$work/serving.crt" 2>/dev/null
node mkdir -p /run/node2
tar -C "$work" -c kubelet proxy serving.key serving.crt | node tar -C /run/node2 -x
for image in "$@"; do node sh -c "cat >/run/node2/$(basename "$image")" <"$image"; done

# The kubelet cleans up cgroups below its root, so it must not be the first one's. They go with the cluster's own.
node sh -c 'for controller in /sys/fs/cgroup/*/; do mkdir -p $controller/node2 2>/dev/null || continue
  for file in cpus mems; do [ ! -e $controller/cpuset.$file ] || cat $controller/cpuset.$file >$controller/node2/cpuset.$file; done; done; true'
node sh -c 'cat >/run/node2/start.sh' <<'NODE'
set -e
echo $$ >/run/node2/init
for folder in /run/containerd /var/lib/containerd /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers /run/netns /etc/cni/net.d /etc/containerd/conf.d; do
  mkdir -p $folder
  mount -t tmpfs tmpfs $folder
done
mount --make-rshared /
touch /run/node2/ready-for-link
for _ in $(seq 100); do ip link show uplink >/dev/null 2>&1 && break; sleep 0.1; done
ip link set lo up
ip link set uplink up
ip addr add 10.200.0.11/24 dev uplink
ip route add default via 10.200.0.10
ip route add 10.244.0.0/24 via 10.200.0.10
for key in ipv4/ip_forward ipv4/conf/all/forwarding bridge/bridge-nf-call-iptables; do echo 1 >/proc/sys/net/$key; done
sed 's/10.244.0.0/10.244.1.0/' /run/node2/conflist >/etc/cni/net.d/10-bridge.conflist
containerd --config /etc/containerd/config.toml >/run/node2/containerd.log 2>&1 &
for _ in $(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.1; done
for image in /etc/kubernetes/images/*.tar /run/node2/*.tar; do [ ! -e "$image" ] || ctr -n k8s.io images import --all-platforms "$image" >/dev/null; done
sed -e 's/^address: .*/address: 10.200.0.11/' -e 's#/etc/kubernetes/pki/kubelet-server#/run/node2/serving#' -e 's#^cgroupDriver#cgroupRoot: /node2\ncgroupDriver#' /etc/kubernetes/kubelet.yaml >/run/node2/kubelet.yaml
kubelet --config=/run/node2/kubelet.yaml --kubeconfig=/run/node2/kubelet --hostname-override=node2 --node-ip=10.200.0.11 --root-dir=/var/lib/kubelet >/run/node2/kubelet.log 2>&1 &
exec kube-proxy --kubeconfig=/run/node2/proxy --hostname-override=node2 --proxy-mode=nftables --cluster-cidr=10.244.0.0/16 --conntrack-max-per-core=0 --conntrack-min=0 \
  --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 --bind-address=10.200.0.11 --healthz-bind-address=127.0.0.1:10256 --metrics-bind-address=127.0.0.1:10249
NODE
node sh -c 'setsid unshare --net --mount --propagation private sh /run/node2/start.sh >/run/node2/log 2>&1 </dev/null &'
node sh -c 'cp /etc/cni/net.d/10-bridge.conflist /run/node2/conflist
  for _ in $(seq 100); do [ -e /run/node2/ready-for-link ] && break; sleep 0.1; done
  ip link add to-node2 type veth peer name uplink netns "$(cat /run/node2/init)" && ip link set to-node2 master node0 up && ip route add 10.244.1.0/24 via 10.200.0.11'
for _ in $(seq 300); do
  [ "$(kubectl get node node2 -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)" = True ] && exit 0
  sleep 0.2
done
echo "second-node: node2 is not Ready after 60 s; the ends of its logs:" >&2
node sh -c 'tail -n 8 /run/node2/*log' >&2
exit 1
