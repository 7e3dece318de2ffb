//! What many tenants cost: the operator and the webhook, the API server's authorizer, and somebody who only writes the same objects.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use freehold_crds::{BOUNDARY_NAME, Boundary, Tenant};
use freehold_e2e::live::{BINDING, BOUNDARY, CLUSTER_BINDING, CLUSTER_ROLE, LIMITS, POLICY, QUOTA, api};
use freehold_e2e::{people, wait};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::AT_ONCE;

/// Longest wait for all tenants to be guarded, and then for nothing to be written any more.
const LIMIT: Duration = Duration::from_secs(1800);
const REST_LIMIT: Duration = Duration::from_secs(300);
/// How long nothing may have been written before that counts as rest, and how long writes are counted from then on.
const STILL: Duration = Duration::from_secs(15);
const REST: Duration = Duration::from_secs(60);
/// Time between two looks: each costs the API server something.
const LOOK: Duration = Duration::from_secs(1);
/// How names of many tenants begin, and those of their namespaces; and what replaces the first of them where only writing is measured.
const MANY: &str = "many-";
const BARE: &str = "bare-";
/// Namespaces of each of many tenants.
const NAMESPACES_EACH: usize = 3;
/// Requests of one owner, by which the authorizer is measured.
const REQUESTS: usize = 1000;
/// The kernel's clock ticks a second, as /proc/PID/stat counts (USER_HZ on every Linux).
const TICKS: f64 = 100.0;

/// What many tenants cost.
#[derive(Serialize, Deserialize)]
pub struct Cost {
    count: usize,
    /// Until every Boundary was there.
    seconds: f64,
    /// Until as many objects were there that somebody wrote who does nothing else.
    bare: f64,
    objects: usize,
    operator_seconds: f64,
    operator_mib: f64,
    webhook_mib: f64,
    /// Writes of the operator within a minute at rest.
    at_rest: f64,
    /// Microseconds of the API server's authorizer for a request of an owner: before, with all, and with all where owners don't see their Tenants.
    allowed: [f64; 3],
    denied: [f64; 3],
}

/// Processor seconds and resident MiB of one process.
#[derive(Clone, Copy, Default)]
struct Usage {
    seconds: f64,
    mib: f64,
}

