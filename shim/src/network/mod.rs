//! The pod's network: what CNI left in the pod's namespace is read, joined to a tap by redirects, and told to the guest.
//!
//! For each Ethernet interface with an address a tap is made beside it, and what arrives at one leaves by the other,
//! from the machine only under the pod's own addresses.
//! QEMU gets the tap's descriptor; the guest gets a card with the interface's own address, so nothing outside the pod's
//! namespace sees a difference. Netfilter rules inside the pod's namespace are passed by (some service meshes need them).
//!
//! A thread of its own enters the namespace: descriptors made there work from anywhere.

mod bpf;
mod forward;
mod guard;
mod plug;
mod read;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, bail};
use freehold_guest_api::message::Network;
use serde_json::json;

use crate::machine::command::ROOT_PORTS;
use crate::machine::qmp::Qmp;

/// The pod's network on the host's side, ready to be plugged into its machine.
#[derive(Debug)]
pub struct Joined {
    /// For the guest.
    pub network: Network,
    /// Takes what is dialled on the namespace's localhost; `None` where the kernel can't.
    pub ports: Option<forward::Ports>,
    taps: Vec<OwnedFd>,
}

/// Reads the namespace and makes the taps in it.
///
/// # Errors
/// If a step fails, or there are more interfaces than the machine has ports.
pub async fn join(netns: &Path) -> anyhow::Result<Joined> {
    let path = netns.to_owned();
    let work = move || -> anyhow::Result<Joined> {
        let file = File::open(&path).with_context(|| format!("can't open the pod's network namespace {}", path.display()))?;
        rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&file),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )
        .context("can't enter the pod's network namespace")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().context("can't speak netlink")?;
            tokio::spawn(connection);
            let found = read::read(&handle).await.context("can't read the pod's network")?;
            if found.indexes.len() > ROOT_PORTS {
                bail!("the pod has {} network interfaces, a virtual machine takes {ROOT_PORTS}", found.indexes.len());
            }
            let mut taps = Vec::new();
            for (interface, &index) in found.network.interfaces.iter().zip(&found.indexes) {
                let tap = plug::tap(&handle, taps.len(), index, interface).await;
                taps.push(tap.with_context(|| format!("can't join interface {} to the machine", interface.name))?);
            }
            let ports = forward::listen()
                .inspect_err(|error| tracing::warn!(%error, "port-forward will not work: it needs Linux 5.9 with BPF"))
                .ok();
            Ok(Joined { network: found.network, ports, taps })
        })
    };
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("pod-network".into()).spawn(move || drop(done.send(work())))?;
    result.await.context("the thread that joins the pod's network ended")?
}

impl Joined {
    /// Plugs a card for each interface.
    ///
    /// # Errors
    /// If QEMU refuses.
    pub async fn plug(&self, qmp: &Qmp) -> anyhow::Result<()> {
        for (number, (interface, tap)) in self.network.interfaces.iter().zip(&self.taps).enumerate() {
            let (fd, id) = (format!("tap{number}"), format!("net{number}"));
            qmp.execute("getfd", json!({ "fdname": fd }), Some(std::os::fd::AsFd::as_fd(tap))).await?;
            qmp.execute("netdev_add", json!({ "type": "tap", "id": id, "fd": fd }), None).await?;
            let mac: Vec<String> = interface.mac.iter().map(|byte| format!("{byte:02x}")).collect();
            let card = json!({
                "driver": "virtio-net-pci", "id": format!("card{number}"), "netdev": id, "mac": mac.join(":"),
                "bus": format!("port{number}"), "romfile": "", "host_mtu": interface.mtu,
            });
            qmp.execute("device_add", card, None).await?;
        }
        Ok(())
    }
}
