//! containerd's task API in terms of [`Pod`]: fields in, fields out, one status code an error.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
    DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, PidsResponse, ProcessInfo,
    ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, Status, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use containerd_shim_protos::ttrpc::{self, Code, get_status};
use prost::Message;

use super::create::Create;
use super::events::timestamp;
use super::lifecycle::Phase;
use super::pod::{Pod, TaskError};
use super::stats;
use super::stdio::Paths;
use crate::spec;

/// The service, registered under both names that containerd knows.
pub struct Api {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The handler's configuration file, unless the request's options name one.
    pub config: Option<PathBuf>,
}

/// `runtimeoptions.v1.Options` of the CRI plugin: which file configures the handler.
#[derive(Clone, PartialEq, Message)]
struct Options {
    #[prost(string, tag = "2")]
    config_path: String,
}

/// The configuration file that a handler's options name.
fn config_path(options: Option<&Any>) -> Option<PathBuf> {
    let any = options.filter(|any| any.type_url.ends_with("runtimeoptions.v1.Options"))?;
    let path = Options::decode(any.value.as_slice()).ok()?.config_path;
    (!path.is_empty()).then(|| path.into())
}

fn status(error: &TaskError) -> ttrpc::Error {
    let code = match error {
        TaskError::NotFound(_) | TaskError::Machine(_) => Code::NOT_FOUND,
        TaskError::Exists(_) => Code::ALREADY_EXISTS,
        TaskError::Refused(_) => Code::FAILED_PRECONDITION,
        TaskError::Unsupported(_) => Code::UNIMPLEMENTED,
        TaskError::Failed(_) => Code::UNKNOWN,
    };
    ttrpc::Error::RpcStatus(get_status(code, error))
}

/// A request's process, from its JSON.
fn parse<T: serde::de::DeserializeOwned>(what: &str, any: Option<&Any>) -> Result<T, TaskError> {
    let any = any.ok_or_else(|| TaskError::Failed(anyhow::anyhow!("{what} is missing")))?;
    serde_json::from_slice(&any.value).map_err(|e| TaskError::Failed(anyhow::anyhow!("{what} can't be read: {e}")))
}

type Answer<T> = ttrpc::Result<T>;

