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

fn control(kind: Kind, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::message_frames(&mut out, kind, message);
    out
}

fn on_stream(stream: u32, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode(&mut out, stream, kind, 0, payload);
    out
}

/// One frame that says more follow.
fn piece(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode(&mut out, CONTROL, kind, MORE, payload);
    out
}

/// Every way in which a guest can break the contract ends its own connection with a reason, and nothing is held for it.
#[tokio::test]
async fn a_guest_that_misbehaves_ends_its_connection() {
    use freehold_guest_api::limits::{MAX_PAYLOAD, WINDOW};
    let out_of_memory = Event { happening: Some(Happening::OutOfMemory(Default::default())) }.encode_to_vec();
    let full = vec![0u8; MAX_PAYLOAD];
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a kind that is none", vec![1, 0, 0, 0, 99, 0, 0, 0], "unknown kind 99"),
        ("a frame longer than frames are", vec![1, 0, 0, 0, 4, 0, 0xff, 0xff], "at most"),
        ("a flag that is none", vec![0, 0, 0, 0, 2, 6, 0, 0], "unknown flags"),
        ("control on a stream", vec![1, 0, 0, 0, 2, 0, 0, 0], "on stream 1"),
        ("data as control", vec![0, 0, 0, 0, 4, 0, 0, 0], "on stream 0"),
        ("a request to the shim", control(Kind::Request, &[]), "a message of kind Request"),
        ("a reply of noise", control(Kind::Reply, &[0xff; 40]), "a reply can't be decoded"),
        ("an event of noise", control(Kind::Event, &[0xff; 40]), "an event can't be decoded"),
        ("two messages mixed", [piece(Kind::Reply, &[1]), control(Kind::Event, &[])].concat(), "mixed"),
        (
            "a message without an end",
            piece(Kind::Reply, &full).repeat(MAX_MESSAGE / MAX_PAYLOAD + 1),
            "a control message of more than",
        ),
        ("more events than anybody takes", control(Kind::Event, &out_of_memory).repeat(MAX_EVENTS + 1), "events wait"),
        ("more output than it may send", on_stream(7, Kind::Data, &full).repeat(WINDOW / MAX_PAYLOAD + 1), "beyond its credit"),
        ("output of nothing, which costs it no credit", on_stream(7, Kind::Data, &[]), "empty"),
        ("credit of the wrong length", on_stream(7, Kind::Credit, &[1, 2]), "credit frame of 2 bytes"),
        ("an end in the middle of a frame", vec![1, 0, 0], "the machine ended"),
    ];
    for (what, bytes, reason) in cases {
        let (here, mut there) = UnixStream::pair().unwrap();
        let (client, _events) = Agent::connect(here);
        let _output = client.streams().receive(7).unwrap();
        let asked = client.clone();
        let waiting = tokio::spawn(async move { asked.command("Shutdown", Call::Shutdown(Empty {})).await });
        let sent = tokio::spawn(async move { there.write_all(&bytes).await.map(|()| drop(there)) });
        let said = client.lost().await;
        assert!(said.contains(reason), "{what}: {said}");
        let error = waiting.await.unwrap().unwrap_err();
        assert!(matches!(error, AgentError::Lost(_)), "{what}: {error}");
        assert!(client.inner.pending.lock().unwrap().is_empty(), "{what}");
        let _ = sent.await.unwrap(); // refused once we stopped reading
    }
}

/// What a slow but honest guest may send too is passed over: answers nobody waits for, and frames of streams that are gone.
#[tokio::test]
async fn what_comes_too_late_is_passed_over() {
    let (here, there) = UnixStream::pair().unwrap();
    agent(there, |request| {
        let mut out = reply(request.id + 1000, Answer::Done(Empty {})).repeat(1000);
        for kind in [Kind::Data, Kind::Eof, Kind::Reset] {
            out.extend(on_stream(4711, kind, b"late").repeat(1000));
        }
        out.extend(on_stream(4711, Kind::Credit, &u32::MAX.to_le_bytes()).repeat(1000));
        out.extend(reply(request.id, Answer::Done(Empty {})).repeat(2));
        out
    });
    let (client, _events) = Agent::connect(here);
    for _ in 0..3 {
        client.command("Shutdown", Call::Shutdown(Empty {})).await.unwrap();
    }
}
