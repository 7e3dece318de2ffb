//! Ports plugged into a running machine: a stream of bytes between a program of the node and one of the guest.

use std::os::fd::{AsFd, OwnedFd};

use serde_json::json;

use super::qmp::{Qmp, QmpError};

/// Plugs a port whose other end on the node is the peer of `socket`. `id` is for QEMU, `name` for the guest.
///
/// # Errors
/// If QEMU refuses, as it does beyond the ports that the machine has room for; what was done before is undone as far as it goes.
pub async fn plug(qmp: &Qmp, id: &str, name: &str, socket: OwnedFd) -> Result<(), QmpError> {
    qmp.execute("getfd", json!({ "fdname": id }), Some(socket.as_fd())).await?;
    let address = json!({ "type": "fd", "data": { "str": id } });
    let backend = json!({ "type": "socket", "data": { "addr": address, "server": false } });
    if let Err(error) = qmp.execute("chardev-add", json!({ "id": id, "backend": backend }), None).await {
        let _ = qmp.execute("closefd", json!({ "fdname": id }), None).await; // it may be the backend's already
        return Err(error);
    }
    let device = json!({ "driver": "virtserialport", "bus": "serial0.0", "id": id, "chardev": id, "name": name });
    if let Err(error) = qmp.execute("device_add", device, None).await {
        let _ = qmp.execute("chardev-remove", json!({ "id": id }), None).await; // nothing else can be done about it
        return Err(error);
    }
    Ok(())
}
