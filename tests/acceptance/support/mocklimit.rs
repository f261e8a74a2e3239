//! A server that really limits requests, with mocklimit's fixed window, for predictors that ask it over HTTP. Its
//! answers have no content.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SPEC: &str = r#"{"openapi": "3.0.0", "info": {"title": "ask", "version": "1"},
    "paths": {"/ask": {"get": {"operationId": "ask", "responses": {"200": {"description": "answered"}}}}}}"#;

/// A running server; dropping it ends it.
pub(crate) struct Mocklimit {
    child: Child,
    address: String,
    _configuration: tempfile::TempDir,
}

impl Mocklimit {
    /// Starts a server that admits this many requests every two seconds and answers each after 50 ms. Its Retry-After
    /// is in whole seconds.
    pub(crate) fn start(requests: u32) -> Self {
        let configuration = tempfile::tempdir().unwrap();
        let limits = serde_json::json!({
            "policies": {"window": {"strategy": "fixed_window", "scope": "ip", "response_latency_ms": [50, 50],
                "limits": [{"limit": requests, "window_seconds": 2}]}},
            "endpoints": {"/ask": {"methods": ["GET"], "policy": "window"}},
        });
        let [spec, rates] = ["spec.yaml", "rates.yaml"].map(|name| configuration.path().join(name));
        std::fs::write(&spec, SPEC).unwrap();
        std::fs::write(&rates, limits.to_string()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
        let child = Command::new(python)
            .args(["-m", "mocklimit", "serve", "--log-level", "ERROR", "--port", &port.to_string()])
            .arg("--spec")
            .arg(spec)
            .arg("--rate-config")
            .arg(rates)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, address: format!("127.0.0.1:{port}"), _configuration: configuration };
        let started = Instant::now();
        while std::net::TcpStream::connect(&server.address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "mocklimit does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// The URL whose requests are limited.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/ask", self.address)
    }

    /// How many requests came, and how many of them were refused.
    pub(crate) fn requests(&self) -> (u64, u64) {
        let response = super::http::send("GET", &format!("http://{}/mocklimit/stats", self.address), "");
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        let stats: serde_json::Value = serde_json::from_str(body).unwrap();
        let count = |name: &str| stats["GET /ask"]["127.0.0.1"][name].as_u64().unwrap();
        (count("total_requests"), count("total_429s"))
    }
}

impl Drop for Mocklimit {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
