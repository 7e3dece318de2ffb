//! What a name of the DNS is about: a namespace of this cluster, an address, or the world. Pure.
//!
//! By Kubernetes' own rules for names (DNS-Based Service Discovery, schema version 1.1.0): whatever stands before it, a
//! name that ends in `NAMESPACE.svc.DOMAIN` or `NAMESPACE.pod.DOMAIN` is about that namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::base::name::{Label, ToLabelIter};

/// Labels of a name without the root, in lower case: names are compared without case (RFC 4343).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Vec<Vec<u8>>);

/// What a name is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Services or pods of a namespace; the name of the API server's Service is marked.
    Namespace {
        /// The namespace; one that is no UTF-8 is never one that exists.
        name: String,
        /// Whether it is exactly `kubernetes.default.svc.DOMAIN`.
        api_server: bool,
    },
    /// The cluster's domain itself, and what in it is of no namespace.
    Cluster,
    /// A name for an address, or for a block of them.
    Reverse(Option<IpAddr>),
    /// Anything else.
    World,
}

impl Name {
    /// The labels of a name of a message.
    pub fn new(name: &impl ToLabelIter) -> Self {
        let labels = name.iter_labels().filter(|label| !label.is_root());
        Self(labels.map(|label: &Label| label.as_slice().to_ascii_lowercase()).collect())
    }

    /// A name as people write it, without escapes.
    pub fn from_text(text: &str) -> Self {
        let labels = text.split('.').filter(|label| !label.is_empty());
        Self(labels.map(|label| label.as_bytes().to_ascii_lowercase()).collect())
    }

    /// What it is about, in a cluster with this domain.
    pub fn place(&self, domain: &Self) -> Place {
        if let Some(rest) = self.0.strip_suffix(domain.0.as_slice()) {
            return match rest {
                [.., namespace, kind] if kind == b"svc" || kind == b"pod" => Place::Namespace {
                    name: String::from_utf8_lossy(namespace).into_owned(),
                    api_server: matches!(rest, [service, namespace, kind] if service == b"kubernetes" && namespace == b"default" && kind == b"svc"),
                },
                _ => Place::Cluster,
            };
        }
        match self.0.as_slice() {
            [address @ .., zone, arpa] if zone == b"in-addr" && arpa == b"arpa" => Place::Reverse(v4(address)),
            [address @ .., zone, arpa] if zone == b"ip6" && arpa == b"arpa" => Place::Reverse(v6(address)),
            _ => Place::World,
        }
    }
}

/// Four numbers, last one first (RFC 1035, section 3.5).
fn v4(labels: &[Vec<u8>]) -> Option<IpAddr> {
    let mut octets = [0; 4];
    if labels.len() != octets.len() {
        return None;
    }
    for (octet, label) in octets.iter_mut().zip(labels.iter().rev()) {
        *octet = std::str::from_utf8(label).ok()?.parse().ok()?;
    }
    Some(Ipv4Addr::from(octets).into())
}

/// Thirty-two hexadecimal digits, last one first (RFC 3596, section 2.5).
fn v6(labels: &[Vec<u8>]) -> Option<IpAddr> {
    if labels.len() != 32 {
        return None;
    }
    let mut bits: u128 = 0;
    for label in labels.iter().rev() {
        let [digit] = label.as_slice() else { return None };
        bits = bits << 4 | u128::from(char::from(*digit).to_digit(16)?);
    }
    Some(Ipv6Addr::from(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_are_about() {
        let domain = Name::from_text("cluster.local");
        let namespace = |name: &str| Place::Namespace { name: name.to_owned(), api_server: false };
        for (text, expected) in [
            ("web.team-a-dev.svc.cluster.local", namespace("team-a-dev")),
            ("WEB.Team-A-dev.SVC.cluster.LOCAL.", namespace("team-a-dev")),
            ("_http._tcp.web.team-a-dev.svc.cluster.local", namespace("team-a-dev")),
            ("10-244-0-7.team-a-dev.pod.cluster.local", namespace("team-a-dev")),
            ("pod-0.web.team-a-dev.svc.cluster.local", namespace("team-a-dev")),
            ("*.*.svc.cluster.local", namespace("*")),
            ("team-a-dev.svc.cluster.local", namespace("team-a-dev")),
            ("kubernetes.default.svc.cluster.local", Place::Namespace { name: "default".into(), api_server: true }),
            ("a.kubernetes.default.svc.cluster.local", namespace("default")),
            ("svc.cluster.local", Place::Cluster),
            ("cluster.local", Place::Cluster),
            ("web.cluster.local", Place::Cluster),
            ("dns-version.cluster.local", Place::Cluster),
            ("cluster.local.example.org", Place::World),
            ("xcluster.local", Place::World),
            ("local", Place::World),
            ("", Place::World),
            ("7.0.244.10.in-addr.arpa", Place::Reverse(Some("10.244.0.7".parse().unwrap()))),
            ("244.10.in-addr.arpa", Place::Reverse(None)),
            ("1.2.3.400.in-addr.arpa", Place::Reverse(None)),
            ("x.7.0.244.10.in-addr.arpa", Place::Reverse(None)),
        ] {
            assert_eq!(Name::from_text(text).place(&domain), expected, "{text}");
        }
        let six = "2001:db8::567:89ab";
        let reverse = "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(Name::from_text(reverse).place(&domain), Place::Reverse(Some(six.parse().unwrap())));
    }
}
