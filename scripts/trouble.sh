# Sourced by pods: trouble of a node or a guest, made on purpose: QEMU that stands still (as it does on a KVM that hangs), memory that
# is short, a kernel that panics, a disk that is full, an image that takes long. What is told on the pod must say which it is and what
# to do, and once the trouble is over the pod must run. All pods are in trouble at once, for some of it is told after a minute and more.
# Wants what machines.sh gives.

in_cgroup() { # pod, words of a command line: pids of the node
  node sh -c 'for p in /proc/[0-9]*; do grep -q "$0" $p/cgroup && tr "\0" " " <$p/cmdline | grep -q "$1" && echo ${p#/proc/}; done 2>/dev/null; true' \
    "$(admin get pod "$1" -o 'jsonpath={.metadata.uid}')" "$2"
}
events() { admin get events --field-selector "involvedObject.name=$1" -o 'jsonpath={.items[*].message}'; }
in_log() { "$cluster" logs "$name" containerd | grep "$1" | tail -n1; }
ended_by() { status "$1" main lastState.terminated.message; }
# Nobody is left with the kubelet's own words for a call that did not come back.
blunt() { admin get events -o 'jsonpath={range .items[*]}{.involvedObject.name}: {.message}{"\n"}{end}' | grep -iE '(DeadlineExceeded|context deadline exceeded)' | grep -v 'probe failed'; }

troubled() { # name, lines of the spec [class [namespace]]
  admin apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1, namespace: ${4:-default}}
spec:
  runtimeClassName: ${3:-freehold-microvm}
  terminationGracePeriodSeconds: 1
$2
YAML
}
main() { # lines of the container
  printf '  containers:\n  - name: main\n    image: freehold.dev/test:dev\n%s\n' "$1"
}

# A process of the node is stopped as soon as it is there, or has run for some hundredths of a second: one whose command line has the
# words, in the cgroup of the pod if one is named.
stop_early() { # words [pod [hundredths]]
  local uid=
  [ -z "${2:-}" ] || uid=$(admin get pod "$2" -o 'jsonpath={.metadata.uid}')
  # Without a program for each process it looks at: on a busy machine it would come too late.
  node bash -c 'while [ $SECONDS -lt 90 ]; do
    for p in /proc/[0-9]*; do
      mapfile -d "" words <$p/cmdline && mapfile cgroups <$p/cgroup && [[ ${words[*]} == *"$0"* && ${cgroups[*]} == *"$1"* && $p != /proc/$$ ]] && read -ra stat <$p/stat && [ ${stat[13]} -ge $2 ] && kill -STOP ${p#/proc/} && echo ${p#/proc/} && exit
    done 2>/dev/null
  done' "$1" "$uid" "${3:-0}"
}

# An image with one layer that takes the converter about a second.
slow_image() {
  shell_layer "$work/slow"
  head -c 67108864 /dev/urandom >"$work/slow/much"
  load_image freehold.dev/slow:dev "$work/slow"
  rm -r "$work/slow"
}

trouble() {
  local pid converter boots
  trouble_of_a_crowd
  trouble_of_layers
  slow_image
  admin apply -f - >/dev/null <<'YAML'
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: too-small}
handler: freehold-microvm
overhead: {podFixed: {memory: 16Mi}}
YAML
  troubled slow '  containers: [{name: main, image: freehold.dev/slow:dev, imagePullPolicy: Never, command: [sleep, "1000"]}]'
  converter=$(stop_early erofs/bin/mkfs.erofs)
  [ -n "$converter" ] || fail "the converter of a layer was never there to be stopped"
  troubled hangs-at-boot "$(main '    command: [sleep, "1000"]')"
  boots=$(stop_early bin/qemu-system-x86_64 hangs-at-boot)
  [ -n "$boots" ] || fail "a QEMU that boots was never there to be stopped"
  troubled starves-at-boot "$(main '    command: [sleep, "1000"]
    resources: {limits: {memory: 16Mi}}')" too-small
  troubled hangs "$(main '    command: [sh, -c, "mkdir /www; exec httpd -f -p 8080 -h /www"]
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 2, timeoutSeconds: 5, failureThreshold: 3}')"
  troubled starves "$(main '    command: [sleep, "1000"]
    resources: {limits: {memory: 128Mi}}')"
  troubled panics "$(main '    command: [sleep, "1000"]
    securityContext: {privileged: true}
    resources: {limits: {memory: 32Mi}}')"
  troubled full "  volumes: [{name: d, emptyDir: {}}]
  initContainers: [{name: waits, image: freehold.dev/test:dev, command: [sh, -c, 'until [ -e /go ]; do sleep 0.2; done']}]
