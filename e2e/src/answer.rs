//! What the API server answered to an attempt, and which layer of it.

use std::fmt;

/// Who refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The authorizer: the right is missing.
    Rbac,
    /// A ValidatingAdmissionPolicy of the floor.
    AdmissionPolicy,
    /// A ResourceQuota.
    Quota,
    /// A webhook that answered; one that could not be called is [`Layer::Other`].
    Webhook,
    /// Anything else.
    Other,
}

/// Admitted, or refused with a message for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The request took effect.
    Admitted,
    /// The request was refused.
    Refused {
        /// Who refused.
        layer: Layer,
        /// What the person at kubectl reads.
        message: String,
    },
}

impl Answer {
    /// Reads the outcome of a request.
    ///
    /// # Errors
    /// If the request reached no verdict: no connection, a conflict, an object that is not there. That is no evidence.
    pub fn of<T>(outcome: Result<T, kube::Error>) -> anyhow::Result<Answer> {
        match outcome {
            Ok(_) => Ok(Answer::Admitted),
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => {
                let message = status.message.clone();
                let layer = if message.contains("ValidatingAdmissionPolicy") {
                    Layer::AdmissionPolicy
                } else if message.contains("exceeded quota") {
                    Layer::Quota
                } else if message.contains("admission webhook") && message.contains("denied the request") {
                    Layer::Webhook
                } else if message.contains("cannot ") && message.contains(" resource ") {
                    Layer::Rbac
                } else {
                    Layer::Other
                };
                Ok(Answer::Refused { layer, message })
            }
            Err(error) => Err(anyhow::anyhow!("the request reached no verdict: {error}")),
        }
    }

    /// True if a layer that holds without our webhook refused.
    pub fn refused_by_floor(&self) -> bool {
        matches!(self, Answer::Refused { layer: Layer::Rbac | Layer::AdmissionPolicy | Layer::Quota, .. })
    }

    /// True if the refusal's message has this text in it.
    pub fn says(&self, text: &str) -> bool {
        matches!(self, Answer::Refused { message, .. } if message.contains(text))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Admitted => f.write_str("admitted"),
            Answer::Refused { layer, message } => write!(f, "refused ({layer:?}): {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_apart_by_what_the_server_says() {
        for (message, layer) in [
            (r#"pods is forbidden: User "alice" cannot list resource "pods" in API group """#, Layer::Rbac),
            (
                r#"namespaces "x" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no"#,
                Layer::AdmissionPolicy,
            ),
            (r#"pods "x" is forbidden: exceeded quota: q, requested: pods=1"#, Layer::Quota),
            (r#"admission webhook "w" denied the request: no"#, Layer::Webhook),
            (r#"failed calling webhook "w": no endpoints available"#, Layer::Other),
        ] {
            let status = kube::core::Status { code: 403, message: message.into(), ..Default::default() };
            let answer = Answer::of::<()>(Err(kube::Error::Api(Box::new(status)))).unwrap();
            assert!(matches!(answer, Answer::Refused { layer: found, .. } if found == layer), "{message}: {answer}");
        }
    }
}
