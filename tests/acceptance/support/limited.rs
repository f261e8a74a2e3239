//! A model behind a real limiter: mocklimit admits or refuses each request, and aimock answers those that are admitted.
//! It is a reverse proxy with a thread for each connection, and it understands only what DSPy's client sends.

use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::Instant;

use super::aimock::{Aimock, Fixtures};
use super::http::{header, reply, request, send};
use super::mocklimit::Mocklimit;

/// A running server.
pub(crate) struct Limited {
    limiter: Mocklimit,
    _model: Aimock,
    address: String,
    refusals: Arc<Mutex<Vec<Refusal>>>,
    arrivals: Arc<Mutex<Vec<Instant>>>,
}

/// A request that was refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    /// When it was refused.
    pub(crate) at: Instant,
    /// Its Retry-After, in seconds.
    pub(crate) retry_after: u64,
}

impl Limited {
    /// Starts a server that admits this many requests every two seconds and answers each after 50 ms.
    pub(crate) fn start(requests: u32, fixtures: &Fixtures) -> Self {
        let (limiter, model) = (Mocklimit::start(requests), Aimock::start(fixtures));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (refusals, arrivals) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (limit, answer) = (limiter.url(), model.base_url().replace("/v1", ""));
        let server = Self {
            limiter,
            _model: model,
            address,
            refusals: Arc::clone(&refusals),
            arrivals: Arc::clone(&arrivals),
        };
        // The thread ends with the process. A test starts only a few servers.
        spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (limit, answer) = (limit.clone(), answer.clone());
                let (refusals, arrivals) = (Arc::clone(&refusals), Arc::clone(&arrivals));
                spawn(move || {
                    let mut reader = BufReader::new(client.try_clone().unwrap());
                    while let Ok(Some((path, body))) = request(&mut reader) {
                        arrivals.lock().unwrap().push(Instant::now());
                        let admission = send("GET", &limit, "");
                        let status = admission.split(' ').nth(1).unwrap().to_owned();
                        let reply = if status == "429" {
                            let retry_after = header(&admission, "retry-after").unwrap().parse().unwrap();
                            refusals.lock().unwrap().push(Refusal { at: Instant::now(), retry_after });
                            let body = r#"{"error": {"message": "slow down", "type": "rate_limit_error"}}"#;
                            reply(&status, &format!("Retry-After: {retry_after}\r\n"), body)
                        } else {
                            let answered = send("POST", &format!("{answer}{path}"), &body);
                            let (head, body) = answered.split_once("\r\n\r\n").unwrap();
                            reply(head.split(' ').nth(1).unwrap(), "", body)
                        };
                        if (&client).write_all(reply.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        server
    }

    /// The URL for `--api-base`.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How many requests came, and how many of them were refused, as the limiter counts.
    pub(crate) fn requests(&self) -> (u64, u64) {
        self.limiter.requests()
    }

    /// The requests that were refused.
    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        self.refusals.lock().unwrap().clone()
    }

    /// When requests came.
    pub(crate) fn arrivals(&self) -> Vec<Instant> {
        self.arrivals.lock().unwrap().clone()
    }
}
