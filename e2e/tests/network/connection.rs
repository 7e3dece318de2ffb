//! An open connection, which policies and restarts may or may not end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use freehold_e2e::evidence::STAGE_A;
use freehold_e2e::evidence::stage::Stage;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, AttachParams, AttachedProcess};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::scene::IN_FORCE;

/// How long an open connection may be silent before it counts as stopped.
const SILENT: Duration = Duration::from_secs(3);

/// An open connection from alice's pod to an echo beside it.
pub struct Connection {
    stdin: Box<dyn AsyncWrite + Unpin>,
    stdout: Box<dyn AsyncRead + Unpin>,
    // They end with what holds them.
    _processes: [AttachedProcess; 2],
    sent: u32,
    seen: String,
}

impl Connection {
    pub async fn open(platform: &Client, stage: &Stage) -> anyhow::Result<Self> {
        let pods: Api<Pod> = Api::namespaced(platform.clone(), STAGE_A);
        let listen = ["sh", "-c", "exec nc -ll -p 9000 -e cat"];
        let server = pods.exec(&stage.neighbour.pod, listen, &AttachParams::default().stderr(false)).await?;
        // The echo listens a moment later.
        let connect = format!("until nc {} 9000; do sleep 0.2; done", stage.neighbour.address);
        let parameters = AttachParams::default().stdin(true).stderr(false);
        let mut client = pods.exec(&stage.a.pod, ["sh", "-c", &connect], &parameters).await?;
        let stdin = Box::new(client.stdin().context("the connection takes nothing")?);
        let stdout = Box::new(client.stdout().context("the connection gives nothing")?);
        let mut connection = Self { stdin, stdout, _processes: [client, server], sent: 0, seen: String::new() };
        connection.becomes(true).await?;
        Ok(connection)
    }

    /// Whether what is sent now comes back before it counts as silent.
    pub async fn carries(&mut self) -> anyhow::Result<bool> {
        self.sent += 1;
        let line = format!("line {}\n", self.sent);
        self.stdin.write_all(line.as_bytes()).await?;
        self.stdin.flush().await?;
        let echoed = async {
            let mut buffer = [0; 1024];
            while !self.seen.contains(&line) {
                let n = self.stdout.read(&mut buffer).await?;
                ensure!(n > 0, "the connection was closed; it gave: {}", self.seen);
                self.seen += &String::from_utf8_lossy(&buffer[..n]);
            }
            Ok(())
        };
        match tokio::time::timeout(SILENT, echoed).await {
            Ok(outcome) => outcome.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Waits until it carries, or no longer does.
    pub async fn becomes(&mut self, carrying: bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.carries().await? != carrying {
            ensure!(began.elapsed() < IN_FORCE, "after {IN_FORCE:?} the open connection still carries: {}", !carrying);
        }
        Ok(())
    }
}