$(main '    command: [sleep, "1000"]
    volumeMounts: [{name: d, mountPath: /d}]')"

  trouble_of_disk
  trouble_of_memory
  trouble_of_machines
  expect "layers that take long are told" 60 '*still being made into disks, 0 of 1 are done*' events slow
  node kill -CONT "$converter"
  expect "the pod runs once they are done" 90 '*true*' status slow main ready
  say "an image that takes long is told"
  ! blunt >&2 || fail "somebody was told only that a deadline was exceeded"
  admin delete pod slow hangs hangs-at-boot starves starves-at-boot panics full --wait --timeout=90s >/dev/null
}

# As many machines of one namespace as may boot at once stand still in the midst of it: others of that namespace wait, those of another do not.
trouble_of_a_crowd() {
  local n pid seats stopped=()
  seats=$(nproc)
  for n in $(seq "$seats"); do
    troubled "crowd-$n" "$(main '    command: [sleep, "1000"]')"
    pid=$(stop_early bin/qemu-system-x86_64 "crowd-$n" 50)
    [ -n "$pid" ] || fail "a QEMU that boots was never there to be stopped"
    stopped+=("$pid")
  done
  troubled waits "$(main '    command: [sleep, "1000"]')"
  troubled elsewhere "$(main '    command: [sleep, "1000"]')" freehold-microvm kube-public
  expect "a pod of another namespace" 50 '*true*' admin get pod elsewhere --namespace kube-public -o 'jsonpath={.status.containerStatuses[0].ready}'
  for n in $(seq "$seats"); do
    [ -n "$(in_cgroup "crowd-$n" 'qemu-system-x86_6[4]')" ] || fail "a machine that stands still was given up before the last of $seats stood: this test wants fewer processors"
  done
  [ -z "$(in_cgroup waits 'qemu-system-x86_6[4]')" ] || fail "more than $seats machines of one namespace boot at once"
  node kill -CONT "${stopped[@]}"
  expect "a pod that waited for its turn" 90 '*true*' status waits main ready
  for n in $(seq "$seats"); do expect "a pod that stood still" 90 '*true*' status "crowd-$n" main ready; done
  admin delete pod elsewhere --namespace kube-public --wait --timeout=60s >/dev/null
  admin delete pod waits $(seq -f 'crowd-%g' "$seats") --wait --timeout=60s >/dev/null
  say "a crowd that boots holds up its own namespace alone"
}

# A file system that has no room for a layer lies over where layers are kept.
trouble_of_layers() {
  node mount -t tmpfs -o size=64k full /var/lib/freehold/layers
  troubled no-room "$(main '    command: [sleep, "1000"]')"
  expect "a disk that is full when a layer is made is told" 60 '*image layer*No space left*disk is full; free space*' events no-room
  node umount -l /var/lib/freehold/layers # a try may be at it
  expect "a pod whose layers have room again" 90 '*true*' status no-room main ready
  admin delete pod no-room --wait --timeout=60s >/dev/null
  say "a disk that is full when a layer is made is told"
}