/// Processor time and memory of a program on the node: the one summed, the other the largest of its processes.
fn usage(program: &str) -> anyhow::Result<Usage> {
    let way = std::env::var("FREEHOLD_NODE").context("FREEHOLD_NODE is not set: run scripts/bench-boundary")?;
    let script = r#"for p in /proc/[0-9]*; do
        [ "$(tr '\0' '\n' <"$p/cmdline" 2>/dev/null | head -n1 | sed 's:.*/::')" = "$0" ] || continue
        read -r line <"$p/stat"; rest=${line##*) }; set -- $rest
        echo "$((${12} + ${13})) $(sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "$p/status")"
    done"#;
    let mut words = way.split_whitespace();
    let output =
        Command::new(words.next().context("FREEHOLD_NODE is empty")?).args(words).args(["sh", "-c", script, program]).output()?;
    ensure!(output.status.success(), "the node: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut sum = Usage::default();
    let mut found = 0;
    for line in text.lines() {
        let (ticks, kib) = line.split_once(' ').context("a process without figures")?;
        sum.seconds += ticks.parse::<f64>()? / TICKS;
        sum.mib = sum.mib.max(kib.parse::<f64>()? / 1024.0);
        found += 1;
    }
    ensure!(found > 0, "no process {program} on the node");
    Ok(sum)
}

/// Applies many Tenants at once, waits for all guards and for rest, and looks at our programs and at the API server.
///
/// # Errors
/// If something was refused, or is not there within its time.
pub async fn measure(count: usize) -> anyhow::Result<Cost> {
    let (platform, alice) = (people::client("FREEHOLD_KUBECONFIG").await?, people::client("FREEHOLD_KUBECONFIG_ALICE").await?);
    let before = (authorized(&platform, &alice, true).await?, authorized(&platform, &alice, false).await?);
    let operator_before = usage("freehold-operator")?;
    let began = Instant::now();
    apply(&platform, count).await?;
    guarded(&platform, count).await?;
    let seconds = began.elapsed().as_secs_f64();
    rest(&platform).await?;
    let (operator, webhook, written) = (usage("freehold-operator")?, usage("freehold-webhook")?, writes(&platform).await?);
    tokio::time::sleep(REST).await;
    let at_rest = writes(&platform).await? - written;
    let after = (authorized(&platform, &alice, true).await?, authorized(&platform, &alice, false).await?);
    eprintln!("authorized, µs: before {before:?}, with {count} tenants {after:?}");
    hide(&platform).await?;
    let unseen = (authorized(&platform, &alice, true).await?, authorized(&platform, &alice, false).await?);
    eprintln!("authorized, µs: where owners don't see their Tenants {unseen:?}");
    let (bare, objects) = write_bare(&platform, count).await?;
    Ok(Cost {
        count,
        seconds,
        bare,
        objects,
        operator_seconds: operator.seconds - operator_before.seconds,
        operator_mib: operator.mib,
        webhook_mib: webhook.mib,
        at_rest,
        allowed: [before.0, after.0, unseen.0],
        denied: [before.1, after.1, unseen.1],
    })
}

async fn apply(platform: &Client, count: usize) -> anyhow::Result<()> {
    let all: Api<Tenant> = Api::all(platform.clone());
    let each = |n: usize| {
        let all = &all;
        async move {
            let name = format!("{MANY}{n}");
            let declared: Vec<_> = (0..NAMESPACES_EACH).map(|k| json!({"name": format!("{name}-{k}")})).collect();
            let tenant = json!({
                "apiVersion": "freehold.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name},
                "spec": {"owners": [{"kind": "User", "name": format!("owner-{n}")}], "namespaces": {"declared": declared},
                    "quota": {"hard": {"requests.cpu": "4", "pods": "20"}}},
            });
            all.patch(&name, &PatchParams::apply("bench"), &Patch::Apply(&tenant)).await.map(drop)
        }
    };
    futures::stream::iter(0..count).map(each).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(())
}

/// Waits until every namespace has its Boundary.
async fn guarded(platform: &Client, count: usize) -> anyhow::Result<()> {
    let boundaries: Api<Boundary> = Api::all(platform.clone());
    let wanted = count * NAMESPACES_EACH;
    wait::until("every namespace's Boundary", LIMIT, async || {
        // A whole list only once the number is there: it would cost the API server more than what is measured.
        let one = boundaries.list_metadata(&ListParams::default().limit(1)).await?;
        let there = one.items.len() + usize::try_from(one.metadata.remaining_item_count.unwrap_or(0)).unwrap_or(0);
        if there < wanted {
            tokio::time::sleep(LOOK).await;
            anyhow::bail!("{there} Boundaries");
        }
        let all = boundaries.list_metadata(&ListParams::default().match_any()).await?.items;
        let is = all.iter().filter(|one| one.namespace().is_some_and(|name| name.starts_with(MANY))).count();
        ensure!(is >= wanted, "{is} Boundaries");
        Ok(())
    })
    .await
}

/// Waits until the operator writes nothing more.
async fn rest(platform: &Client) -> anyhow::Result<()> {
    let (mut last, mut since) = (writes(platform).await?, Instant::now());
    let began = Instant::now();
    while since.elapsed() < STILL {
        ensure!(began.elapsed() < REST_LIMIT, "the operator still writes after {} s", REST_LIMIT.as_secs());
        tokio::time::sleep(LOOK).await;
        let now = writes(platform).await?;
        if now > last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// Sums the samples of a metric that have all of these words in their labels.
fn sum(text: &str, metric: &str, words: &str) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(metric)?.strip_prefix('{')?;
        let (labels, value) = rest.rsplit_once("} ")?;
        labels.contains(words).then(|| value.split_whitespace().next()?.parse::<f64>().ok())?
    };
    text.lines().filter_map(value).sum()
}

/// What the leading operator has written so far.
async fn writes(platform: &Client) -> anyhow::Result<f64> {
    let pods: Api<Pod> = Api::namespaced(platform.clone(), "freehold-system");
    let mut written = 0.0;
    for pod in pods.list(&ListParams::default().labels("app.kubernetes.io/name=freehold-operator")).await? {
        let path = format!("/api/v1/namespaces/freehold-system/pods/{}:8081/proxy/metrics", pod.name_any());
        let text = platform.request_text(http::Request::get(path).body(Vec::new())?).await?;
        ensure!(text.contains("freehold_operator_"), "the operator's metrics have none of its own");
        written += sum(&text, "freehold_operator_writes_total", "");
    }
    Ok(written)
}

/// Mean microseconds that the API server's authorizer takes for a request of an owner's: for one that is allowed by the last binding that it looks
/// at, in a namespace, or for one that nothing allows.
async fn authorized(platform: &Client, alice: &Client, allowed: bool) -> anyhow::Result<f64> {
    let (path, result) = if allowed {
        ("/api/v1/namespaces/cost-dev/pods?limit=1", "allowed")
    } else {
        ("/api/v1/namespaces/kube-system/secrets?limit=1", "no-opinion")
    };
    let figures = async || {
        let text = platform.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
        let of = |part: &str| sum(&text, &format!("authorization_duration_seconds_{part}"), &format!("result=\"{result}\""));
        anyhow::Ok((of("sum"), of("count")))
    };
    let before = figures().await?;
    for _ in 0..REQUESTS {
        let said = alice.request_text(http::Request::get(path).body(Vec::new())?).await;
        ensure!(said.is_ok() == allowed, "{path} as alice: {said:?}");
    }
    let after = figures().await?;
    ensure!(after.1 >= before.1 + REQUESTS as f64, "the API server counted {} requests", after.1 - before.1);
    Ok((after.0 - before.0) / (after.1 - before.1) * 1e6)
}

/// Writes what the operator made for one tenant once more for as many, under other names and in namespaces of nobody's; gives seconds, and objects.
async fn write_bare(platform: &Client, count: usize) -> anyhow::Result<(f64, usize)> {
    let first = format!("{MANY}0");
    let of = ListParams::default().labels(&format!("{}={first}", freehold_crds::TENANT_LABEL));
    let (mut cluster, mut inside) = (Vec::new(), Vec::new());
    for kind in [CLUSTER_ROLE, CLUSTER_BINDING] {
        let found = api(platform, kind, None).list(&of).await?;
        cluster.extend(found.into_iter().map(|object| (kind, plain(object))));
    }
    // The Boundary last, as the operator does.
    for kind in [QUOTA, LIMITS, POLICY, BINDING, BOUNDARY] {
        let found = api(platform, kind, None).list(&of).await?;
        inside.extend(found.into_iter().map(|object| (kind, plain(object))));
    }
    ensure!(inside.iter().any(|(_, object)| object["metadata"]["name"] == BOUNDARY_NAME), "{first} has no Boundary");
    let began = Instant::now();
    let each = |n: usize| {
        let (cluster, inside, first) = (&cluster, &inside, &first);
        async move {
            let name = format!("{BARE}{n}");
            let renamed = |object: &Value| -> anyhow::Result<Value> {
                Ok(serde_json::from_str(&object.to_string().replace(first.as_str(), &name))?)
            };
            for (kind, object) in cluster {
                put(platform, *kind, renamed(object)?).await?;
            }
            let namespaces: Api<Namespace> = Api::all(platform.clone());
            for k in 0..NAMESPACES_EACH {
                let namespace = freehold_e2e::objects::namespace(&format!("{name}-{k}"), None);
                namespaces.create(&PostParams::default(), &namespace).await?;
            }
            for (kind, object) in inside {
                put(platform, *kind, renamed(object)?).await?;
            }
            anyhow::Ok(())
        }
    };
    futures::stream::iter(0..count).map(each).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok((began.elapsed().as_secs_f64(), count * (cluster.len() + NAMESPACES_EACH + inside.len())))
}

/// Takes owners the right to see their Tenants, as the chart's `operator.ownersSeeTenants: false` does; waits until nothing is left that gave it.
async fn hide(platform: &Client) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(platform.clone(), "freehold-system");
    let mut operator = deployments.get("freehold-operator").await?;
    let containers = operator.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()).map(|spec| &mut spec.containers);
    let args = containers.and_then(|containers| containers[0].args.as_mut()).context("the operator has no arguments")?;
    let said = args.iter_mut().find(|arg| **arg == "--owners-see-tenants=true").context("owners don't see their Tenants")?;
    *said = "--owners-see-tenants=false".to_owned();
    deployments.replace("freehold-operator", &PostParams::default(), &operator).await?;
    let bindings = api(platform, CLUSTER_BINDING, None);
    wait::until("bindings across the cluster to go", LIMIT, async || {
        let all = bindings.list_metadata(&ListParams::default()).await?.items;
        let is_one = |name: &str| name.starts_with("freehold-tenant-");
        let left: Vec<String> = all.iter().map(|binding| binding.name_any()).filter(|name| is_one(name)).collect();
        if !left.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        ensure!(left.is_empty(), "{} are left", left.len());
        Ok(())
    })
    .await
}

