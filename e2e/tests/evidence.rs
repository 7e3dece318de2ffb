//! Every row of the demo's evidence, asserted: with the webhook up and with it away.
#![cfg(feature = "live")]

use std::path::Path;

use anyhow::ensure;
use freehold_e2e::evidence::{collect, stage};
use freehold_e2e::row::Webhook;
use freehold_e2e::{People, Verdict};

#[tokio::test]
async fn every_row_of_the_evidence_holds() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    for tenant in ["team-a", "team-b"] {
        stage::tenant(&people.platform, &Path::new("../examples").join(format!("{tenant}.yaml"))).await?;
    }
    let set = stage::set(&people).await?;
    let rows = collect::rows(&people, &set, |_| ()).await?;
    for row in &rows {
        ensure!(row.verdict == Verdict::Green, "{row:#?}");
        ensure!(!row.answer.contains("bob"), "the answer names another tenant's people: {row:#?}");
    }
    // The drill is worth something only if it tries as much as was tried before.
    for webhook in [Webhook::Up, Webhook::Away] {
        let count = rows.iter().filter(|row| row.webhook == webhook).count();
        ensure!(count >= 15, "only {count} rows were collected with the webhook {webhook:?}");
    }
    Ok(())
}
