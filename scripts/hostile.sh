# Sourced by pods: a guest that has given up its own defences. A container with every right over its guest reaches for what is not the
# guest's: files of the node, bits of image layers, the agent's port, other disks and cards, other pods. Each is tried by root with all
# capabilities; what must hold is looked at from outside. Wants what machines.sh gives, and the pod `other` running in a machine.
hostile() {
  local before after said tried='' outside
  admin apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: Pod
metadata:
  name: hostile
  annotations: # of other runtimes, and of this one's kind
    io.katacontainers.config.hypervisor.default_memory: "9000"
    io.kubernetes.cri.sandbox-namespace: kube-system
    io.kubernetes.cri.sandbox-id: other
    freehold.dev/memory: "9000"
spec:
  runtimeClassName: freehold-microvm
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{name: disk, emptyDir: {}}]
  containers:
  - name: main
    image: freehold.dev/test:dev
    command: [sleep, "1000"]
    securityContext: {privileged: true}
    volumeMounts: [{name: disk, mountPath: /disk}]
YAML
  expect "a pod that may do all in its guest" 60 '*true*' status hostile main ready
  in_it() { admin exec hostile -- sh -c "$1" 2>&1; }
  tries() { tried="$tried
    $1"; }
  outside="sha256sum /var/lib/freehold/layers/*.erofs; find /opt/freehold /etc/containerd -type f -newer /tmp/hostile"
  node touch /tmp/hostile
  before=$(node sh -c "$outside")
  said=$(in_it "awk '/^CapEff/ { print \$2 }' /proc/self/status")
  # All that there are for a privileged pod: what containerd itself has.
  [ "$said" = "$(node sh -c "awk '/^CapEff/ { print \$2 }' /proc/\$(cat /run/containerd.pid)/status")" ] || fail "the hostile pod has not all capabilities but $said, so what it can't do shows nothing"

  tries "the machine's shape, by annotations"
  shape() { shim inspect "$(sandbox_of "$1")" arguments | sed -E 's/fd=[0-9]+/fd=N/; s/tsc_early_khz=[0-9]+ //; s/lpj=[0-9]+//'; }
  diff <(shape other) <(shape hostile) >&2 || fail "annotations of a pod changed its machine"

  tries "every disk, made writable and overwritten"
  said=$(in_it 'cd /sys/block && for d in sd*; do n=/tmp/$d; mknod $n b $(tr : " " <$d/dev); blockdev --setrw $n; ro=$(cat $d/ro)
    head -c 4096 /dev/urandom | dd of=$n bs=4096 seek=$(($(cat $d/size) / 8 - 1)) conv=notrunc,fsync 2>/dev/null && echo "$d $ro written" || echo "$d $ro refused"; done; true')
  grep -q 'written' <<<"$said" || fail "not even a disk of its own takes a write, so refusals show nothing: $said"
  grep -q 'refused' <<<"$said" || fail "no disk refused to be overwritten: $said"

  tries "more disks than it was given"
  in_it 'for h in /sys/class/scsi_host/*/scan; do echo "- - -" >$h; done' >/dev/null || true
  said=$(in_it 'ls -d /sys/block/sd* | wc -l')
  [ "$said" = "$(shim inspect "$(sandbox_of hostile)" blocks | grep -c '"qdev"')" ] || fail "the hostile pod has $said disks, its machine was given others: $(shim inspect "$(sandbox_of hostile)" blocks | grep '"qdev"')"

  tries "folders of the node by every file system that shares them"
  for said in 9p virtiofs fuse nfs cifs; do
    ! in_it "mount -t $said host /mnt 2>/dev/null" >/dev/null || fail "the hostile pod mounted $said"
  done

  tries "the agent's port"
  said=$(in_it 'for p in /sys/class/virtio-ports/*; do n=/tmp/${p##*/}; mknod $n c $(tr : " " <$p/dev); head -c 64 /dev/urandom >$n 2>&1 && echo written; done; true')
  [[ $said != *written* ]] || fail "the hostile pod wrote to the agent's port: $said"

  tries "the node's memory by the guest's own"
  ! in_it 'test -e /dev/mem || mknod /tmp/mem c 1 1 && head -c 16 /tmp/mem' >/dev/null || fail "the guest's kernel gives out its memory"

  expect "the neighbour of a hostile pod" 10 well admin exec other -- echo well
  [ "$(in_it 'echo alive')" = alive ] || fail "the hostile pod's machine did not live through its own attempts, which is more than was expected"

  # The last: registers of its own devices, which may end its machine, and must end nothing else.
  tries "noise into the registers of all its devices"
  # The guest may lose its way to the shim by it, and the exec never end.
  timeout 10 "$kubectl" --kubeconfig "$work/admin" exec hostile -- sh -c 'for i in 1 2 3; do for c in /sys/bus/pci/devices/*/config; do dd if=/dev/urandom of=$c bs=64 count=1 conv=notrunc 2>/dev/null; done; done' >/dev/null 2>&1 || true
  expect "the neighbour of a hostile pod whose devices are noise" 10 well admin exec other -- echo well
  after=$(node sh -c "$outside")
  [ "$before" = "$after" ] || fail "a hostile pod changed files of the node: $(diff <(echo "$before") <(echo "$after"))"
  admin delete pod hostile --wait --timeout=60s >/dev/null || fail "the hostile pod can't be deleted"
  say "a guest without defences of its own reached none of:$tried"
}
