# Sourced by pods: a machine is killed while its pod writes to an emptyDir on disk. The pod's next machine has the same disk: what the
# first one said was written must be whole there, and its kernel must have replayed the journal and found nothing wrong.
# Wants what machines.sh gives.

acknowledged() { admin logs "$@" | grep -E '^f[0-9]+ ' >"$work/acknowledged"; wc -l <"$work/acknowledged"; }
enough() { [ "$(acknowledged writes "$@")" -lt 40 ] && head -c 200 "$work/acknowledged" || echo enough; }

disk_of_a_killed_machine() {
  admin apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: writes}
spec:
  runtimeClassName: freehold-microvm
  terminationGracePeriodSeconds: 1
  volumes: [{name: d, emptyDir: {}}]
  containers:
  - name: main
    image: freehold.dev/test:dev
    workingDir: /d
    volumeMounts: [{name: d, mountPath: /d}]
    # Files come, get their names and go; a line of the log is an acknowledgement of what was synced before.
    command: [sh, -c, '[ ! -e list ] || exec sleep 1000; n=0;
      while :; do n=$((n + 1)); head -c 30000 /dev/urandom >new; mv new f$n; rm -f f$((n - 20)); echo f$n $(sha256sum <f$n) >>list; sync f$n list; tail -n1 list; done']
YAML
  expect "a pod that writes" 120 enough enough
  node kill -9 "$(in_cgroup writes 'qemu-system-x86_6[4]')"
  expect "its next machine" 120 '*true*1*' admin get pod writes -o 'jsonpath={.status.containerStatuses[0].ready}{.status.containerStatuses[0].restartCount}'
  expect "the log of the machine that was killed" 20 enough enough --previous
  # What had gone on when the machine was killed is more than its log had told, so a file counts if the list says that it was to stay.
  # A last line that was not synced may be zeros: ext4 keeps a size that grew within a block apart from what was written there.
  admin exec -i writes -- sh -c 'cat >/tmp/a; while read -r line; do grep -qxF "$line" list || echo "not in the list: $line"; done </tmp/a
    last=$(sed -n "s/^f\([0-9]*\) .*/\1/p" list | tail -n1); whole=0
    while read -r name sum _; do [ ${name#f} -gt $((last - 19)) ] || continue
      if [ "$(sha256sum <$name)" = "$sum  -" ]; then whole=$((whole + 1)); else echo "not whole: $name of $last"; fi; done </tmp/a
    echo "$whole whole of $(ls | wc -l)"' <"$work/acknowledged" >"$work/found" 2>&1 || fail "the files can't be looked at: $(head -c 400 "$work/found")"
  [[ $(cat "$work/found") =~ ^1[0-9]" whole of 2"[0-3]$ ]] || fail "of $(wc -l <"$work/acknowledged") acknowledged files: $(head -c 400 "$work/found")"
  said=$(admin exec writes -- dmesg | grep -E 'EXT4-fs|JBD2') || fail "the kernel says nothing of its file systems"
  [[ $said == *'recovery complete'* ]] || fail "no journal was replayed: $said"
  ! grep -iE 'error|warning|unchecked' <<<"$said" || fail "the disk of a killed machine is not in order: $said"
  admin delete pod writes --wait --timeout=60s >/dev/null
}
