//! HTTP over plain sockets, for tests: a single exchange, and a server that answers what a script tells it to,
//! malformed or not.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

use serde_json::{Value, json};

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

/// A server of OpenAI's interface that answers each request with the bytes its script makes of it.
pub(crate) struct Scripted {
    address: String,
    asked: Arc<Mutex<Vec<usize>>>,
}

impl Scripted {
    /// The script is given the number in the `Question N?` that was asked, and how often it was asked before.
    pub(crate) fn start(script: impl Fn(usize, usize) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<usize>>>::default();
        let server = Self { address, asked: Arc::clone(&asked) };
        let script = Arc::new(script);
        // The thread ends with the process. A test starts only a few servers.
        spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
                spawn(move || {
                    let mut reader = BufReader::new(client.try_clone().unwrap());
                    while let Ok(Some((_, body))) = request(&mut reader) {
                        let question = body.rsplit_once("Question ").unwrap().1;
                        let question = question.split('?').next().unwrap().parse().unwrap();
                        let before = {
                            let mut asked = asked.lock().unwrap();
                            let before = asked.iter().filter(|earlier| **earlier == question).count();
                            asked.push(question);
                            before
                        };
                        let reply = script(question, before);
                        if (&client).write_all(reply.as_bytes()).is_err()
                            || reply.contains("Connection: close")
                        {
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

    /// The numbers of the questions asked so far, in order of arrival.
    pub(crate) fn asked(&self) -> Vec<usize> {
        self.asked.lock().unwrap().clone()
    }

    /// How often one question was asked.
    pub(crate) fn times(&self, question: usize) -> usize {
        self.asked().iter().filter(|asked| **asked == question).count()
    }
}

/// A reply that `dspy.ChainOfThought("question -> answer")` reads as `Answer N`.
pub(crate) fn answer(question: usize) -> String {
    let fields = format!("[[ ## reasoning ## ]]\nBy heart.\n\n[[ ## answer ## ]]\nAnswer {question}\n");
    completion(&json!({"role": "assistant", "content": fields}), "stop")
}

/// A chat completion of 5 tokens in and 2 out.
pub(crate) fn completion(message: &Value, finish_reason: &str) -> String {
    ok(&json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    })
    .to_string())
}

/// A reply with status 200.
pub(crate) fn ok(body: &str) -> String {
    reply("200", "", body)
}

/// The path and the body of the next request on a connection; `None` at the end of the connection.
pub(crate) fn request(reader: &mut BufReader<TcpStream>) -> Result<Option<(String, String)>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = head.split(' ').nth(1).unwrap().to_owned();
    Ok(Some((path, String::from_utf8(body).unwrap())))
}

/// A header field of a request or a reply.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

/// A reply; each of the header fields ends its line.
pub(crate) fn reply(status: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}
