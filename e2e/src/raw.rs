//! Requests as bytes, and what typed clients don't show of the answer: warnings, and the status of what is no Kubernetes object.

use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use kube::client::Body;
use serde_json::Value;

/// Longest wait for an answer to anything: generous, as only an answer that never comes is a fault.
const ANSWERED: Duration = Duration::from_secs(60);

/// What was answered.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The warnings, which kubectl shows to whoever asked.
    pub warnings: Vec<String>,
    /// The body.
    pub body: String,
}

/// Posts JSON.
///
/// # Errors
/// If no answer came within a minute, or one that is no text.
pub async fn post(client: &Client, path: &str, body: impl Into<Vec<u8>>) -> anyhow::Result<Reply> {
    let request = http::Request::post(path).header("content-type", "application/json").body(Body::from(body.into()))?;
    let asked = async {
        let (head, body) = client.send(request).await?.into_parts();
        let said = head.headers.get_all("warning").iter();
        let warnings = said.map(|value| anyhow::Ok(text(value.to_str()?).replace("\\\"", "\"").replace("\\\\", "\\")));
        anyhow::Ok(Reply {
            status: head.status.as_u16(),
            warnings: warnings.collect::<anyhow::Result<_>>()?,
            body: String::from_utf8(body.collect_bytes().await?.to_vec())?,
        })
    };
    tokio::time::timeout(ANSWERED, asked).await.with_context(|| format!("{path}: no answer within {} s", ANSWERED.as_secs()))?
}

/// The warnings beside a create of this object, as a dry run.
///
/// # Errors
/// As [`post`], and if it is refused.
pub async fn warnings(
    client: &Client,
    [version, _, plural]: [&str; 3],
    namespace: &str,
    object: &Value,
) -> anyhow::Result<Vec<String>> {
    let root = if version.contains('/') { "apis" } else { "api" };
    let reply =
        post(client, &format!("/{root}/{version}/namespaces/{namespace}/{plural}?dryRun=All"), object.to_string()).await?;
    anyhow::ensure!(reply.status == 201, "{reply:?}");
    Ok(reply.warnings)
}

/// The text of a header of Kubernetes: `299 - "text"` (RFC 7234, section 5.5).
fn text(header: &str) -> &str {
    header.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).map_or(header, |(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_between_the_outer_quotes() {
        for (header, expected) in [
            (r#"299 - "unknown field""#, "unknown field"),
            (r#"299 - "it is \"x\", refused""#, r#"it is \"x\", refused"#),
            ("what is none", "what is none"),
        ] {
            assert_eq!(text(header), expected);
        }
    }
}