#[async_trait]
impl Task for Api {
    async fn create(&self, _: &TtrpcContext, req: CreateTaskRequest) -> Answer<CreateTaskResponse> {
        if !req.checkpoint.is_empty() {
            return Err(status(&TaskError::Unsupported("restoring a checkpoint")));
        }
        let rootfs = req.rootfs.into_iter().map(|mount| (mount.type_, mount.source, mount.options)).collect();
        let paths = Paths { stdin: req.stdin, stdout: req.stdout, stderr: req.stderr, terminal: req.terminal };
        let config = config_path(req.options.as_ref()).or_else(|| self.config.clone());
        let create = Create { id: req.id, bundle: req.bundle.into(), rootfs, paths, config };
        let pid = self.pod.create(create).await.inspect_err(|error| tracing::error!("{error}")).map_err(|e| status(&e))?;
        Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() })
    }

    async fn start(&self, _: &TtrpcContext, req: StartRequest) -> Answer<StartResponse> {
        let pid = self.pod.start(&req.id, &req.exec_id).await.inspect_err(|error| tracing::error!("{error}"));
        Ok(StartResponse { pid: pid.map_err(|e| status(&e))?, ..StartResponse::default() })
    }

    async fn state(&self, _: &TtrpcContext, req: StateRequest) -> Answer<StateResponse> {
        let (task, process) = self.pod.process(&req.id, &req.exec_id).map_err(|e| status(&e))?;
        let phase = process.phase();
        let state = match phase {
            Phase::Created | Phase::Starting => Status::CREATED,
            Phase::Running => Status::RUNNING,
            Phase::Paused => Status::PAUSED,
            Phase::Stopped(_) | Phase::Gone => Status::STOPPED,
        };
        Ok(StateResponse {
            id: req.id,
            exec_id: req.exec_id,
            bundle: task.bundle.display().to_string(),
            pid: self.pod.pid(),
            status: state.into(),
            stdin: process.paths.stdin.clone(),
            stdout: process.paths.stdout.clone(),
            stderr: process.paths.stderr.clone(),
            terminal: process.paths.terminal,
            exit_status: phase.exit().map_or(0, |exit| exit.status),
            exited_at: phase.exit().map_or_else(MessageField::none, |exit| timestamp(exit.at_ns)),
            ..StateResponse::default()
        })
    }

    async fn wait(&self, _: &TtrpcContext, req: WaitRequest) -> Answer<WaitResponse> {
        let (_, process) = self.pod.process(&req.id, &req.exec_id).map_err(|e| status(&e))?;
        let exit = process.ended().await;
        let exit = exit.ok_or_else(|| status(&TaskError::NotFound("process: it was deleted".into())))?;
        Ok(WaitResponse { exit_status: exit.status, exited_at: timestamp(exit.at_ns), ..WaitResponse::default() })
    }

    async fn kill(&self, _: &TtrpcContext, req: KillRequest) -> Answer<Empty> {
        self.pod.kill(&req.id, &req.exec_id, req.signal, req.all).await.map_err(|e| status(&e))?;
        Ok(Empty::default())
    }

    async fn delete(&self, _: &TtrpcContext, req: DeleteRequest) -> Answer<DeleteResponse> {
        let (pid, exit) = self.pod.delete(&req.id, &req.exec_id).await.map_err(|e| status(&e))?;
        let exited_at = timestamp(exit.at_ns);
        Ok(DeleteResponse { pid, exit_status: exit.status, exited_at, ..DeleteResponse::default() })
    }

    async fn pids(&self, _: &TtrpcContext, req: PidsRequest) -> Answer<PidsResponse> {
        self.pod.task(&req.id).map_err(|e| status(&e))?;
        // The guest's numbers mean nothing on the host, where callers look for these.
        let info = ProcessInfo { pid: self.pod.pid(), ..ProcessInfo::default() };
        Ok(PidsResponse { processes: vec![info], ..PidsResponse::default() })
    }

    async fn exec(&self, _: &TtrpcContext, req: ExecProcessRequest) -> Answer<Empty> {
        let process = parse("the process to run", req.spec.as_ref()).map_err(|e| status(&e))?;
        let paths = Paths { stdin: req.stdin, stdout: req.stdout, stderr: req.stderr, terminal: req.terminal };
        self.pod.exec(&req.id, &req.exec_id, &process, paths).map_err(|e| status(&e))?;
        Ok(Empty::default())
    }

    async fn resize_pty(&self, _: &TtrpcContext, req: ResizePtyRequest) -> Answer<Empty> {
        self.pod.resize(&req.id, &req.exec_id, req.width, req.height).await.map_err(|e| status(&e))?;
        Ok(Empty::default())
    }

    async fn close_io(&self, _: &TtrpcContext, req: CloseIORequest) -> Answer<Empty> {
        let (_, process) = self.pod.process(&req.id, &req.exec_id).map_err(|e| status(&e))?;
        if req.stdin {
            process.close_stdin.notify_one();
        }
        Ok(Empty::default())
    }

    async fn update(&self, _: &TtrpcContext, req: UpdateTaskRequest) -> Answer<Empty> {
        let resources: spec::SpecResources = parse("the new limits", req.resources.as_ref()).map_err(|e| status(&e))?;
        self.pod.update(&req.id, &resources).await.map_err(|e| status(&e))?;
        Ok(Empty::default())
    }

    async fn stats(&self, _: &TtrpcContext, req: StatsRequest) -> Answer<StatsResponse> {
        let found = self.pod.stats(&req.id).await.map_err(|e| status(&e))?;
        Ok(StatsResponse { stats: MessageField::some(stats::pack(&found)), ..StatsResponse::default() })
    }

    async fn pause(&self, _: &TtrpcContext, req: PauseRequest) -> Answer<Empty> {
        self.pod.freeze(&req.id, true).await.map_err(|e| status(&e))?;
        Ok(Empty::default())
    }

    async fn resume(&self, _: &TtrpcContext, req: ResumeRequest) -> Answer<Empty> {
        self.pod.freeze(&req.id, false).await.map_err(|e| status(&e))?;
        Ok(Empty::default())
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> Answer<Empty> {
        Err(status(&TaskError::Unsupported("checkpointing")))
    }

    async fn connect(&self, _: &TtrpcContext, _: ConnectRequest) -> Answer<ConnectResponse> {
        let (shim_pid, task_pid) = (std::process::id(), self.pod.pid());
        Ok(ConnectResponse { shim_pid, task_pid, version: env!("CARGO_PKG_VERSION").into(), ..ConnectResponse::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, req: ShutdownRequest) -> Answer<Empty> {
        if req.now || self.pod.is_empty() {
            self.pod.over.notify_one();
        }
        Ok(Empty::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_named_by_the_handlers_options() {
        let value = Options { config_path: "/opt/x.toml".into() }.encode_to_vec();
        for (url, expect) in [
            ("runtimeoptions.v1.Options", Some("/opt/x.toml")),
            ("type.googleapis.com/runtimeoptions.v1.Options", Some("/opt/x.toml")),
            ("containerd.runc.v1.Options", None),
        ] {
            let any = Any { type_url: url.into(), value: value.clone(), ..Any::default() };
            assert_eq!(config_path(Some(&any)), expect.map(PathBuf::from), "{url}");
        }
        assert_eq!(config_path(None), None);
    }
}
