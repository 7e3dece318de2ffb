//! Who is told what: a table of askers and names, and what an answer must not carry.

mod common;

use common::{A, A_CI, B, C, DOMAIN, NOBODYS, address, objects, question, view};
use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name as WireName, Ttl};
use domain::rdata::{A as Address, Cname, Ptr, Srv};
use freehold_dns::decide::{self, Verdict};
use freehold_dns::names::Name;
use freehold_dns::view::View;
use proptest::prelude::*;

const ABSENT: Verdict = Verdict::Answer(Rcode::NXDOMAIN);

fn verdict(from: &str, message: &Message<Vec<u8>>) -> Verdict {
    let view = view();
    let rights = view.rights_of(address(from)).unwrap();
    decide::question(&view, &Name::from_text(DOMAIN), rights, message.for_slice())
}

#[test]
fn who_may_ask_for_what() {
    let own = Verdict::Forward;
    for (from, name, expected) in [
        (A, "web.team-a-dev.svc.cluster.local", own),
        (A, "WEB.TEAM-A-CI.SVC.CLUSTER.LOCAL", own),
        (A_CI, "10-244-0-11.team-a-dev.pod.cluster.local", own),
        (A, "web.team-b-dev.svc.cluster.local", ABSENT),
        (A, "team-b-dev.svc.cluster.local", ABSENT),
        (A, "10-244-0-21.team-b-dev.pod.cluster.local", ABSENT),
        (A, "*.*.svc.cluster.local", ABSENT),
        (A, "any.any.any.svc.cluster.local", ABSENT),
        (A, "svc.cluster.local", ABSENT),
        (A, "cluster.local", ABSENT),
        (A, "dns-version.cluster.local", ABSENT),
        (A, "prometheus.monitoring.svc.cluster.local", ABSENT),
        (A, "kubernetes.default.svc.cluster.local", ABSENT),
        (A, "www.example.org", ABSENT),
        (A, "example.org.svc.cluster.local.attacker.example", ABSENT),
        (A, "11.0.244.10.in-addr.arpa", own),
        (A, "12.0.244.10.in-addr.arpa", own),
        (A, "21.0.244.10.in-addr.arpa", ABSENT),
        (A, "41.0.244.10.in-addr.arpa", ABSENT),
        (A, "1.2.0.192.in-addr.arpa", ABSENT),
        (B, "web.team-a-dev.svc.cluster.local", ABSENT),
        (B, "web.team-c-dev.svc.cluster.local", own),
        (C, "web.team-b-dev.svc.cluster.local", own),
        (B, "prometheus.monitoring.svc.cluster.local", own),
        (B, "web.nobodys.svc.cluster.local", ABSENT),
        (B, "kubernetes.default.svc.cluster.local", own),
        (B, "other.default.svc.cluster.local", ABSENT),
        (C, "kubernetes.default.svc.cluster.local", ABSENT),
        (B, "www.example.org", own),
        (B, "cluster.local", ABSENT),
        (B, "11.0.244.10.in-addr.arpa", ABSENT),
        (B, "1.2.0.192.in-addr.arpa", own),
        (C, "www.example.org", ABSENT),
    ] {
        for rtype in [Rtype::A, Rtype::AAAA, Rtype::SRV, Rtype::TXT, Rtype::PTR] {
            assert_eq!(verdict(from, &question(name, rtype)), expected, "{from} asks for {name} {rtype}");
        }
    }
}

#[test]
fn who_is_nobodys_is_told_nothing() {
    let view = view();
    for from in [NOBODYS, "10.244.0.99", "::1"] {
        assert!(view.rights_of(address(from)).is_none(), "{from}");
    }
    assert_eq!(view.rights_of(address("::ffff:10.244.0.11")), view.rights_of(address(A)), "a socket of both families");
    let mut claimed = objects();
    let twice = claimed.pods[0].clone();
    claimed.pods[2] =
        std::sync::Arc::new(k8s_openapi::api::core::v1::Pod { status: twice.status.clone(), ..(*claimed.pods[2]).clone() });
    assert!(View::new(&claimed).rights_of(address(A)).is_none(), "an address that two namespaces claim");
    let mut misfit = objects();
    let mut boundary = (*misfit.boundaries[0]).clone();
    boundary.spec.namespace_uid = "another".to_owned();
    misfit.boundaries[0] = std::sync::Arc::new(boundary);
    assert!(View::new(&misfit).rights_of(address(A)).is_none(), "a Boundary of an earlier namespace");
}

#[test]
fn what_is_no_question_is_refused() {
    let mut reply = question("web.team-a-dev.svc.cluster.local", Rtype::A);
    reply.header_mut().set_qr(true);
    assert_eq!(verdict(A, &reply), Verdict::Ignore);
    let mut update = question("web.team-a-dev.svc.cluster.local", Rtype::A);
    update.header_mut().set_opcode(Opcode::UPDATE);
    assert_eq!(verdict(A, &update), Verdict::Answer(Rcode::NOTIMP));
    for rtype in [Rtype::AXFR, Rtype::IXFR, Rtype::ANY] {
        assert_eq!(verdict(B, &question("team-b-dev.svc.cluster.local", rtype)), Verdict::Answer(Rcode::REFUSED), "{rtype}");
    }
    let name: WireName<Vec<u8>> = "version.bind".parse().unwrap();
    let mut chaos = MessageBuilder::new_vec().question();
    chaos.push((&name, Rtype::TXT, Class::CH)).unwrap();
    assert_eq!(verdict(B, &chaos.into_message()), Verdict::Answer(Rcode::REFUSED));
    let mut two = MessageBuilder::new_vec().question();
    two.push((&name, Rtype::A)).unwrap();
    two.push((&name, Rtype::AAAA)).unwrap();
    assert_eq!(verdict(B, &two.into_message()), Verdict::Answer(Rcode::FORMERR));
}

