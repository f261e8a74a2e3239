//! A 403 is about one row, as with a moderated prompt, or about all rows, as with a key that lacks rights.

use super::support::http::{Scripted, answer, reply};
use super::support::job::{Done, Job};

/// As a gateway's firewall refuses a prompt: with a page.
fn forbidden() -> String {
    let page = "<html><head><title>403 Forbidden</title></head><body>cloudflare</body></html>";
    reply("403", "Content-Type: text/html\r\n", page)
}

/// As `OpenRouter` refuses one.
fn moderated() -> String {
    let body = r#"{"error": {"message": "Your chosen model requires moderation and your input was flagged", "code": 403,
        "metadata": {"reasons": ["violence"], "flagged_input": "..."}}}"#;
    reply("403", "", body)
}

fn process(job: &Job, server: &Scripted, options: &[&str]) -> Done {
    let base = server.base_url();
    let process = ["process", "questions.csv", "-o", "answers.csv", "--model", "openai/gpt-4o-mini"];
    job.run(&[&process[..], &["--api-base", &base], options].concat())
}

/// All rows are answered but those.
fn only_failed(job: &Job, rows: &[usize]) {
    for (row, status) in job.column("status").iter().enumerate() {
        assert_eq!(status, if rows.contains(&row) { "failed" } else { "ok" }, "row {row}");
    }
}

#[test]
fn a_row_that_gets_a_403_among_answers_fails_alone_and_is_asked_once() {
    let server = Scripted::start(|question, _| if question == 30 { forbidden() } else { answer(question) });
    let job = Job::new().questions(100);
    process(&job, &server, &[]).expect(3);
    only_failed(&job, &[30]);
    assert!(job.column("error")[30].contains("403 Forbidden"), "{}", job.column("error")[30]);
    assert_eq!((server.asked().len(), server.times(30)), (100, 1));
}

#[test]
fn a_403_before_the_first_answer_waits_for_what_the_calls_beside_it_come_to() {
    let server = Scripted::start(|question, _| {
        if question == 0 {
            return forbidden();
        }
        // Later than the refusal.
        std::thread::sleep(std::time::Duration::from_millis(300));
        answer(question)
    });
    let job = Job::new().questions(40);
    process(&job, &server, &["-c", "8"]).expect(3);
    only_failed(&job, &[0]);
    assert_eq!(server.asked().len(), 40);
}

#[test]
fn a_moderated_first_row_fails_alone_also_one_at_a_time() {
    let server = Scripted::start(|question, _| if question == 0 { moderated() } else { answer(question) });
    let job = Job::new().questions(10);
    process(&job, &server, &["--sequential"]).expect(3);
    only_failed(&job, &[0]);
    assert_eq!(server.asked().len(), 10);
}

#[test]
fn a_403_for_all_stops_the_run_before_more_calls_than_may_be_in_flight() {
    for (options, most) in [(&["--sequential"][..], 1), (&["-c", "4"], 4)] {
        let server = Scripted::start(|_, _| forbidden());
        let job = Job::new().questions(100);
        process(&job, &server, options).expect(4).says("this error affects every row");
        assert_eq!(server.asked().len(), most);
        assert_eq!(job.column("status"), vec!["unfinished"; 100]);
        assert_eq!(job.report()["attempts"]["total"], most);
    }
}

#[test]
fn answers_of_earlier_sessions_count_and_many_403_in_a_row_stop_the_run_all_the_same() {
    let job = Job::new().questions(100);
    let before =
        Scripted::start(|question, _| if question < 10 { answer(question) } else { reply("401", "", "{}") });
    process(&job, &before, &["--sequential"]).expect(4);
    let server = Scripted::start(|_, _| forbidden());
    job.resume_with(&["--api-base", &server.base_url()]).expect(4).says("this error affects every row");
    let status = job.column("status");
    assert_eq!(status[..10], vec!["ok"; 10]);
    // The last of the twenty stays open with all behind it.
    assert_eq!(status[10..29], vec!["failed"; 19]);
    assert_eq!(status[29..], vec!["unfinished"; 71]);
    assert_eq!(server.asked().len(), 20);
}

/// `resume` asks rows that failed one after the other, however far they lay apart.
#[test]
fn rows_that_got_a_403_before_do_not_keep_a_resume_from_the_rows_behind_them() {
    let flagged_row = |row: usize| row % 2 == 1 && row < 60;
    let flagging = move |question| if flagged_row(question) { forbidden() } else { answer(question) };
    let refused = || reply("401", "", "{}");
    let before =
        Scripted::start(move |question, _| if question < 65 { flagging(question) } else { refused() });
    let job = Job::new().questions(70);
    process(&job, &before, &["-c", "1"]).expect(4);
    assert_eq!(job.report()["rows"]["failed"], 30);
    let server = Scripted::start(move |question, _| flagging(question));
    job.resume_with(&["--api-base", &server.base_url()]).expect(3);
    only_failed(&job, &(0..70).filter(|row| flagged_row(*row)).collect::<Vec<_>>());
    assert_eq!(server.asked().len(), 30 + 5);
}

#[test]
fn a_403_for_the_only_row_that_is_left_is_told_also_where_a_crash_had_that_row_in_flight() {
    let job = Job::new().questions(1).predictor(
        "class Forbidden(Exception):
             status = 403
         async def predict(question):
             if not os.path.exists('again'):
                 os.kill(os.getpid(), 9)
             raise Forbidden('no rights')"
            .replace("\n         ", "\n")
            .as_str(),
    );
    assert_eq!(job.process().code, -9);
    let job = job.file("again", "");
    job.resume().expect(4).says("this error affects every row: Forbidden: no rights");
    assert_eq!(job.column("status"), ["unfinished"]);
}
