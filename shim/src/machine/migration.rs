//! A machine's state to a file and back: QEMU's migration, but for the memory, which stays in a file that both map.
//!
//! The memory that can grow is not in it: a template has not grown, and QEMU passes over what is not plugged.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;

use super::command::state_uri;
use super::qmp::{Qmp, QmpError};

/// Time for a state of some hundred KiB to be written or read, on a busy node.
const STATE_TIME: Duration = Duration::from_secs(10);

/// Stops the machine, writes the state of its devices and ends QEMU.
///
/// # Errors
/// If QEMU refuses, fails or is late.
pub async fn save(qmp: &Qmp) -> Result<(), QmpError> {
    qmp.execute("stop", json!({}), None).await?;
    let mut events = prepare(qmp).await?;
    qmp.execute("migrate", json!({ "uri": state_uri() }), None).await?;
    completed(&mut events, "migrate").await?;
    qmp.execute("quit", json!({}), None).await.map(drop)
}

/// Reads the state into a machine that waits for it, and lets it run.
///
/// # Errors
/// If QEMU refuses, fails or is late: the machine must not be used then.
pub async fn resume(qmp: &Qmp) -> Result<(), QmpError> {
    let mut events = prepare(qmp).await?;
    qmp.execute("migrate-incoming", json!({ "uri": state_uri() }), None).await?;
    completed(&mut events, "migrate-incoming").await?;
    qmp.execute("cont", json!({}), None).await.map(drop)
}

async fn prepare(qmp: &Qmp) -> Result<Receiver<Value>, QmpError> {
    let on = |name| json!({ "capability": name, "state": true });
    let capabilities = json!({ "capabilities": [on("x-ignore-shared"), on("events")] });
    qmp.execute("migrate-set-capabilities", capabilities, None).await?;
    Ok(qmp.events())
}

async fn completed(events: &mut Receiver<Value>, command: &str) -> Result<(), QmpError> {
    let end = async {
        loop {
            // A lost event would be one of many: there are only some here.
            let event = events.recv().await.map_err(|error| error.to_string())?;
            match (event["event"].as_str(), event["data"]["status"].as_str()) {
                (Some("MIGRATION"), Some("completed")) => return Ok(()),
                (Some("MIGRATION"), Some("failed" | "cancelled")) => return Err("QEMU could not do it".to_owned()),
                _ => {}
            }
        }
    };
    match tokio::time::timeout(STATE_TIME, end).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(reason)) => Err(QmpError::Lost { command: command.to_owned(), reason }),
        Err(_) => Err(QmpError::Late { command: command.to_owned() }),
    }
}
