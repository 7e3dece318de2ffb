# Sourced by pods, bench and e2e: machines that begin as clones of their tenant's template, and those that must not. Wants what machines.sh gives.
shim() { node "$bundle/bin/containerd-shim-freehold-v2" "$@"; }
handler=/opt/freehold/handlers/freehold-microvm.toml
templates=/var/lib/freehold/templates
# What the node agent does every 16 s: shims believe a map for a minute.
tenants() { node sh -c "mkdir -p $templates && echo '{\"namespaces\":{\"default\":\"tenant-a\",\"kube-public\":\"tenant-b\"}}' >$templates/new && mv $templates/new $templates/tenants.json"; }
machine() { # name namespace
  admin apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1, namespace: $2}
spec:
  runtimeClassName: freehold-microvm
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: freehold.dev/test:dev, command: [sleep, "1000"]}]
YAML
}
up() { admin get pod "$1" --namespace "$2" -o 'jsonpath={.status.phase}'; }
sandbox_of() { node sh -c 'cd /run/containerd/io.containerd.runtime.v2.task/k8s.io && grep -l "\"io.kubernetes.cri.container-type\":\"sandbox\"" */config.json | xargs grep -l "\"io.kubernetes.cri.sandbox-name\":\"$0\"" | cut -d/ -f1' "$1"; }
began_as() { [[ $(shim inspect "$(sandbox_of "$1")" arguments) == *'"-incoming"'* ]] && echo clone || echo cold; }
# What no two machines may have in common, one a line: the kernel's and a process's random numbers, and where a process lies.
own='cat /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid
  grep -o "^[0-9a-f]*.*\[stack\]" /proc/self/maps | cut -d- -f1; grep "\[vdso\]" /proc/self/maps | cut -d- -f1'

clones() {
  local one line said
  tenants
  said=$(shim templates --config "$handler" --tenant tenant-a) || fail "no template was made: $said"
  [[ $said == *'"made":1'* ]] || fail "no template was made: $said"
  say "a template: $said"
  [ "$(node sh -c "stat -c %a:%u $templates/*/memory $templates/*/state" | sort -u)" = 444:0 ] || fail "a template's files are not sealed"
  local sealed
  sealed=$(node sh -c "sha256sum $templates/*/memory $templates/*/state")
  tenants
  machine clone-1 default && machine clone-2 default && machine foreign kube-public
  for one in clone-1 clone-2; do expect "$one" 60 Running up $one default; done
  expect "a pod of another tenant" 60 Running up foreign kube-public
  for one in clone-1 clone-2; do [ "$(began_as $one)" = clone ] || fail "$one is no clone of its tenant's template"; done
  [ "$(began_as foreign)" = cold ] || fail "a pod began as a clone of another tenant's template"
  expect "the wish for a template of its own" 5 tenant-b node ls $templates/wanted

  for one in 1 2; do
    admin exec clone-$one -- sh -c "$own" >"$work/own.$one" || fail "clone-$one can't be asked"
    [ "$(wc -l <"$work/own.$one")" = 5 ] || fail "clone-$one said too little: $(cat "$work/own.$one")"
    admin exec -i clone-$one -- sh -c 'cat >/sequence; chmod +x /sequence; /sequence' <e2e/cluster/bin/sequence >"$work/sequence.$one" || fail "clone-$one has no sequence number"
  done
  line=$(paste "$work/own.1" "$work/own.2" | awk -F'\t' '$1 == $2') && [ -z "$line" ] || fail "two clones have in common: $line"
  # One secret would leave a difference of the measure's own, some ms of 64 ns. Two secrets come within 2^22 steps (0.3 s) once in 512
  # times, and for both connections once in 262144.
  paste "$work/sequence.1" "$work/sequence.2" | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 2147483648) d = 4294967296 - d; if (d >= 4194304) far = 1 } END { exit !far }' ||
    fail "two clones' first sequence numbers are made of one secret: $(cat "$work"/sequence.?)"
  for one in 1 2; do
    said=$(admin exec clone-$one -- date +%s)
    [ $((said - $(date +%s))) -ge -2 ] && [ $((said - $(date +%s))) -le 2 ] || fail "clone-$one has the time of its template: $said, not $(date +%s)"
  done
  [ "$sealed" = "$(node sh -c "sha256sum $templates/*/memory $templates/*/state")" ] || fail "clones changed their template"

  # A damaged one is never used: the pod boots, and the wish for a whole one is there.
  tenants
  node sh -c "rm -f $templates/wanted/*; f=\$(ls $templates/*/state); chmod 644 \$f; printf x | dd of=\$f bs=1 seek=1000 conv=notrunc 2>/dev/null; chmod 444 \$f"
  machine damaged default
  expect "a pod whose template is damaged" 60 Running up damaged default
  [ "$(began_as damaged)" = cold ] || fail "a pod began as a clone of a damaged template"
  expect "the wish for a whole template" 5 tenant-a node ls $templates/wanted
  # One whose damage the seal does not show does not wake: the pod boots all the same.
  shim templates --config "$handler" >/dev/null || fail "no template was made anew"
  tenants
  node sh -c "f=\$(ls $templates/*/memory); chmod 644 \$f; s=\$(stat -c %s \$f); truncate -s 0 \$f; truncate -s \$s \$f; chmod 444 \$f"
  machine empty default
  expect "a pod whose template's memory is lost" 90 Running up empty default
  [ "$(began_as empty)" = cold ] || fail "a pod runs from a template without memory"
  admin delete pod clone-1 clone-2 damaged empty --wait --timeout=60s >/dev/null
  admin delete pod foreign --namespace kube-public --wait --timeout=60s >/dev/null
  # A map that nobody renews is not believed.
  shim templates --config "$handler" --tenant tenant-a >/dev/null || fail "no template was made anew"
  node touch -d '2 minutes ago' $templates/tenants.json
  machine late default
  expect "a pod under an old map" 60 Running up late default
  [ "$(began_as late)" = cold ] || fail "a map of two minutes ago was believed"
  admin delete pod late --wait --timeout=60s >/dev/null
  # Whoever waits behind a tenant whose template can't be made gets theirs: the first one's, damaged, can't be moved out of the way.
  node sh -c "cd $templates && rm -f wanted/* && key=\$(ls */state | cut -d/ -f1) && echo '{' >\$key/seal.json && mkdir .gone-\$key &&
    touch .gone-\$key/x wanted/tenant-b && touch -d '1 minute ago' wanted/tenant-a" || fail "a template can't be damaged"
  said=$(shim templates --config "$handler" 2>&1) && fail "a template was made where another one is in the way: $said"
  [[ $said == *'"made":1,'*"can't make 1 of 2 templates: tenant-a: "* ]] || fail "a template that can't be made, and another tenant's behind it: $said"
  [ -z "$(node ls $templates/wanted)" ] || fail "wishes that were looked at are still there: $(node ls $templates/wanted)"
  node rm -r $templates
}
