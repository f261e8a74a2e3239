#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::frame::{read, write};
use super::wire::{Names, WireReply};
use super::{Asking, ConnectError, Host, Remote, Served, Started, StreamTransport, serve};
use crate::bridge::scripted::{Script, ScriptedBridge};
use crate::bridge::{Bridge, Call, Description, Health, Reply};
use crate::call::{Attempt, call_clock};
use crate::error::{BridgeError, CallError, Failure, FailureKind, Unanswered};
use crate::input::{Kind, Misfit, Parameter, TypedValue, Types};
use crate::outcome::Answer;
use crate::row::Value;
use crate::usage::Usage;

const SOON: Duration = Duration::from_secs(5);

fn host() -> Host {
    Host { model: Box::new(|| Err("there is none".to_owned())), printed: Box::new(|_| {}) }
}

fn scripted() -> Started {
    Started { bridge: Arc::new(ScriptedBridge::new(Script::default())), facts: b"facts".to_vec() }
}

fn attempt(row: u64, value: Value) -> Attempt {
    let arguments = Arc::new(vec![("question".into(), value)]);
    Attempt { row, number: 1, arguments, clock: call_clock(Instant::now()).0 }
}

fn json(text: &str) -> Value {
    Value::Json(serde_json::value::RawValue::from_string(text.to_owned()).unwrap())
}

/// A worker in this process, and the stream that leads to it.
fn worker() -> (DuplexStream, tokio::task::JoinHandle<Served>) {
    let (here, there) = duplex(64 << 10);
    (here, tokio::spawn(serve(StreamTransport(there), |_, _| Ok(scripted()), || ())))
}

async fn connect(stream: DuplexStream) -> Result<Remote, ConnectError> {
    Remote::connect(StreamTransport(stream), b"load", host(), &Handle::current()).await
}

fn answer(reply: Reply) -> Result<Value, CallError> {
    reply.map(|answer| answer.fields.into_iter().next().unwrap().1)
}

