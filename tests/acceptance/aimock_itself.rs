//! That the scripted server does what the other tests take for granted.

use super::support::aimock::{Aimock, Fixtures};
use super::support::http;
use serde_json::json;

/// Asks as DSPy's `ChatAdapter` does; returns the whole HTTP response.
fn ask(server: &Aimock, question: &str) -> String {
    let content = format!("[[ ## question ## ]]\n{question}\n\nRespond with the fields.");
    let body =
        json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": content}]}).to_string();
    http::send("POST", &format!("{}/chat/completions", server.base_url()), &body)
}

#[test]
fn each_of_2000_questions_gets_its_own_answer() {
    let server = Aimock::start(&Fixtures::numbered(2000));
    for i in [0, 1, 11, 111, 1999] {
        assert!(ask(&server, &format!("Question {i}?")).contains(&format!(r"\nAnswer {i}\n")));
    }
    assert_eq!(server.journal().len(), 5);
}

#[test]
fn a_failure_is_scripted_for_the_first_request_only() {
    let server = Aimock::start(&Fixtures::default().fail_once("Why?", 429, 3).answer("Why?", "Because."));
    let limited = ask(&server, "Why?").to_lowercase();
    assert!(limited.contains(" 429 ") && limited.contains("retry-after: 3"), "{limited}");
    assert!(ask(&server, "Why?").contains("Because."));
}

#[test]
fn chaos_fails_what_fixtures_would_answer() {
    let server = Aimock::start(&Fixtures::numbered(1));
    server.chaos(&json!({"rateLimitRate": 1.0}));
    let limited = ask(&server, "Question 0?").to_lowercase();
    assert!(limited.contains(" 429 ") && limited.contains("retry-after: "), "{limited}");
    server.chaos(&json!({"rateLimitRate": 0.0, "dropRate": 1.0}));
    assert!(ask(&server, "Question 0?").contains(" 500 "));
}
