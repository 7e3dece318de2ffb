//! All the evidence, in the order in which it is shown: with the webhook up, then once more with it away.

use std::time::Duration;

use super::stage::Stage;
use super::{STAGE_A, belonging, drill, kernel, looking, network, pods, usage};
use crate::row::Webhook;
use crate::{Counts, People, Row, Verdict, wait};

/// The operator writes usage at most every ten seconds.
const COUNTED: Duration = Duration::from_secs(60);

/// Collects every row. `say` is told what goes on.
///
/// # Errors
/// If something could not be tried: that is neither a green nor a red row.
pub async fn rows(people: &People, stage: &Stage, say: impl Fn(&str)) -> anyhow::Result<Vec<Row>> {
    let mut rows = kernel::rows(&people.platform, &stage.a, &stage.b).await?;
    rows.push(kernel::class(&stage.a, &stage.b));
    rows.extend(refusals(people, Webhook::Up).await?);
    say("asking over the network");
    rows.push(network::row(people, STAGE_A, &stage.a, &stage.neighbour, &stage.b).await?);
    for tenant in ["team-a", "team-b"] {
        rows.push(
            wait::until("usage to be counted", COUNTED, || async {
                let row = usage::quota(&people.platform, tenant).await?;
                anyhow::ensure!(row.verdict == Verdict::Green, "{}", row.answer);
                Ok(row)
            })
            .await?,
        );
    }
    rows.push(usage::start(&people.platform, &[&stage.a, &stage.b, &stage.neighbour]).await?);

    say("the webhook goes away: only RBAC, quota and admission policies count now");
    let replicas = drill::away(&people.platform).await?;
    let alone = refusals(people, Webhook::Away).await;
    // Also where the evidence failed: the cluster is somebody's.
    drill::back(&people.platform, replicas).await?;
    say("the webhook is back");
    rows.extend(alone?);
    Ok(rows)
}

/// What is refused, as alice.
async fn refusals(people: &People, webhook: Webhook) -> anyhow::Result<Vec<Row>> {
    let counts = Counts::with(webhook);
    let round = format!("{}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis());
    let mut rows = looking::rows(people, counts).await?;
    rows.extend(belonging::rows(people, counts, &round).await?);
    rows.push(belonging::theft(people, counts).await?);
    rows.extend(pods::rows(people, counts).await?);
    Ok(rows)
}