/// An object as somebody would write it who is not the operator: without our labels, and without what the API server fills in.
fn plain(object: DynamicObject) -> Value {
    let (name, namespace) = (object.name_any(), object.namespace());
    let mut document = object.data;
    document["metadata"] = json!({"name": name, "namespace": namespace});
    if let Some(fields) = document.as_object_mut() {
        fields.remove("status");
    }
    document
}

async fn put(client: &Client, kind: [&str; 3], mut document: Value) -> anyhow::Result<()> {
    document["apiVersion"] = kind[0].into();
    document["kind"] = kind[1].into();
    let metadata = &document["metadata"];
    let (name, namespace) =
        (metadata["name"].as_str().unwrap_or_default().to_owned(), metadata["namespace"].as_str().map(str::to_owned));
    let applied =
        api(client, kind, namespace.as_deref()).patch(&name, &PatchParams::apply("bench"), &Patch::Apply(&document)).await;
    applied.map(drop).with_context(|| format!("{} {name}", kind[1]))
}

impl Cost {
    /// In words.
    pub fn words(&self) -> String {
        let Cost { count, seconds, bare, objects, operator_seconds, operator_mib, webhook_mib, at_rest, allowed, denied } = self;
        format!(
            "\n{count} Tenants with {NAMESPACES_EACH} declared namespaces each, applied at once: every Boundary was there after {seconds:.0} s. \
             The operator took {operator_seconds:.1} s of processor time until it was at rest, and then held {operator_mib:.0} MiB resident, \
             a webhook replica {webhook_mib:.0} MiB. In the minute after that it wrote {at_rest:.0} objects.\n\n\
             Somebody who only writes as many such objects ({objects}, as many at once) took {bare:.0} s: {:.2} x.\n\n\
             | the API server's authorizer, µs a request of an owner | before | with all these tenants' grants | and `operator.ownersSeeTenants: false` |\n|---|---|---|---|\n\
             | allowed, by a binding in a namespace | {:.1} | {:.1} | {:.1} |\n| allowed by nothing | {:.1} | {:.1} | {:.1} |\n\n\
             RBAC looks through ClusterRoleBindings, of which a Tenant has one and all Tenants share 64, until one allows a request, and only then at those of its \
             namespace: many tenants cost all whose rights lie in a namespace, or who have none.",
            seconds / bare,
            allowed[0],
            allowed[1],
            allowed[2],
            denied[0],
            denied[1],
            denied[2],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_label() {
        let text = "# HELP x\nx_sum{result=\"allowed\"} 1.5\nx_sum{result=\"denied\"} 2\nx_sum_more{result=\"allowed\"} 9\nx_sum{result=\"allowed\",a=\"b\"} 1e1\n";
        assert_eq!((sum(text, "x_sum", "result=\"allowed\""), sum(text, "x_sum", "")), (11.5, 13.5));
    }
}
