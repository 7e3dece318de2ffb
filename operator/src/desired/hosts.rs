//! Which hosts of a Tenant are its own: one that two Tenants list would be served by whoever of them is quicker.
//!
//! Input are the Tenant and all others; output are the hosts that stay and those that an older Tenant has. Both sides may be a name, or `*.` and
//! a domain: they meet where some name is in both. Whoever was made first keeps what it has, so that nobody loses a host by what
//! another asks for.

use freehold_crds::Tenant;
use kube::ResourceExt as _;

/// The hosts that are in force, and those that are not.
pub fn own<'a>(tenant: &Tenant, others: impl IntoIterator<Item = &'a Tenant>) -> (Vec<String>, Vec<String>) {
    let said = hosts(tenant).to_vec();
    if said.is_empty() {
        return (said, Vec::new());
    }
    let theirs: Vec<&String> = others.into_iter().filter(|other| age(other) < age(tenant)).flat_map(hosts).collect();
    said.into_iter().partition(|host| !theirs.iter().any(|taken| meet(host, taken)))
}

/// The hosts that a Tenant lists.
pub fn hosts(tenant: &Tenant) -> &[String] {
    tenant.spec.ingress.as_ref().and_then(|ingress| ingress.hosts.as_deref()).unwrap_or_default()
}

/// What is smaller is older. Of two that were made within one second the names decide.
fn age(tenant: &Tenant) -> (i64, String) {
    (tenant.creation_timestamp().map_or(0, |time| time.0.as_second()), tenant.name_any())
}

/// Whether some name is in both.
fn meet(one: &str, other: &str) -> bool {
    let within = |host: &str, wide: &str| wide.strip_prefix('*').is_some_and(|domain| host.ends_with(domain));
    one == other || within(one, other) || within(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_host_is_that_of_the_oldest_tenant_which_lists_it() {
        let tenant = |name: &str, created: &str, hosts: &[&str]| {
            let mut tenant = crate::fixtures::tenant(
                name,
                json!({"owners": [{"kind": "User", "name": "alice"}], "ingress": {"hosts": hosts}}),
            );
            tenant.metadata.creation_timestamp = serde_json::from_value(json!(created)).unwrap();
            tenant
        };
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        for (what, hosts, other, taken) in [
            ("nobody else's", &["pay.example"][..], tenant("b", early, &["bank.example"]), &[][..]),
            ("the same", &["pay.example", "own.example"], tenant("b", early, &["pay.example"]), &["pay.example"]),
            ("the same of a younger one", &["pay.example"], tenant("b", late, &["pay.example"]), &[]),
            ("below another's domain", &["api.pay.example"], tenant("b", early, &["*.pay.example"]), &["api.pay.example"]),
            ("a domain with another's host", &["*.pay.example"], tenant("b", early, &["api.pay.example"]), &["*.pay.example"]),
            ("a domain within another's", &["*.eu.pay.example"], tenant("b", early, &["*.pay.example"]), &["*.eu.pay.example"]),
            ("the domain itself", &["pay.example"], tenant("b", early, &["*.pay.example"]), &[]),
            ("one that ends alike", &["evilpay.example"], tenant("b", early, &["pay.example", "*.pay.example"]), &[]),
        ] {
            let made = "2026-01-01T12:00:00Z";
            let (kept, lost) = own(&tenant("a", made, hosts), [&other, &tenant("a", made, hosts)]);
            assert_eq!(lost, taken, "{what}");
            assert_eq!(kept.len() + lost.len(), hosts.len(), "{what}");
        }
        let (first, second) = (tenant("a", early, &["x.example"]), tenant("b", early, &["x.example"]));
        assert_eq!(own(&first, [&first, &second]).1.len() + own(&second, [&first, &second]).1.len(), 1, "one of two has it");
    }
}