/// The answer of the cluster's DNS to a question of a pod, with one record.
fn judged<D: domain::base::rdata::ComposeRecordData>(
    from: &str,
    name: &str,
    rtype: Rtype,
    owner: &str,
    data: D,
) -> Result<(), Rcode> {
    let (view, asked) = (view(), question(name, rtype));
    let mut answer = MessageBuilder::new_vec().start_answer(&asked, Rcode::NOERROR).unwrap();
    answer.push((owner.parse::<WireName<Vec<u8>>>().unwrap(), Ttl::from_secs(5), data)).unwrap();
    let rights = view.rights_of(address(from)).unwrap();
    decide::answer(&Name::from_text(DOMAIN), rights, asked.for_slice(), answer.into_message().for_slice())
}

#[test]
fn no_answer_names_what_may_not_be_known() {
    let wire = |name: &str| name.parse::<WireName<Vec<u8>>>().unwrap();
    let foreign = "web.team-a-dev.svc.cluster.local";
    let own = "web.team-b-dev.svc.cluster.local";
    let absent = Err(Rcode::NXDOMAIN);
    assert_eq!(judged(B, own, Rtype::A, own, Address::from_octets(10, 96, 0, 9)), Ok(()));
    assert_eq!(judged(B, own, Rtype::A, foreign, Address::from_octets(10, 96, 0, 9)), absent, "a record of another's");
    assert_eq!(judged(B, own, Rtype::A, own, Cname::new(wire(foreign))), absent, "an alias of another's");
    assert_eq!(judged(B, own, Rtype::SRV, own, Srv::new(0, 0, 80, wire(foreign))), absent, "a place at another's");
    let (reverse, service) = ("9.0.96.10.in-addr.arpa", wire(own));
    assert_eq!(judged(B, reverse, Rtype::PTR, reverse, Ptr::new(service)), Ok(()), "the address of a Service of its own");
    assert_eq!(judged(B, reverse, Rtype::PTR, reverse, Ptr::new(wire(foreign))), absent, "and of another's");
    assert_eq!(judged(B, reverse, Rtype::PTR, reverse, Ptr::new(wire("host.example.org"))), Ok(()), "and of the world's");
}

#[test]
fn a_failed_look_up_of_an_address_says_the_same_whoever_failed_it() {
    let (view, asked) = (view(), question("9.0.96.10.in-addr.arpa", Rtype::PTR));
    let domain = Name::from_text(DOMAIN);
    let rights = view.rights_of(address(B)).unwrap();
    for code in [Rcode::NXDOMAIN, Rcode::SERVFAIL, Rcode::REFUSED] {
        let answer = MessageBuilder::new_vec().start_answer(&asked, code).unwrap().into_message();
        assert_eq!(decide::answer(&domain, rights, asked.for_slice(), answer.for_slice()), Err(Rcode::NXDOMAIN), "{code}");
    }
    let other = MessageBuilder::new_vec().start_answer(&question("8.0.96.10.in-addr.arpa", Rtype::PTR), Rcode::NOERROR).unwrap();
    let other = other.into_message();
    assert_eq!(
        decide::answer(&domain, rights, asked.for_slice(), other.for_slice()),
        Err(Rcode::SERVFAIL),
        "to another question"
    );
    let empty = decide::empty(asked.for_slice(), Rcode::NXDOMAIN);
    let empty = Message::from_octets(empty).unwrap();
    assert!(empty.is_answer(&asked) && empty.header().rd() && empty.header().ra());
    assert_eq!((empty.header().id(), empty.header().rcode()), (7, Rcode::NXDOMAIN));
}

proptest! {
    /// Whatever bytes come, from a pod or from the cluster's DNS: an answer or none, and never another tenant's name.
    #[test]
    fn any_bytes_are_survived(asked in prop::collection::vec(any::<u8>(), 0..300), answered in prop::collection::vec(any::<u8>(), 0..300)) {
        let (view, domain) = (view(), Name::from_text(DOMAIN));
        let rights = view.rights_of(address(B)).unwrap();
        if let Ok(asked) = Message::from_slice(&asked) {
            if let Verdict::Answer(code) = decide::question(&view, &domain, rights, asked) {
                prop_assert!(Message::from_octets(decide::empty(asked, code)).is_ok());
            }
            if let Ok(answered) = Message::from_slice(&answered) {
                let _ = decide::answer(&domain, rights, asked, answered);
            }
        }
    }

    /// A name with any labels before another tenant's namespace is absent.
    #[test]
    fn nothing_before_a_foreign_namespace_opens_it(labels in prop::collection::vec("[a-z0-9_*-]{1,12}", 0..4), pod in any::<bool>()) {
        let kind = if pod { "pod" } else { "svc" };
        let name = labels.iter().map(|label| format!("{label}.")).collect::<String>() + &format!("team-b-dev.{kind}.cluster.local");
        prop_assert_eq!(verdict(A, &question(&name, Rtype::A)), ABSENT);
    }
}
