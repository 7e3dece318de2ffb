//! Log output of a server: JSON lines for collectors, or text for people.
//!
//! Input: `FREEHOLD_LOG` (a tracing filter, default `info`) and `FREEHOLD_LOG_FORMAT` (`json`, the default, or `text`).
//! Output goes to stderr, so that a program's stdout stays its answer.

use tracing_subscriber::EnvFilter;

/// Environment variable with the filter, in the syntax of tracing's `EnvFilter`.
pub const FILTER_VARIABLE: &str = "FREEHOLD_LOG";
/// Environment variable with the format: `json` or `text`.
pub const FORMAT_VARIABLE: &str = "FREEHOLD_LOG_FORMAT";

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

/// A log variable that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The format is neither of the two.
    #[error("{FORMAT_VARIABLE} is {0:?}; use \"json\" or \"text\"")]
    Format(String),
    /// The filter does not parse.
    #[error("{FILTER_VARIABLE} is {0:?}, which is no log filter ({1}); use for example \"info,kube=warn\"")]
    Filter(String, String),
    /// Logging was set up before.
    #[error("logging was already set up in this process: {0}")]
    Installed(String),
}

/// Reads the format from the variable's value; unset or empty means JSON.
pub fn format(value: Option<&str>) -> Result<Format, LoggingError> {
    match value.unwrap_or_default() {
        "" | "json" => Ok(Format::Json),
        "text" => Ok(Format::Text),
        other => Err(LoggingError::Format(other.to_owned())),
    }
}

/// Sets up logging for the process from the two variables. Call it once, first in `main`.
pub fn init() -> Result<(), LoggingError> {
    let written = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let text = if written.is_empty() { "info".to_owned() } else { written };
    let filter = EnvFilter::try_new(&text).map_err(|error| LoggingError::Filter(text, error.to_string()))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match format(std::env::var(FORMAT_VARIABLE).ok().as_deref())? {
        Format::Json => builder.json().flatten_event(true).try_init(),
        Format::Text => builder.try_init(),
    };
    installed.map_err(|error| LoggingError::Installed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        assert_eq!(format(None).unwrap(), Format::Json);
        assert_eq!(format(Some("json")).unwrap(), Format::Json);
        assert_eq!(format(Some("text")).unwrap(), Format::Text);
        assert!(format(Some("xml")).unwrap_err().to_string().contains("\"json\" or \"text\""));
    }
}
