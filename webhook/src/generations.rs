//! Generations of certificates: when the next one is made, which one is served, which are trusted. Pure but for key making.
//!
//! Each generation is a CA that signs one server certificate and whose key is then forgotten: nobody, us included, can sign
//! a second one. The next generation is made at two thirds of the validity and trusted at once, but served only after a lead,
//! so that every API server has its CA before any replica shows a certificate of it. Old CAs stay trusted until they end.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use serde::{Deserialize, Serialize};

/// Shortest validity that is accepted: below, the lead would be too short for a watch to arrive.
pub const MIN_VALIDITY: Duration = Duration::from_secs(30);
/// Generations that are kept; more only pile up if something writes them in a loop.
pub const MAX_GENERATIONS: usize = 4;
/// How far a generation's start lies in the past, for clocks that are behind.
const CLOCK_SLACK_SECONDS: i64 = 300;

/// One CA and the certificate it signed. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Generation {
    /// When it was made.
    pub made: i64,
    /// From when on it is served.
    pub served_from: i64,
    /// When it ends.
    pub not_after: i64,
    /// The CA's certificate, PEM.
    pub ca: String,
    /// The server's certificate, PEM.
    pub certificate: String,
    /// The server's key, PEM.
    pub key: String,
}

/// When a generation starts and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it is made.
    pub made: i64,
    /// From when on it is served.
    pub served_from: i64,
    /// When it ends.
    pub not_after: i64,
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 4)
}

/// The generations that have not ended, the newest [`MAX_GENERATIONS`] of them, oldest first.
pub fn alive(now: i64, mut generations: Vec<Generation>) -> Vec<Generation> {
    generations.retain(|one| one.not_after > now);
    generations.sort_by_key(|one| (one.served_from, one.made));
    generations.drain(..generations.len().saturating_sub(MAX_GENERATIONS));
    generations
}

/// The times of the next generation, if it is time to make it. `alive` is as [`alive`] gives it.
pub fn due(now: i64, validity: Duration, alive: &[Generation]) -> Option<Times> {
    let validity = seconds(validity);
    let Some(newest) = alive.last() else {
        return Some(Times { made: now, served_from: now, not_after: now + validity });
    };
    // Whoever shortens the validity gets a new generation by the new measure.
    let span = (newest.not_after - newest.made).min(validity);
    (now >= newest.made + span * 2 / 3).then(|| Times { made: now, served_from: now + validity / 6, not_after: now + validity })
}

/// The generation to serve: the newest whose time has come, or else the first.
pub fn served(now: i64, alive: &[Generation]) -> Option<&Generation> {
    alive.iter().rev().find(|one| one.served_from <= now).or(alive.first())
}

/// The CAs to trust, as one PEM bundle.
pub fn bundle(alive: &[Generation]) -> String {
    alive.iter().map(|one| one.ca.as_str()).collect()
}

/// How long to wait before looking again: a twelfth of the validity, or until the next generation is served.
pub fn pause(now: i64, validity: Duration, alive: &[Generation]) -> Duration {
    let often = (validity / 12).clamp(Duration::from_secs(1), Duration::from_secs(60));
    let next = alive.iter().map(|one| one.served_from - now).filter(|wait| *wait > 0).min();
    next.and_then(|wait| u64::try_from(wait).ok()).map_or(often, |wait| often.min(Duration::from_secs(wait)))
}