trouble_of_disk() {
  local folder
  folder=/var/lib/kubelet/pods/$(admin get pod full -o 'jsonpath={.metadata.uid}')/volumes/kubernetes.io~empty-dir
  expect "the pod whose disk will be full" 90 '*20*' admin get pod full -o 'jsonpath={.status.initContainerStatuses[0].state.running.startedAt}'
  node sh -c "mount -t tmpfs -o size=16k full $folder && mkdir $folder/d && chmod 777 $folder/d"
  admin exec full -c waits -- touch /go
  expect "a full disk is told" 60 '*writable disk*No space left*disk is full; free space*' events full
  node mount -o remount,size=8m "$folder"
  expect "a pod whose disk has room again" 90 '*true*' status full main ready
  said=$(admin exec full -- sh -c 'dd if=/dev/zero of=/d/much bs=1M count=32 conv=fsync 2>&1; true')
  [[ $said == *"No space left"* || $said == *"I/O error"* ]] || fail "what was written to a full disk was not refused: $said"
  [ "$(admin exec full -- echo lives)" = lives ] || fail "the machine does not outlive a full disk"
  node umount -l "$folder"
  say "a full disk is told, and ends no machine"
}

trouble_of_memory() {
  local file
  expect "a machine beyond its pod's memory is told at boot" 60 '*RuntimeClass.overhead*' events starves-at-boot
  expect "a pod to starve" 90 '*true*' status starves main ready
  # The machine's own cgroup gets a limit near to what it uses, where a pod's limit would be.
  node sh -c 'cd "$(for f in /sys/fs/cgroup/memory /sys/fs/cgroup; do find $f -type d -path "*$0/*"; done 2>/dev/null | head -n1)" && if [ -e memory.max ]; then
    echo $(($(cat memory.current) + 8388608)) >memory.max; else echo $(($(cat memory.usage_in_bytes) + 8388608)) >memory.limit_in_bytes; fi' "$(admin get pod starves -o 'jsonpath={.metadata.uid}')"
  admin exec starves -- sh -c 'head -c 100m /dev/zero | tail -c 100m | wc -c' >/dev/null 2>&1 || true
  expect "a machine killed for want of memory is told as such" 30 '*want of memory*RuntimeClass.overhead*' ended_by starves
  say "want of memory is told, at boot and later"
}

trouble_of_machines() {
  expect "a pod to panic" 90 '*true*' status panics main ready
  admin exec panics -- sh -c 'mknod /kmsg c 1 11 && echo "<3>an error of the kernel" >/kmsg'
  said=$(shim inspect "$(sandbox_of panics)" console)
  [[ $said == *"an error of the kernel"* ]] || fail "the console of a guest does not show what its kernel says: $said"
  admin exec panics -- sh -c 'echo 2 >/proc/sys/vm/panic_on_oom; dd if=/dev/zero of=/dev/null bs=64M count=1' >/dev/null 2>&1 || true
  expect "a panic of the guest's kernel is told" 30 "*guest's kernel panicked*Kernel panic*" ended_by panics
  expect "a panic in containerd's log" 10 '*Kernel panic*' in_log 'panic=.*Kernel panic'
  expect "a pod to hang" 90 '*true*' status hangs main ready
  pid=$(in_cgroup hangs 'qemu-system-x86_6[4]')
  node kill -STOP "$pid"
  said=$(admin --request-timeout=60s exec hangs -- true 2>&1) || true
  [[ $said == *"the guest did not answer"*hangs*"delete the pod"* ]] || fail "an exec in a machine that stands still says $said"
  expect "a machine that stands still is ended and told" 90 '*shim ended it: the guest did not answer*' ended_by hangs
  expect "its pod runs again" 60 '*true*' status hangs main ready
  say "a panic and a machine that stands still are told"
  expect "a machine that stands still at boot is told" 90 '*did not answer*hangs*' events hangs-at-boot
  expect "its pod runs after all" 90 '*true*' status hangs-at-boot main ready
  say "a machine that stands still at boot is told"
}
