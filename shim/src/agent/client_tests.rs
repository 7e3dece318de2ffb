use super::*;
use freehold_guest_api::message::{Empty, Error, Exited};

/// An agent that answers as `answer` says.
fn agent(port: UnixStream, mut answer: impl FnMut(Request) -> Vec<u8> + Send + 'static) {
    tokio::spawn(async move {
        let (mut read, mut write) = port.into_split();
        let (mut decoder, mut control) = (Decoder::default(), Control::default());
        let mut buffer = [0u8; 4096];
        while let Ok(n @ 1..) = read.read(&mut buffer).await {
            decoder.push(&buffer[..n]);
            while let Some(frame) = decoder.next_frame().unwrap() {
                if let Some((_, bytes)) = control.take(frame).unwrap() {
                    let out = answer(Request::decode(bytes.as_slice()).unwrap());
                    write.write_all(&out).await.unwrap();
                }
            }
        }
    });
}

fn reply(id: u64, answer: Answer) -> Vec<u8> {
    let mut out = Vec::new();
    frame::message_frames(&mut out, Kind::Reply, &Reply { id, answer: Some(answer) }.encode_to_vec());
    out
}

#[tokio::test]
async fn answers_find_their_requests() {
    let (here, there) = UnixStream::pair().unwrap();
    agent(there, |request| match request.call {
        Some(Call::Configure(words)) => {
            assert_eq!(words.entropy.len(), 64);
            let ready = Ready { kernel_release: "6".into(), boot_id: "b".into(), memory_bytes: 1 };
            reply(request.id, Answer::Ready(ready))
        }
        _ => reply(request.id, Answer::Error(Error { errno: 2, message: "no\u{1b} such".into() })),
    });
    let (client, _events) = Agent::connect(here);
    let ready = client.configure(first_words("pod").unwrap(), REQUEST_TIME).await.unwrap();
    assert_eq!(ready.kernel_release, "6");
    let error = client.command("Shutdown", Call::Shutdown(Empty {})).await.unwrap_err();
    assert_eq!(error.to_string(), "the guest failed: no  such");
}

#[tokio::test]
async fn events_come_in_order_and_a_breach_ends_the_connection() {
    let (here, there) = UnixStream::pair().unwrap();
    agent(there, |request| {
        let mut out = Vec::new();
        for status in 0..3 {
            let exited = Exited { container: "c".into(), exec_id: String::new(), status, at_ns: 1 };
            frame::message_frames(&mut out, Kind::Event, &Event { happening: Some(Happening::Exited(exited)) }.encode_to_vec());
        }
        out.extend(reply(request.id, Answer::Done(Empty {})));
        out.extend([1, 2, 3, 4, 99, 0, 0, 0]);
        out
    });
    let (client, mut events) = Agent::connect(here);
    client.command("Shutdown", Call::Shutdown(Empty {})).await.unwrap();
    for expect in 0..3 {
        let Some(Happening::Exited(exited)) = events.recv().await else { panic!("an exit was sent") };
        assert_eq!(exited.status, expect);
    }
    assert_eq!(client.lost().await, "frame of unknown kind 99");
    let error = client.command("Shutdown", Call::Shutdown(Empty {})).await.unwrap_err();
    assert!(matches!(error, AgentError::Lost(_)), "{error}");
}

#[tokio::test]
async fn a_silent_agent_is_late() {
    let (here, _there) = UnixStream::pair().unwrap();
    let (client, _events) = Agent::connect(here);
    let error = client.ask_within("Shutdown", Call::Shutdown(Empty {}), Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(error, AgentError::Late("Shutdown", _)), "{error}");
    assert!(client.inner.pending.lock().unwrap().is_empty());
}

#[test]
fn control_messages_are_bounded_and_not_mixed() {
    let piece = |kind, flags| Frame { stream: CONTROL, kind, flags, payload: vec![0; 32 * 1024] };
    let mut control = Control::default();
    assert!(control.take(piece(Kind::Reply, MORE)).unwrap().is_none());
    assert!(control.take(piece(Kind::Event, 0)).is_err());
    let mut control = Control::default();
    let end = (0..64).find_map(|_| control.take(piece(Kind::Reply, MORE)).err());
    assert!(end.is_some());
}