/// Makes a generation for these names (DNS names or addresses).
///
/// # Errors
/// If a name is no DNS name, or the machine gives no randomness.
pub fn make(names: &[String], times: Times) -> Result<Generation, rcgen::Error> {
    let at = |unix: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(unix).unwrap_or_default());
    let (start, end) = (at(times.made - CLOCK_SLACK_SECONDS), at(times.not_after));

    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    authority.distinguished_name.push(DnType::CommonName, format!("freehold-webhook-ca-{}", times.made));
    (authority.not_before, authority.not_after) = (start, end);
    let authority_key = KeyPair::generate()?;
    let ca = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let mut server = CertificateParams::new(names.to_vec())?;
    server.distinguished_name.push(DnType::CommonName, "freehold-webhook");
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    (server.not_before, server.not_after) = (start, end);
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &issuer)?.pem();
    let Times { made, served_from, not_after } = times;
    Ok(Generation { made, served_from, not_after, ca, certificate, key: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(made: i64, served_from: i64, not_after: i64) -> Generation {
        let text = |what: &str| format!("{what}{made}\n");
        Generation { made, served_from, not_after, ca: text("ca"), certificate: text("crt"), key: text("key") }
    }

    #[test]
    fn a_life_of_thirty_seconds() {
        let validity = Duration::from_secs(30);
        let first = Times { made: 100, served_from: 100, not_after: 130 };
        assert_eq!(due(100, validity, &[]), Some(first), "nothing there: made and served at once");
        let mut all = vec![one(100, 100, 130)];
        assert_eq!(due(119, validity, &all), None);
        let second = Times { made: 120, served_from: 125, not_after: 150 };
        assert_eq!(due(120, validity, &all), Some(second), "at two thirds");
        all.push(one(120, 125, 150));
        assert_eq!(due(121, validity, &all), None, "made once");
        assert_eq!(bundle(&all), "ca100\nca120\n", "trusted before it is served");
        assert_eq!(served(124, &all).unwrap().made, 100);
        assert_eq!(served(125, &all).unwrap().made, 120);
        assert_eq!(alive(129, all.clone()).len(), 2, "the old one is trusted to its end");
        assert_eq!(alive(130, all.clone()), [one(120, 125, 150)]);
        assert_eq!(due(1000, validity, &alive(1000, all)).unwrap().served_from, 1000, "after a long sleep there is no lead");
    }

    #[test]
    fn every_second_of_a_day_has_a_certificate_that_was_trusted_for_a_while() {
        for validity in [30, 31, 60, 3600] {
            let (duration, mut all) = (Duration::from_secs(validity), Vec::new());
            let mut now = 1_000_000;
            while now < 1_000_000 + 20 * validity as i64 {
                all = alive(now, all);
                if let Some(times) = due(now, duration, &all) {
                    all.push(one(times.made, times.served_from, times.not_after));
                }
                let shown = served(now, &all).unwrap();
                assert!(shown.not_after > now + 1, "validity {validity}: ended at {now}");
                assert!(
                    shown.made == 1_000_000 || now - shown.made >= validity as i64 / 6,
                    "validity {validity}: no lead at {now}"
                );
                assert!(all.len() <= 3);
                now += pause(now, duration, &all).as_secs() as i64;
            }
        }
    }

    #[test]
    fn shortening_the_validity_takes_effect() {
        assert!(due(200, Duration::from_secs(60), &[one(100, 100, 1_000_000)]).is_some());
    }

    #[test]
    fn what_was_written_too_often_is_cut() {
        assert_eq!(alive(0, (0..50).map(|made| one(made, made, 100)).collect()).len(), MAX_GENERATIONS);
    }

    #[test]
    fn made_certificates_can_be_served() {
        let names = ["freehold-webhook.freehold-system.svc".to_owned(), "127.0.0.1".to_owned()];
        let made = make(&names, Times { made: 1_700_000_000, served_from: 1_700_000_000, not_after: 1_700_000_030 }).unwrap();
        freehold_serve::tls::Certificates::new(made.certificate.as_bytes(), made.key.as_bytes()).unwrap();
        assert!(made.ca.starts_with("-----BEGIN CERTIFICATE-----"));
        let text = serde_json::to_string(&made).unwrap();
        assert_eq!(serde_json::from_str::<Generation>(&text).unwrap(), made);
        assert!(make(&["no\u{e9} name".to_owned()], Times { made: 0, served_from: 0, not_after: 1 }).is_err());
    }
}
