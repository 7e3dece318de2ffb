//! Which questions are asked further, and which answers are handed on. Pure.
//!
//! What may not be known is told in the very words of what does not exist, so that asking tells nothing: a name of another
//! tenant's namespace is never asked further, and a failed look-up of an address is worded here, whoever failed it.

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::{Message, MessageBuilder};
use domain::rdata::{Cname, Dname, Mx, Ns, Ptr, Srv};

use crate::names::{Name, Place};
use crate::view::{Rights, View};

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is asked of the cluster's DNS.
    Forward,
    /// It is answered here, with this code (RFC 1035, section 4.1.1).
    Answer(Rcode),
    /// Nobody would wait for an answer: it is no question.
    Ignore,
}

/// What becomes of a question of somebody with these rights.
pub fn question(view: &View, domain: &Name, rights: &Rights, message: &Message<[u8]>) -> Verdict {
    let header = message.header();
    if header.qr() {
        return Verdict::Ignore;
    }
    if header.opcode() != Opcode::QUERY {
        return Verdict::Answer(Rcode::NOTIMP);
    }
    let Ok(question) = message.sole_question() else { return Verdict::Answer(Rcode::FORMERR) };
    // Whole zones and everything at once are questions about others; other classes are about servers.
    let whole = matches!(question.qtype(), Rtype::AXFR | Rtype::IXFR | Rtype::ANY);
    if whole || question.qclass() != Class::IN {
        return Verdict::Answer(Rcode::REFUSED);
    }
    let known = match Name::new(question.qname()).place(domain) {
        Place::Namespace { name, api_server } => may_know(rights, &name, api_server),
        Place::Cluster => false,
        Place::Reverse(address) => match address.and_then(|address| view.namespace_of(address)) {
            Some(namespace) => may_know(rights, namespace, false),
            None => rights.world,
        },
        Place::World => rights.world,
    };
    if known { Verdict::Forward } else { Verdict::Answer(Rcode::NXDOMAIN) }
}

/// The answer of the cluster's DNS as it is handed on, or the code to answer with instead.
///
/// # Errors
/// With NXDOMAIN if it names a namespace that the asker may not know, or is a failed look-up of an address; with SERVFAIL if
/// it can't be read, or answers another question.
pub fn answer(domain: &Name, rights: &Rights, asked: &Message<[u8]>, answer: &Message<[u8]>) -> Result<(), Rcode> {
    if !answer.is_answer(asked) {
        return Err(Rcode::SERVFAIL);
    }
    let question = asked.sole_question().map_err(|_| Rcode::SERVFAIL)?;
    let reverse = matches!(Name::new(question.qname()).place(domain), Place::Reverse(_));
    if reverse && answer.header().rcode() != Rcode::NOERROR {
        return Err(Rcode::NXDOMAIN);
    }
    for name in names(answer).ok_or(Rcode::SERVFAIL)? {
        if let Place::Namespace { name, api_server } = name.place(domain)
            && !may_know(rights, &name, api_server)
        {
            return Err(Rcode::NXDOMAIN);
        }
    }
    Ok(())
}

/// An answer without records.
pub fn empty(asked: &Message<[u8]>, code: Rcode) -> Vec<u8> {
    let mut answer = MessageBuilder::new_vec().start_error(asked, code);
    answer.header_mut().set_ra(true);
    answer.finish()
}

fn may_know(rights: &Rights, namespace: &str, api_server: bool) -> bool {
    rights.namespaces.contains(namespace) || (api_server && rights.api_server)
}

/// All names of all records: whose they are, and to what they lead. None if one can't be read.
fn names(message: &Message<[u8]>) -> Option<Vec<Name>> {
    let mut names = Vec::new();
    for record in message.iter() {
        let (record, _) = record.ok()?;
        names.push(Name::new(&record.owner()));
        macro_rules! target {
            ($kind:ty, $name:ident) => {
                record.to_record::<$kind>().ok()?.map(|record| Name::new(record.data().$name()))
            };
        }
        names.extend(match record.rtype() {
            Rtype::CNAME => target!(Cname<_>, cname),
            Rtype::DNAME => target!(Dname<_>, dname),
            Rtype::PTR => target!(Ptr<_>, ptrdname),
            Rtype::SRV => target!(Srv<_>, target),
            Rtype::NS => target!(Ns<_>, nsdname),
            Rtype::MX => target!(Mx<_>, exchange),
            _ => None,
        });
    }
    Some(names)
}
