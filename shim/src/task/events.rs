//! Events for containerd, published in order over its ttrpc socket.
//!
//! containerd may restart at any time: an event is offered again until it is taken or [`PATIENCE`] is over. A client that
//! missed one asks `State` and `Wait`, which are answered from memory.

use std::time::Duration;

use containerd_shim_protos::events::task;
use containerd_shim_protos::protobuf::well_known_types::{any::Any, timestamp::Timestamp};
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::{event::Envelope, events::ForwardRequest};
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::{topics, ttrpc};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::lifecycle::Exit;

/// Events that wait for containerd; more than a pod makes while containerd restarts.
const QUEUE: usize = 1024;
/// Time for one offer.
const OFFER_TIME: Duration = Duration::from_secs(2);
/// Time between offers.
const PAUSE: Duration = Duration::from_millis(250);
/// After this an event is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What can be told.
pub enum Event {
    /// A task was made.
    Create(task::TaskCreate),
    /// A task runs.
    Start(task::TaskStart),
    /// A process ended.
    Exit(task::TaskExit),
    /// A process was deleted.
    Delete(task::TaskDelete),
    /// An exec was made.
    ExecAdded(task::TaskExecAdded),
    /// An exec runs.
    ExecStarted(task::TaskExecStarted),
    /// The guest's kernel killed for memory.
    Oom(task::TaskOOM),
    /// A task is frozen.
    Paused(task::TaskPaused),
    /// A task goes on.
    Resumed(task::TaskResumed),
}

impl Event {
    fn pack(&self) -> Option<(&'static str, Any)> {
        let (topic, name, bytes) = match self {
            Event::Create(e) => (topics::TASK_CREATE_EVENT_TOPIC, "TaskCreate", e.write_to_bytes()),
            Event::Start(e) => (topics::TASK_START_EVENT_TOPIC, "TaskStart", e.write_to_bytes()),
            Event::Exit(e) => (topics::TASK_EXIT_EVENT_TOPIC, "TaskExit", e.write_to_bytes()),
            Event::Delete(e) => (topics::TASK_DELETE_EVENT_TOPIC, "TaskDelete", e.write_to_bytes()),
            Event::ExecAdded(e) => (topics::TASK_EXEC_ADDED_EVENT_TOPIC, "TaskExecAdded", e.write_to_bytes()),
            Event::ExecStarted(e) => (topics::TASK_EXEC_STARTED_EVENT_TOPIC, "TaskExecStarted", e.write_to_bytes()),
            Event::Oom(e) => (topics::TASK_OOM_EVENT_TOPIC, "TaskOOM", e.write_to_bytes()),
            Event::Paused(e) => (topics::TASK_PAUSED_EVENT_TOPIC, "TaskPaused", e.write_to_bytes()),
            Event::Resumed(e) => (topics::TASK_RESUMED_EVENT_TOPIC, "TaskResumed", e.write_to_bytes()),
        };
        let any = Any { type_url: format!("containerd.events.{name}"), value: bytes.ok()?, ..Any::default() };
        Some((topic, any))
    }
}

/// The way to containerd.
#[derive(Clone)]
pub struct Publisher(mpsc::Sender<Envelope>, String);

impl Publisher {
    /// Begins to publish to the socket at `address`; an empty one (no containerd) drops events.
    pub fn new(address: &str, namespace: &str) -> Publisher {
        let (to, queue) = mpsc::channel(QUEUE);
        let address = if address.starts_with("unix://") { address.to_owned() } else { format!("unix://{address}") };
        tokio::spawn(publish(queue, address, namespace.to_owned()));
        Publisher(to, namespace.to_owned())
    }

    /// Tells an event, in the order of the calls.
    pub fn tell(&self, event: &Event) {
        let Some((topic, any)) = event.pack() else { return };
        let envelope = Envelope {
            timestamp: timestamp(crate::now_ns()),
            namespace: self.1.clone(),
            topic: topic.to_owned(),
            event: MessageField::some(any),
            ..Envelope::default()
        };
        if self.0.try_send(envelope).is_err() {
            tracing::warn!(topic, "an event was dropped: containerd takes none");
        }
    }
}

async fn publish(mut queue: mpsc::Receiver<Envelope>, address: String, namespace: String) {
    let mut client = None;
    while let Some(envelope) = queue.recv().await {
        let topic = envelope.topic.clone();
        let request = ForwardRequest { envelope: MessageField::some(envelope), ..ForwardRequest::default() };
        let end = Instant::now() + PATIENCE;
        while let Err(error) = offer(&mut client, &address, &namespace, &request).await {
            client = None;
            if Instant::now() > end {
                tracing::warn!(topic, %error, "an event was given up");
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn offer(
    client: &mut Option<EventsClient>,
    address: &str,
    namespace: &str,
    request: &ForwardRequest,
) -> Result<(), ttrpc::Error> {
    let client = match client {
        Some(client) => client,
        None => client.insert(EventsClient::new(Client::connect(address).await?)),
    };
    let mut context = ttrpc::context::with_duration(OFFER_TIME);
    context.add("containerd-namespace-ttrpc".into(), namespace.to_owned());
    client.forward(context, request).await.map(drop)
}

/// A protobuf timestamp of nanoseconds since 1970.
pub fn timestamp(ns: u64) -> MessageField<Timestamp> {
    MessageField::some(Timestamp {
        seconds: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
        nanos: (ns % 1_000_000_000) as i32,
        ..Timestamp::default()
    })
}

/// A process ended; `id` is the exec's, or the container's for its first process.
pub fn exit(container: &str, exec_id: &str, pid: u32, exit: Exit) -> Event {
    Event::Exit(task::TaskExit {
        container_id: container.to_owned(),
        id: if exec_id.is_empty() { container } else { exec_id }.to_owned(),
        pid,
        exit_status: exit.status,
        exited_at: timestamp(exit.at_ns),
        ..task::TaskExit::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_names_its_process() {
        let of = |exec_id| match exit("c", exec_id, 5, Exit { status: 137, at_ns: 1_500_000_000 }) {
            Event::Exit(event) => event,
            _ => panic!("an exit"),
        };
        assert_eq!((of("").id.as_str(), of("e").id.as_str()), ("c", "e"));
        assert_eq!((of("").exited_at.seconds, of("").exited_at.nanos), (1, 500_000_000));
        let (topic, any) = exit("c", "", 5, Exit { status: 0, at_ns: 0 }).pack().unwrap();
        assert_eq!((topic, any.type_url.as_str()), ("/tasks/exit", "containerd.events.TaskExit"));
    }
}