/// Passes on so many bytes from one stream to the other, then ends the other. Returns the number of bytes passed on.
async fn relay(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, most: usize) -> usize {
    let (mut bytes, mut passed) = ([0; 4096], 0);
    while passed < most
        && let Ok(read @ 1..) = from.read(&mut bytes).await
    {
        let read = read.min(most - passed);
        passed += read;
        if to.write_all(&bytes[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
    passed
}

/// What became of three calls over a connection that passes on so many bytes each way: how many were answered and how
/// many were left open, how the worker ended, and how many bytes it said. None if the connection was cut before the
/// worker was ready.
async fn cut(asked: usize, told: usize) -> (Option<(usize, usize)>, Served, usize) {
    let (near, worker) = worker();
    let (here, far) = duplex(64 << 10);
    let (near_reads, near_writes) = split(near);
    let (far_reads, far_writes) = split(far);
    let asking = tokio::spawn(relay(far_reads, near_writes, asked));
    let telling = tokio::spawn(relay(near_reads, far_writes, told));
    let calls = match timeout(SOON, connect(here)).await.expect("it is not seen that the worker ended") {
        Err(ConnectError::Gone) => None,
        Err(error) => panic!("{error}"),
        Ok(remote) => {
            assert_eq!(remote.facts(), b"facts");
            let mut calls: Vec<_> = (0..3).map(|row| remote.submit(attempt(row, json("[1, 2]")))).collect();
            let mut answered = 0;
            for call in &mut calls {
                tokio::select! {
                    biased;
                    reply = call => {
                        assert_eq!(answer(reply).unwrap(), json("[1, 2]"));
                        answered += 1;
                    }
                    () = remote.disconnected() => {}
                }
            }
            let open = remote.rows();
            if answered == 3 {
                assert!(open.is_empty());
                remote.ask_to_close(SOON);
                timeout(SOON, remote.disconnected()).await.expect("it does not close");
            }
            remote
                .lose(CallError::Lost("late".to_owned()), true, |row| CallError::Lost(format!("row {row}")));
            for call in calls.drain(..).skip(answered) {
                match timeout(SOON, call).await.expect("a call hangs") {
                    Err(CallError::Lost(row)) => {
                        assert!(open.iter().any(|open| row == format!("row {open}")));
                    }
                    // It came with the last bytes.
                    other => assert_eq!(answer(other).unwrap(), json("[1, 2]")),
                }
            }
            assert!(
                matches!(remote.submit(attempt(9, json("1"))).await, Err(CallError::Lost(text)) if text == "late")
            );
            Some((answered, open.len()))
        }
    };
    asking.abort();
    let served = timeout(SOON, worker).await.expect("the worker does not see the end").unwrap();
    (calls, served, telling.await.unwrap())
}

/// An answer that came whole is kept, and no call is ended by the end of the connection alone.
#[tokio::test]
async fn a_connection_that_is_cut_at_any_byte_leaves_each_call_answered_or_open() {
    let (whole, served, said) = cut(usize::MAX, usize::MAX).await;
    assert_eq!((whole, served), (Some((3, 0)), Served::Closed));
    let (mut never, mut some, mut none) = (0, 0, 0);
    for told in 0..said {
        match cut(usize::MAX, told).await.0 {
            None => never += 1,
            Some((0, _)) => none += 1,
            Some(_) => some += 1,
        }
    }
    assert!(never > 0 && none > 0 && some > 0, "{never} {none} {some}");
    for asked in 0..200 {
        let (calls, served, _) = cut(asked, usize::MAX).await;
        assert!(
            served == Served::Gone || calls.is_some_and(|(answered, _)| answered == 3),
            "{asked}: {calls:?}"
        );
    }
}

#[tokio::test]
async fn another_version_is_refused_and_so_is_what_cannot_be_loaded() {
    let (mut here, worker) = worker();
    let mut frame = Vec::new();
    write(
        &mut frame,
        &super::message::ToWorker::Hello("0.0.1".to_owned(), super::wire::Bytes(b"".as_slice().into())),
    )
    .unwrap();
    here.write_u32(frame.len() as u32).await.unwrap();
    here.write_all(&frame).await.unwrap();
    assert_eq!(timeout(SOON, worker).await.unwrap().unwrap(), Served::Refused);
    let (here, there) = duplex(64 << 10);
    let refuse = |load: &[u8], _| Err(format!("no such thing: {}", String::from_utf8_lossy(load)));
    tokio::spawn(serve(StreamTransport(there), refuse, || ()));
    let refused = connect(here).await.err();
    assert!(matches!(refused, Some(ConnectError::Refused(reason)) if reason == "no such thing: load"));
}

/// A bridge whose parameters take whole numbers.
#[derive(Debug)]
struct Typed(ScriptedBridge, Description);

impl Bridge for Typed {
    fn describe(&self) -> &Description {
        &self.1
    }
    fn types(&self) -> Option<&dyn Types> {
        Some(self)
    }
    fn submit(&self, attempt: Attempt) -> Call {
        self.0.submit(attempt)
    }
    fn health(&self) -> Health {
        self.0.health()
    }
    fn close(&self, within: Duration) -> bool {
        self.0.close(within)
    }
}

impl Types for Typed {
    fn check(
        &self,
        directory: &Path,
        batches: &mut (dyn Iterator<Item = Vec<TypedValue>> + Send),
        told: &mut dyn FnMut(Misfit) -> bool,
    ) -> Result<(), String> {
        assert_eq!(directory, Path::new("/data"));
        let kind = self.1.parameters[0].kind.clone().unwrap();
        for TypedValue { line, parameter, value } in batches.flatten() {
            if value == Value::Text("cannot be checked".to_owned()) {
                return Err("no types".to_owned());
            }
            if matches!(&value, Value::Text(text) if text.parse::<i64>().is_err()) {
                let (kind, reason) = (Arc::clone(&kind), "not a number".to_owned());
                told(Misfit { line, parameter, value, kind, reason });
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_checked_at_the_other_end_and_a_model_is_asked_for_here() {
    let kind = Kind { name: "int".to_owned(), takes_null: false, takes_blank: false };
    let parameter = Parameter { name: "question".to_owned(), required: true, kind: Some(kind.into()) };
    let (here, there) = duplex(64 << 10);
    let start = move |_: &[u8], asking: Asking| {
        asking.print(b"loading\n");
        assert_eq!(asking.model().unwrap(), b"the model");
        let scripted = ScriptedBridge::new(Script::default());
        let description = Description { parameters: vec![parameter], ..scripted.describe().clone() };
        Ok(Started { bridge: Arc::new(Typed(scripted, description)), facts: Vec::new() })
    };
    tokio::spawn(serve(StreamTransport(there), start, || ()));
    let printed = Arc::<Mutex<Vec<u8>>>::default();
    let keep = Arc::clone(&printed);
    let host = Host {
        model: Box::new(|| Ok(b"the model".to_vec())),
        printed: Box::new(move |bytes| keep.lock().unwrap().extend_from_slice(bytes)),
    };
    let remote = Remote::connect(StreamTransport(here), b"", host, &Handle::current()).await.unwrap();
    assert_eq!(*printed.lock().unwrap(), b"loading\n");
    let checked = tokio::task::spawn_blocking(move || {
        let types = remote.types().unwrap();
        let value = |line, text: &str| TypedValue {
            line,
            parameter: "question".into(),
            value: Value::Text(text.into()),
        };
        let batches = vec![vec![value(1, "1"), value(2, "two")], vec![value(3, "three"), value(4, "4")]];
        let mut misfits = Vec::new();
        let mut told = |misfit: Misfit| {
            misfits.push((misfit.line, misfit.value.to_json(), misfit.reason, misfit.kind.name.clone()));
            true
        };
        types.check(Path::new("/data"), &mut batches.into_iter(), &mut told).unwrap();
        let mut broken = std::iter::once(vec![value(1, "cannot be checked")]);
        let error = types.check(Path::new("/data"), &mut broken, &mut |_| true);
        (misfits, error)
    });
    let (misfits, error) = checked.await.unwrap();
    let misfit = |line, value: &str| (line, value.to_owned(), "not a number".to_owned(), "int".to_owned());
    assert_eq!(misfits, [misfit(2, "\"two\""), misfit(3, "\"three\"")]);
    assert_eq!(error, Err("no types".to_owned()));
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<String>().prop_map(Value::Text),
        any::<i64>().prop_map(|number| json(&number.to_string()))
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let usage = any::<Option<(u64, u64, u64, Option<u32>)>>().prop_map(|usage| {
        let (input, output, calls, cost) = usage?;
        Some(Usage { input, output, calls, cost_usd: cost.map(f64::from) })
    });
    let text = any::<Option<String>>();
    let fields = proptest::collection::vec((any::<String>(), value()), 0..4);
    let answer = (fields, usage, any::<Option<u32>>(), text.clone(), text).prop_map(
        |(fields, usage, first_chunk, finish_reason, request_id)| Answer {
            fields: fields.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            usage,
            first_chunk: first_chunk.map(|time| Duration::from_nanos(time.into())),
            finish_reason: finish_reason.map(Into::into),
            request_id: request_id.map(Into::into),
        },
    );
    let failure =
        (any::<String>(), any::<Option<u16>>(), any::<Option<u32>>()).prop_map(|(text, status, wait)| {
            CallError::Predictor(Box::new(Failure {
                status,
                retry_after: wait.map(|wait| Duration::from_millis(wait.into())),
                request_id: status.map(|_| text.as_str().into()),
                unanswered: wait.map(|_| Unanswered::CutOff),
                traceback: Some(text.clone()),
                ..Failure::new("Class", FailureKind::Throttled, text)
            }))
        });
    let error = prop_oneof![
        failure,
        any::<String>().prop_map(CallError::Input),
        any::<String>().prop_map(CallError::Output),
        any::<String>().prop_map(CallError::Crash),
        any::<String>().prop_map(CallError::Lost),
        any::<u32>().prop_map(|time| CallError::Timeout(Duration::from_micros(time.into()))),
        Just(CallError::Bridge(BridgeError::HandoverStuck)),
    ];
    prop_oneof![answer.prop_map(Ok), error.prop_map(Err)]
}

proptest! {
    #[test]
    fn replies_cross_unchanged(replies in proptest::collection::vec(reply(), 1..5)) {
        let mut frame = Vec::new();
        for reply in &replies {
            write(&mut frame, &WireReply::of(reply)).unwrap();
        }
        let (mut names, mut crossed) = (Names::default(), Vec::new());
        read(&frame, |reply: WireReply<'_>| crossed.push(reply.into_reply(&mut names))).unwrap();
        prop_assert_eq!(format!("{crossed:?}"), format!("{replies:?}"));
        prop_assert!(read(&frame[..frame.len() - 1], |_: WireReply<'_>| ()).is_err());
    }
}
