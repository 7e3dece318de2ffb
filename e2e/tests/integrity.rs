//! Other ways to the same object: every one meets the same boundary, whoever takes it.
#![cfg(feature = "live")]

use anyhow::ensure;
use freehold_e2e::live::{BINDING, POLICY, SOON, TENANT, api, grant, home, tenant};
use freehold_e2e::tried::named;
use freehold_e2e::{Answer, Layer, People, Tried, objects, wait};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

fn post() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

fn dry() -> PatchParams {
    PatchParams { dry_run: true, ..PatchParams::default() }
}

fn applied() -> PatchParams {
    PatchParams { dry_run: true, force: true, ..PatchParams::apply("attacks") }
}

fn on_node(name: &str) -> Pod {
    objects::pod(name, "true", &[("/hostNetwork", json!(true))])
}

/// The versions of a group that the API server serves.
async fn versions(client: &Client, group: &str) -> anyhow::Result<Vec<String>> {
    let groups = client.list_api_groups().await?.groups;
    let found = groups.into_iter().find(|one| one.name == group);
    Ok(found.into_iter().flat_map(|one| one.versions).map(|one| one.version).collect())
}

/// Rows H2, H4, H6, H9 and I3.
#[tokio::test]
async fn every_way_to_an_object_is_judged() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let (name, mut tried) = (named("ways"), Tried::from_environment());
    let own = home(&people, &name, json!({})).await?;
    let pods: Api<Pod> = Api::namespaced(people.alice.clone(), &own);
    let nowhere = objects::pod("there", "true", &[("/nodeSelector", json!({"no": "node"}))]);
    pods.create(&PostParams::default(), &nowhere).await?;
    let ways = json!([
        {"apiGroups": ["resource.k8s.io"], "resources": ["resourceclaims"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "verbs": ["patch"]},
    ]);
    grant(&people, "e2e-ways", Some(&own), ways).await?;

    // H1: in whatever state the webhook is.
    for (what, path, value) in objects::hostile_pods() {
        tried.attack("H1", what, &Answer::of(pods.create(&post(), &objects::pod("p", "true", &[(path, value)])).await)?);
    }
    tried.control("H1", "a pod in a machine", &Answer::of(pods.create(&post(), &objects::pod("p", "true", &[])).await)?);

    // H2: server-side apply, subresources, scale, eviction.
    tried.attack("H2", "server-side apply", &Answer::of(pods.patch("p", &applied(), &Patch::Apply(&on_node("p"))).await)?);
    let compliant = objects::pod("p", "true", &[]);
    tried.control("H2", "server-side apply", &Answer::of(pods.patch("p", &applied(), &Patch::Apply(&compliant)).await)?);
    let debug = |security: Value| {
        Patch::Strategic(
            json!({"spec": {"ephemeralContainers": [{"name": "d", "image": objects::image(), "securityContext": security}]}}),
        )
    };
    let answer = Answer::of(pods.patch_ephemeral_containers("there", &dry(), &debug(json!({"privileged": true}))).await)?;
    tried.attack("H2", "a privileged debug container", &answer);
    let answer = Answer::of(pods.patch_ephemeral_containers("there", &dry(), &debug(json!({}))).await)?;
    tried.control("H2", "a debug container", &answer);
    tried.control(
        "H2",
        "eviction",
        &Answer::of(pods.evict("there", &kube::api::EvictParams { post_options: post(), ..Default::default() }).await)?,
    );
    let deployments: Api<Deployment> = Api::namespaced(people.alice.clone(), &own);
    let mut idle = objects::deployment("idle", "true", Some("freehold-microvm"));
    idle.spec.as_mut().unwrap().replicas = Some(0);
    deployments.create(&PostParams::default(), &idle).await?;
    let scale = Patch::Merge(json!({"spec": {"replicas": 0}}));
    tried.control("H2", "scale", &Answer::of(deployments.patch_scale("idle", &dry(), &scale).await)?);

    // H4: without a name, which admission sees empty.
    for (what, mut pod, attack) in [("on the node", on_node(""), true), ("in a machine", objects::pod("", "true", &[]), false)] {
        (pod.metadata.name, pod.metadata.generate_name) = (None, Some("g-".to_owned()));
        let answer = Answer::of(pods.create(&post(), &pod).await)?;
        match attack {
            true => tried.attack("H4", what, &answer),
            false => tried.control("H4", what, &answer),
        }
    }

    // H6: every version in which the API server takes a kind that has rules.
    let served = versions(&people.platform, "resource.k8s.io").await?;
    ensure!(!served.is_empty(), "the API server serves no resource.k8s.io");
    for version in &served {
        let resource = ApiResource {
            group: "resource.k8s.io".to_owned(),
            version: version.clone(),
            api_version: format!("resource.k8s.io/{version}"),
            kind: "ResourceClaim".to_owned(),
            plural: "resourceclaims".to_owned(),
        };
        let claims: Api<DynamicObject> = Api::namespaced_with(people.alice.clone(), &own, &resource);
        let claim = |requests: Value| json!({"apiVersion": resource.api_version, "kind": "ResourceClaim", "metadata": {"name": "c"}, "spec": {"devices": {"requests": requests}}});
        let class = json!({"name": "r", "deviceClassName": "gpu.foreign.example"});
        let request = if version == "v1beta1" {
            class
        } else {
            json!({"name": "r", "exactly": {"deviceClassName": "gpu.foreign.example"}})
        };
        let answer = Answer::of(claims.create(&post(), &serde_json::from_value(claim(json!([request])))?).await)?;
        tried.attack("H6", version, &answer);
        tried.control("H6", version, &Answer::of(claims.create(&post(), &serde_json::from_value(claim(json!([])))?).await)?);
    }

    // H9: many at once, by a selector: each is judged by what it is, as the request has no name.
    let settings = api(&people.alice, ["v1", "ConfigMap", "configmaps"], Some(&own));
    let all = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=freehold");
    for (kind, what) in [(POLICY, "all of our policies"), (BINDING, "all of our bindings")] {
        let answer = Answer::of(api(&people.alice, kind, Some(&own)).delete_collection(&all, &ours).await)?;
        tried.attack("H9", what, &answer);
    }
    tried.control(
        "H9",
        "what is one's own",
        &Answer::of(settings.delete_collection(&all, &ListParams::default().labels("app=mine")).await)?,
    );

    // I3: whoever sends a tenant's manifest, a program with all rights too.
    let theirs: Api<Pod> = Api::namespaced(people.platform.clone(), &own);
    tried.attack("I3", "a pod on the node", &Answer::of(theirs.patch("p", &applied(), &Patch::Apply(&on_node("p"))).await)?);
    tried.control("I3", "a pod in a machine", &Answer::of(theirs.patch("p", &applied(), &Patch::Apply(&compliant)).await)?);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "externalIPs": ["192.0.2.1"]}});
    let services = api(&people.platform, ["v1", "Service", "services"], Some(&own));
    tried.attack(
        "I3",
        "a Service that takes an address",
        &Answer::of(services.patch("s", &applied(), &Patch::Apply(&service)).await)?,
    );
    api(&people.platform, TENANT, None).delete(&name, &DeleteParams::default()).await?;
    tried.judge()
}

