//! Who asks, and what it may be told. Pure: objects in, data out.
//!
//! What can't be read, or does not fit together, is nobody's: an address that two namespaces claim, a namespace whose
//! Boundary was made for another one. Nobody is told nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use freehold_crds::{ApiServerAccess, BOUNDARY_NAME, Boundary, Network, TENANT_LABEL};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt as _;

/// What is watched.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Pods of the cluster.
    pub pods: Vec<Arc<Pod>>,
    /// Namespaces.
    pub namespaces: Vec<Arc<Namespace>>,
    /// Boundaries of the cluster.
    pub boundaries: Vec<Arc<Boundary>>,
}

/// What pods of one namespace may be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// The tenant they are of: what is bounded is bounded for it as a whole.
    pub tenant: String,
    /// Namespaces whose names they may know: their tenant's, those of peers, and those of nobody that are opened to them.
    pub namespaces: BTreeSet<String>,
    /// Whether they may know the API server's name.
    pub api_server: bool,
    /// Whether they may ask about the world: only who may go somewhere in it, because a question can carry data out.
    pub world: bool,
}

/// Everything that decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The namespace of each address that a pod has; none where several claim it.
    addresses: BTreeMap<IpAddr, Option<String>>,
    rights: BTreeMap<String, Arc<Rights>>,
}

impl View {
    /// The namespace whose pod has this address.
    pub fn namespace_of(&self, address: IpAddr) -> Option<&str> {
        self.addresses.get(&address.to_canonical())?.as_deref()
    }

    /// What the pod with this address may be told; none for one that is not known, or in no tenant's namespace.
    pub fn rights_of(&self, address: IpAddr) -> Option<&Arc<Rights>> {
        self.rights.get(self.namespace_of(address)?)
    }

    /// The view of these objects.
    pub fn new(objects: &Objects) -> Self {
        let fenced = fenced(objects);
        let mut by_tenant: BTreeMap<&str, Vec<(&str, &Network)>> = BTreeMap::new();
        for (namespace, (tenant, network)) in &fenced {
            by_tenant.entry(tenant).or_default().push((namespace, network));
        }
        let free = objects.namespaces.iter().filter(|namespace| !namespace.labels().contains_key(TENANT_LABEL));
        let free: Vec<_> = free.map(|namespace| (namespace.name_any(), namespace.labels())).collect();
        let rights = |(namespace, (tenant, network)): (&String, &(String, Network))| {
            let of = |tenant: &str| by_tenant.get(tenant).into_iter().flatten();
            let own = of(tenant).map(|(name, _)| (*name).to_owned());
            // Both sides must name each other, and only the namespaces that take part.
            let peers = network.peers.iter().flat_map(|peer| {
                let back = |(_, theirs): &&(&str, &Network)| theirs.peers.iter().any(|other| other.tenant_name == *tenant);
                of(&peer.tenant_name).filter(back).map(|(name, _)| (*name).to_owned())
            });
            let opened = network.egress_to.iter().filter_map(|peer| peer.namespace_selector.as_ref()).flat_map(|selector| {
                let matches = |labels: &BTreeMap<String, String>| {
                    selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
                };
                free.iter().filter(move |(_, labels)| matches(labels)).map(|(name, _)| name.clone())
            });
            let rights = Rights {
                tenant: tenant.clone(),
                namespaces: own.chain(peers).chain(opened).collect(),
                api_server: network.api_server == Some(ApiServerAccess::Allow),
                world: network.egress_to.iter().any(|peer| peer.cidr.is_some()),
            };
            (namespace.clone(), Arc::new(rights))
        };
        Self { addresses: addresses(&objects.pods), rights: fenced.iter().map(rights).collect() }
    }
}

/// Namespaces of tenants with what is in force in them: label and Boundary agree, and it is for this very namespace.
fn fenced(objects: &Objects) -> BTreeMap<String, (String, Network)> {
    let boundaries: BTreeMap<_, _> = objects
        .boundaries
        .iter()
        .filter(|boundary| boundary.name_any() == BOUNDARY_NAME)
        .filter_map(|boundary| Some((boundary.namespace()?, boundary)))
        .collect();
    let fitting = |namespace: &Arc<Namespace>| {
        let (name, tenant) = (namespace.name_any(), namespace.labels().get(TENANT_LABEL)?);
        let boundary = boundaries.get(&name)?;
        let fits = boundary.spec.tenant.name == *tenant && Some(&boundary.spec.namespace_uid) == namespace.metadata.uid.as_ref();
        fits.then(|| (name, (tenant.clone(), boundary.spec.network.clone().unwrap_or_default())))
    };
    objects.namespaces.iter().filter_map(fitting).collect()
}

fn addresses(pods: &[Arc<Pod>]) -> BTreeMap<IpAddr, Option<String>> {
    let mut addresses: BTreeMap<IpAddr, Option<String>> = BTreeMap::new();
    for pod in pods {
        let (Some(namespace), Some(status)) = (pod.namespace(), &pod.status) else { continue };
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let on_host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        if ended || on_host {
            continue;
        }
        let several = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
        for address in several.chain(status.pod_ip.as_deref()).filter_map(|text| text.parse::<IpAddr>().ok()) {
            let claim = addresses.entry(address).or_insert_with(|| Some(namespace.clone()));
            if claim.as_ref() != Some(&namespace) {
                *claim = None;
            }
        }
    }
    addresses
}
