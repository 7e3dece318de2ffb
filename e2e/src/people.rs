//! The people of the tests: each has a client with credentials of their own.

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// The platform team and two tenants' owners.
pub struct People {
    /// The platform team (cluster administrator).
    pub platform: Client,
    /// Owner of tenant `team-a`.
    pub alice: Client,
    /// Owner of tenant `team-b`.
    pub bob: Client,
}

impl People {
    /// Reads the kubeconfigs that the environment names.
    ///
    /// # Errors
    /// If one is not named, not readable or not usable; says which.
    pub async fn from_environment() -> anyhow::Result<People> {
        Ok(People {
            platform: client("FREEHOLD_KUBECONFIG").await?,
            alice: client("FREEHOLD_KUBECONFIG_ALICE").await?,
            bob: client("FREEHOLD_KUBECONFIG_BOB").await?,
        })
    }
}

/// A client by the kubeconfig that an environment variable names.
///
/// # Errors
/// If it is not named, not readable or not usable; says which.
pub async fn client(variable: &str) -> anyhow::Result<Client> {
    let path = std::env::var(variable).with_context(|| {
        format!("{variable} is not set; these tests need a cluster with the chart installed, and a kubeconfig for each person")
    })?;
    let kubeconfig = Kubeconfig::read_from(&path).with_context(|| format!("{variable}: could not read {path}"))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("{variable}: {path} is not usable"))?;
    Client::try_from(config).with_context(|| format!("{variable}: no client from {path}"))
}
