# Sourced by demo and e2e: from a checkout to a cluster with Freehold in it. Both show the same product, set up the same way.
# Wants: $name (of the cluster), $work (a folder for kubeconfigs); takes $stack (--dual-stack) and FREEHOLD_IMAGES (a folder that xtask images made). Gives: cluster, kubectl, helm, images, say, admin, node.
cluster=e2e/cluster/bin/cluster
began=${began:-$SECONDS}
times=()
say() { printf '[%4d s] %s\n' $((SECONDS - began)) "$1" >&2; }

# Runs a command as a named step and keeps how long it took. Never call it behind || or if: bash then forgets set -e inside.
step() { # what command…
  local what=$1 start=$SECONDS
  shift
  say "$what"
  "$@"
  times+=("$(printf '%6d s  %s' $((SECONDS - start)) "$what")")
}
where_time_went() { printf 'where time went (%d s in all):\n' $((SECONDS - began)); printf '%s\n' "${times[@]}"; }

admin() { "$kubectl" --kubeconfig "$work/admin.kubeconfig" --request-timeout=20s "$@"; }
node() { "$cluster" exec "$name" -- "$@"; }

stage_build() {
  (cd e2e/cluster && CGO_ENABLED=0 GOWORK=off go build -trimpath -buildvcs=false -ldflags '-s -w' -o bin/ ./cmd/cluster)
  "$cluster" build
  images=${FREEHOLD_IMAGES:-$(cargo run --quiet --package xtask -- images)}
}

stage_up() {
  "$cluster" up "$name" ${stack:+"$stack"}
  kubectl=$("$cluster" path kubectl) helm=$("$cluster" path helm)
  "$cluster" kubeconfig "$name" >"$work/admin.kubeconfig"
  local person
  for person in alice bob; do "$cluster" kubeconfig "$name" --user "$person" >"$work/$person.kubeconfig"; done
  # Without this, what comes after would prove nothing.
  ! admin get nodes -o jsonpath='{.items[*].status.runtimeHandlers[*].name}' | grep -q freehold ||
    { echo "the node knows a handler of Freehold before Freehold was installed" >&2; return 1; }
  "$cluster" load "$name" "$images"/{operator,webhook,runtime-installer,network-enforcer,dns}.tar >/dev/null
}

# The chart (or the one that $chart names) as on a cluster of one's own, but for what this machine is: no systemd, images loaded by hand, and no KVM that can be relied on.
stage_install() { # further helm arguments…
  local tag
  tag=$(sed -n 's/.*"operator": *"[^"]*:\([^":]*\)".*/\1/p' "$images/images.json")
  "$helm" --kubeconfig "$work/admin.kubeconfig" install freehold "${chart:-charts/freehold}" --namespace default \
    --set image.tag="$tag" --set image.pullPolicy=Never --set installer.restartCommand=restart-containerd \
    --set runtime.emulation=Allow "$@" >"$work/helm.log" 2>&1 ||
    { echo "the chart could not be installed:" >&2; tail -n 20 "$work/helm.log" >&2; return 1; }
}

# Until the installer has proved the runtime on the node, and both programs answer.
stage_proved() {
  local end=$((SECONDS + 240)) said='' last=''
  until [ "$(admin get sandboxruntime microvm -o jsonpath='{.status.nodes.ready}' 2>/dev/null)" = 1 ]; do
    said=$(admin get noderuntimes -o jsonpath='{range .items[*]}{.metadata.name}: {.status.conditions[0].reason}: {.status.conditions[0].message}{end}' 2>/dev/null) || true
    [ "$said" = "$last" ] || { last=$said; say "the node says ${said:0:200}"; }
    [ $SECONDS -lt $end ] || { echo "no node proved the runtime within 240 s; it said: ${said:-nothing}" >&2; stage_words >&2; return 1; }
    sleep 0.5
  done
  say "proved: $(admin get noderuntimes -o jsonpath='{range .items[*]}{.metadata.name} ran a machine ({.status.acceleration}), kernel {.status.canary.kernelRelease}, in {.status.canary.startMilliseconds} ms{end}')"
  local program
  for program in operator webhook; do
    admin rollout status "deployment/freehold-$program" --namespace freehold-system --timeout=60s >/dev/null ||
      { echo "the $program is not available after 60 s" >&2; stage_words >&2; return 1; }
  done
  [ -z "$(admin get daemonset freehold-network-enforcer --namespace freehold-node --ignore-not-found -o name)" ] ||
    admin rollout status daemonset/freehold-network-enforcer --namespace freehold-node --timeout=60s >/dev/null ||
    { echo "the network enforcer is not available after 60 s" >&2; stage_words >&2; return 1; }
}

# The last words of whatever may explain a failure.
stage_words() {
  admin get pods --all-namespaces -o wide || true
  admin get events --all-namespaces --field-selector type=Warning --sort-by=.lastTimestamp 2>/dev/null | tail -n 10 | cut -c1-400 || true
  local of
  for of in freehold-system/deployment/freehold-operator freehold-system/deployment/freehold-webhook freehold-node/daemonset/{freehold-runtime-installer,freehold-network-enforcer}; do
    echo "last words of ${of##*/}:"
    admin logs --namespace "${of%%/*}" "${of#*/}" --tail=12 2>&1 | cut -c1-500 || true
  done
}