/// Row I2: what a Tenant says ends in roles, labels and selectors, so it is taken to be hostile.
#[tokio::test]
async fn a_tenant_says_nothing_that_ends_in_more() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let mut tried = Tried::from_environment();
    let tenants = api(&people.platform, TENANT, None);
    let send = async |rest: Value| {
        let mut spec = json!({"owners": [{"kind": "User", "name": "carol"}]});
        json_patch::merge(&mut spec, &rest);
        let object = json!({"apiVersion": TENANT[0], "kind": TENANT[1], "metadata": {"name": "hostile"}, "spec": spec});
        Answer::of(tenants.create(&post(), &serde_json::from_value(object)?).await)
    };
    let bind =
        |role: &str, subject: Value| json!({"roleBindings": [{"name": "x", "clusterRoleName": role, "subjects": [subject]}]});
    for (what, rest) in [
        ("everybody as owner", json!({"owners": [{"kind": "Group", "name": "system:authenticated"}]})),
        ("administrators as owners", json!({"owners": [{"kind": "Group", "name": "system:masters"}]})),
        ("a role for everybody", bind("view", json!({"kind": "Group", "name": "system:unauthenticated"}))),
        ("a role of the cluster's", bind("cluster-admin", json!({"kind": "User", "name": "eve"}))),
        ("a system namespace", json!({"namespaces": {"declared": [{"name": "kube-system"}]}})),
        ("our own namespace", json!({"namespaces": {"declared": [{"name": "freehold-system"}]}})),
        ("another tenant's label", json!({"namespaces": {"labels": {"managed": {"freehold.dev/tenant": "foreign"}}}})),
        (
            "less Pod Security",
            json!({"namespaces": {"labels": {"managed": {"pod-security.kubernetes.io/enforce": "privileged"}}}}),
        ),
        (
            "devices without a limit",
            json!({"namespaces": {"labels": {"managed": {"resource.kubernetes.io/admin-access": "true"}}}}),
        ),
        ("every host", json!({"ingress": {"hosts": ["*"]}})),
        (
            "a name that is a path",
            json!({"roleBindings": [{"name": "../x", "clusterRoleName": "view", "subjects": [{"kind": "User", "name": "eve"}]}]}),
        ),
    ] {
        tried.attack_held_by("I2", what, &send(rest).await?, &[Layer::Other, Layer::AdmissionPolicy]);
    }
    let usual = bind("view", json!({"kind": "Group", "name": "sre"}));
    tried.control("I2", "a role for a group", &send(usual).await?);
    // A name that RBAC would read as a pattern is one name.
    let literal = json!({"owners": [{"kind": "User", "name": "*"}], "deletionPolicy": "Delete"});
    let name = named("literal");
    tenant(&people.platform, &name, literal).await?;
    // As RBAC reads it, of somebody who has no rights from elsewhere; once the literal owner is let in, the binding counts.
    let reviews = api(&people.platform, ["authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews"], None);
    let may_own = async |user: &str| {
        let attributes =
            json!({"group": "freehold.dev", "resource": "tenants", "verb": "own", "name": name, "namespace": "freehold-system"});
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}, "spec": {"user": user, "resourceAttributes": attributes}});
        let answer = reviews.create(&PostParams::default(), &serde_json::from_value(review)?).await?;
        anyhow::Ok(answer.data["status"]["allowed"] == json!(true))
    };
    wait::until("the literal owner to be let in", SOON, || async {
        ensure!(may_own("*").await?, "it is not");
        Ok(())
    })
    .await?;
    tried.expect("I2", "nobody else is the owner *", !may_own("dave").await?, "dave may own it");
    tenants.delete(&name, &DeleteParams::default()).await?;
    tried.judge()
}
