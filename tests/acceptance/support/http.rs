//! One HTTP exchange over a plain socket, for tests. No client library, no TLS.

use std::io::{Read, Write};
use std::net::TcpStream;

/// Sends a request to a URL on this host and returns the whole response, head and body.
pub(crate) fn send(method: &str, url: &str, body: &str) -> String {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    // HTTP/1.0 keeps the answer in one piece and ends it with the connection.
    let head = format!(
        "{method} /{path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}",
        body.len()
    );
    write!(stream, "{head}\r\n\r\n{body}").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}
