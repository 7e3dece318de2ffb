//! `canary`: starts one machine, says the first words to its agent, prints what it is and ends.
//!
//! The runtime installer runs it before it trusts a node with a handler, and to find out whether hardware virtualisation
//! works; hence one line of JSON or one line of error. With a tenant it must be a clone of that tenant's template.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use freehold_guest_api::message::{Call, Configure, Empty, Ready};

use crate::agent::{Agent, client};
use crate::config::{self, Acceleration, Config};
use crate::machine::command::Base;
use crate::machine::process::Machine;
use crate::task::begin::{self, Begun};
use crate::template;

/// Time allowed unless said otherwise.
const DEFAULT_SECONDS: u64 = 20;
/// Time for the guest to power off before it is ended.
const OFF_TIME: Duration = Duration::from_secs(2);

/// What was asked.
#[derive(Debug, PartialEq)]
pub struct Options {
    config: PathBuf,
    time: Duration,
    tenant: Option<String>,
}

/// Reads the command line after `canary`.
///
/// # Errors
/// If it is not understood.
pub fn options(mut args: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let (mut config, mut seconds, mut tenant) = (None, DEFAULT_SECONDS, None);
    while let Some(name) = args.next() {
        let value = args.next().with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--config" => config = Some(PathBuf::from(value)),
            "--timeout-seconds" => seconds = value.parse().with_context(|| format!("{name} {value} is no number"))?,
            "--tenant" => tenant = Some(value),
            _ => bail!("unknown option {name}; usage: canary --config FILE [--timeout-seconds {DEFAULT_SECONDS}] [--tenant UID]"),
        }
    }
    Ok(Options { config: config.context("canary needs --config FILE")?, time: Duration::from_secs(seconds), tenant })
}

/// Boots and prints.
///
/// # Errors
/// If the machine does not start or its agent does not answer in time, with the console's last words.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let config = config::load(&options.config)?;
    let began = Instant::now();
    let words = client::first_words("canary")?;
    let (Begun { machine, agent, events: _events }, ready) = match &options.tenant {
        None => boot(&config, words, options.time).await?,
        Some(tenant) => {
            let template = template::of(&config, tenant).map_err(anyhow::Error::msg)?;
            begin::clone(&config, &template, None, words, |_, _| Ok(())).await?
        }
    };
    let milliseconds = began.elapsed().as_millis();
    let said =
        machine.qmp.execute("query-kvm", serde_json::json!({}), None).await.context("QEMU does not say whether it uses KVM")?;
    println!(
        "{}",
        serde_json::json!({
            "kernelRelease": crate::printable(&ready.kernel_release),
            "bootId": crate::printable(&ready.boot_id),
            "acceleration": acceleration(&said),
            "startMilliseconds": u64::try_from(milliseconds).unwrap_or(u64::MAX),
        })
    );
    let _ = agent.ask_within("Shutdown", Call::Shutdown(Empty {}), OFF_TIME).await;
    if tokio::time::timeout(OFF_TIME, machine.wait()).await.is_err() {
        machine.kill();
        machine.wait().await;
    }
    Ok(())
}

async fn boot(config: &Config, words: Configure, time: Duration) -> anyhow::Result<(Begun, Ready)> {
    let (machine, port) = Machine::start(config, Base::Cold, None, |_, _| Ok(())).await?;
    let (agent, events) = Agent::connect(port);
    let ready = tokio::select! {
        ready = agent.configure(words, time) => match ready {
            Ok(ready) => ready,
            Err(error) => bail!("{error}; the machine's last words: {}", machine.console.tail()),
        },
        how = machine.wait() => bail!("the machine ended ({how}); its last words: {}", machine.console.tail()),
    };
    Ok((Begun { machine, agent, events }, ready))
}

/// What QEMU itself reports, not what it was told to use.
fn acceleration(said: &serde_json::Value) -> &'static str {
    if said["enabled"] == true { Acceleration::Kvm.name() } else { Acceleration::Tcg.name() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acceleration_is_what_qemu_says() {
        assert_eq!(acceleration(&serde_json::json!({"enabled": true, "present": true})), "kvm");
        assert_eq!(acceleration(&serde_json::json!({"enabled": false, "present": true})), "tcg");
    }

    fn parse(args: &[&str]) -> anyhow::Result<Options> {
        options(args.iter().map(|s| (*s).to_owned()))
    }

    #[test]
    fn options_are_read() {
        let expect = Options { config: "/c".into(), time: Duration::from_secs(5), tenant: None };
        assert_eq!(parse(&["--config", "/c", "--timeout-seconds", "5"]).unwrap(), expect);
        for wrong in [&["--config"][..], &[], &["--config", "/c", "--timeout-seconds", "x"], &["--speed", "1"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
