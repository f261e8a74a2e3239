//! Bad input, broken predictors and unwritable places: refused before the first call, with the line and the remedy, no
//! file left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::support::job::{Job, installed_into, python};

/// What the job is refused with; it calls nothing and leaves every file as it was.
#[track_caller]
fn refused(job: &Job) -> String {
    refused_with(
        job,
        &["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"],
    )
}

#[track_caller]
fn refused_with(job: &Job, arguments: &[&str]) -> String {
    let content = |job: &Job| -> Vec<_> {
        job.files().into_iter().map(|name| (fs::read(job.path(&name)).ok(), name)).collect()
    };
    let before = content(job);
    let done = job.run(arguments).expect(1);
    assert_eq!(done.stdout, "");
    assert!(job.calls().is_empty(), "{:?}", job.calls());
    assert!(content(job) == before, "files were changed or left: {:?}", job.files());
    // On some systems the temporary directory is a symbolic link.
    let directory = job.path("").canonicalize().unwrap();
    let text = done.stderr.replace(directory.to_str().unwrap(), "DIR");
    let text = text.replace(job.path("").to_str().unwrap().trim_end_matches('/'), "DIR");
    let text = text.replace(python().to_str().unwrap(), "PYTHON");
    // Python 3.13 underlines more of a traceback's calls than the versions before.
    let underlines = |line: &&str| line.contains('~') && line.trim_matches([' ', '~', '^']).is_empty();
    text.split_inclusive('\n').filter(|line| !underlines(&line.trim_end_matches('\n'))).collect()
}

/// What a CSV file is refused with.
#[track_caller]
fn csv(content: impl AsRef<[u8]>) -> String {
    refused(&Job::new().echo().file("questions.csv", content))
}

/// What a JSONL file is refused with.
#[track_caller]
fn jsonl(content: impl AsRef<[u8]>) -> String {
    let job = Job::new().echo().file("q.jsonl", content);
    refused_with(&job, &["process", "q.jsonl", "-o", "answers.csv", "--predictor", "predictor.py:predict"])
}

#[test]
fn a_number_that_json_does_not_have_is_named_with_its_line() {
    for token in ["NaN", "Infinity", "-Infinity"] {
        let text = jsonl(format!("{{\"question\": \"a\"}}\n\n{{\"question\": \"b\", \"score\": {token}}}\n"));
        let said = format!("line 3 is not valid JSON: `{token}` at byte 28\nhint: JSON has no such number");
        assert!(text.contains(&said), "{text}");
    }
}

/// What a predictor is refused with.
#[track_caller]
fn predictor(code: &str) -> String {
    refused(&Job::new().questions(3).predictor(code))
}

#[test]
fn an_uneven_row_is_named_by_its_line_also_after_windows_line_ends() {
    insta::assert_snapshot!(csv("id,question\r\n1,\"a\r\nb\"\r\n2,x,y\r\n3,z\r\n4\r\n"), @r"
    error: failed to read `questions.csv`: line 4 has 3 fields, the header has 2
      also line 6 has 1 field, the header has 2
    hint: quote the field that holds a delimiter
    ");
}

#[test]
fn an_unclosed_quote_is_named_where_it_opens() {
    insta::assert_snapshot!(csv("id,question\n1,a\n2,\"b\n3,c\n"), @r"
    error: failed to read `questions.csv`: line 3 opens a quote that is never closed
    hint: close the quote, or double it where it is part of the text
    ");
}

#[test]
fn text_after_a_closing_quote() {
    insta::assert_snapshot!(csv("question\n\"a\" b\n"), @r#"
    error: failed to read `questions.csv`: line 2 has text after a closing quote
    hint: double the quotes inside a quoted field: `"say ""hi"""`
    "#);
}

#[test]
fn a_nul_byte() {
    insta::assert_snapshot!(csv("question\na\nb\0c\n"), @r"
    error: failed to read `questions.csv`: line 3 holds a NUL byte
    hint: the file may be damaged or in another encoding: see `--encoding`
    ");
}

#[test]
fn bytes_that_are_not_utf_8() {
    insta::assert_snapshot!(csv(b"question\na\ncaf\xE9\n"), @r"
    error: failed to read `questions.csv`: line 3 is not valid UTF-8
    hint: name the encoding, such as `--encoding windows-1252`
    ");
}

#[test]
fn an_empty_file_but_not_a_header_alone() {
    insta::assert_snapshot!(csv(""), @r"
    error: failed to read `questions.csv`: it is empty: line 1 should be the header
    hint: check how the file was made
    ");
    let header = Job::new().echo().file("questions.csv", "id,question\n");
    header.process().expect(0).says("warning: no row is selected: the input has 0 rows");
}

#[test]
fn a_missing_column() {
    insta::assert_snapshot!(csv("id,Question \n1,a\n"), @r"
    error: failed to read `questions.csv`: line 1 has no column `question`, only `id`, `Question `
    hint: did you mean `--column 'Question '`?
    ");
    insta::assert_snapshot!(csv("id,prompt\n1,a\n"), @r"
    error: failed to read `questions.csv`: line 1 has no column `question`, only `id`, `prompt`
    hint: name the column of the question: `--column NAME`
    ");
}

#[test]
fn a_missing_column_in_a_file_of_another_delimiter() {
    insta::assert_snapshot!(csv("id;question\n1;a\n"), @r"
    error: failed to read `questions.csv`: line 1 has no column `question`, only `id;question`
    hint: the file looks `;`-separated: add `--delimiter ';'`
    ");
    insta::assert_snapshot!(csv("id\tquestion\n1\ta\n"), @r"
    error: failed to read `questions.csv`: line 1 has no column `question`, only `id\tquestion`
    hint: the file looks tab-separated: add `--delimiter $'\t'`
    ");
}

#[test]
fn a_file_in_utf_16() {
    let utf_16: Vec<u8> = "\u{feff}question\na\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    insta::assert_snapshot!(csv(utf_16), @r"
    error: failed to read `questions.csv`: line 1 is not valid UTF-8
    hint: the file looks like UTF-16: add `--encoding utf-16le`
    ");
}

#[test]
fn a_compressed_file() {
    let gzip = b"\x1F\x8B\x08\x00\x00\x00\x00\x00\x00\x03\x2B\x2C\x4D\x2D\x2E\xC9\xCC\xCF\xE3\x02\x00\x3B\x5C\x0E\x4E\x09";
    insta::assert_snapshot!(csv(gzip), @r"
    error: failed to read `questions.csv`: line 1 is not valid UTF-8
    hint: the file is gzipped: run `gunzip -c < 'questions.csv' > unpacked.csv` and read the result
    ");
}

#[test]
fn pretty_printed_json() {
    insta::assert_snapshot!(jsonl("{\n  \"question\": \"a\"\n}\n"), @r"
    error: failed to read `q.jsonl`: line 1 is torn: it ends within the JSON object
      also line 2 is not a JSON object but a string
      also line 3 is not valid JSON: expected value at byte 1
    hint: the file looks like pretty-printed JSON: run `jq -c . 'q.jsonl' > lines.jsonl` and read the result
    ");
    insta::assert_snapshot!(jsonl("[\n  {\"question\": \"a\"}\n]\n"), @r"
    error: failed to read `q.jsonl`: line 1 is not a JSON object but an array
      also line 3 is not valid JSON: expected value at byte 1
    hint: the file looks like a JSON array: run `jq -c '.[]' 'q.jsonl' > lines.jsonl` and read the result
    ");
}

#[test]
fn a_torn_last_line() {
    insta::assert_snapshot!(jsonl("{\"question\":\"a\"}\n{\"question\":\"b"), @r"
    error: failed to read `q.jsonl`: line 2 is torn: it ends within the JSON object
    hint: the file may be cut off: complete the line or delete it
    ");
}

#[test]
fn a_line_that_is_no_object_and_one_without_the_question() {
    insta::assert_snapshot!(jsonl("{\"question\":\"a\"}\n{\"id\":1}\n"), @r"
    error: failed to read `q.jsonl`: line 2 has no key `question`
    hint: add the key (`null` marks a row that is not to be asked)
    ");
    insta::assert_snapshot!(jsonl("{\"question\":\"a\"}\n[1]\n{\"id\":1}\nx\n"), @r"
    error: failed to read `q.jsonl`: line 2 is not a JSON object but an array
      also line 4 is not valid JSON: expected value at byte 1
    hint: write one JSON object a line
    ");
}

#[test]
fn a_faulty_file_is_refused_before_python_is_looked_for() {
    for content in [&b"question\na,b\n"[..], b"", b"question\n\xE9\n"] {
        let job = Job::new().echo().args(["--python", "/gone"]).file("questions.csv", content);
        let text = refused(&job);
        assert!(text.starts_with("error: failed to read `questions.csv`: "), "{text}");
    }
    let text = refused(&Job::new().echo().args(["--python", "/gone"]));
    assert!(text.starts_with("error: failed to read `questions.csv`: it cannot be read: "), "{text}");
}

#[test]
fn a_column_that_is_used_and_there_twice() {
    insta::assert_snapshot!(csv("question,x,question\na,b,c\n"), @r"
    error: failed to read `questions.csv`: line 1 has 2 columns named `question`
    hint: rename all but one of them
    ");
    let unused = Job::new().echo().file("questions.csv", "x,question,x\na,b,c\n");
    unused.process().expect(0);
}

#[test]
fn a_file_that_is_not_there_and_one_that_is_no_file() {
    insta::assert_snapshot!(refused(&Job::new().echo()), @r"
    error: failed to read `questions.csv`: it cannot be read: No such file or directory (os error 2)
    hint: check the path
    ");
    let directory = Job::new().echo();
    fs::create_dir(directory.path("questions.csv")).unwrap();
    insta::assert_snapshot!(refused(&directory), @r"
    error: failed to read `questions.csv`: it is a directory
    hint: give one file
    ");
}

#[test]
fn a_syntax_error_in_the_predictor() {
    insta::assert_snapshot!(predictor("async def predict(question:\n    return question"), @r#"
    error: failed to load the predictor `predictor.py:predict`: Python says:
      File "DIR/predictor.py", line 7
        async def predict(question:
                         ^
    SyntaxError: '(' was never closed
    "#);
}

#[test]
fn a_missing_import_in_the_predictor() {
    insta::assert_snapshot!(predictor("def load():\n    import no_such_library\nload()"), @r#"
    error: failed to load the predictor `predictor.py:predict`: Python says:
    Traceback (most recent call last):
      File "DIR/predictor.py", line 9, in <module>
        load()
      File "DIR/predictor.py", line 8, in load
        import no_such_library
    ModuleNotFoundError: No module named 'no_such_library'
    hint: install `no_such_library` for `PYTHON`, or choose another interpreter with `--python`; a module of your own is looked for in `DIR`
    "#);
}

#[test]
fn a_missing_name_in_the_predictor() {
    insta::assert_snapshot!(predictor("async def predikt(question):\n    return question"), @"error: failed to load the predictor `predictor.py:predict`: `predictor.py` has no `predict`; it has `called`, `predikt`");
    insta::assert_snapshot!(predictor("predict = 7"), @"error: failed to load the predictor `predictor.py:predict`: the predictor is a value of type int, which cannot be called");
}

#[test]
fn a_predictor_that_exits_while_it_is_imported() {
    insta::assert_snapshot!(predictor("import sys\nsys.exit('set it up first')"), @r#"
    error: failed to load the predictor `predictor.py:predict`: Python says:
    Traceback (most recent call last):
      File "DIR/predictor.py", line 8, in <module>
        sys.exit('set it up first')
    SystemExit: set it up first
    "#);
}

#[test]
fn a_class_that_cannot_be_made() {
    insta::assert_snapshot!(predictor("class predict:\n    def __init__(self, model):\n        pass"), @"error: failed to load the predictor `predictor.py:predict`: TypeError: predict.__init__() missing 1 required positional argument: 'model'");
    insta::assert_snapshot!(
        predictor("class predict:\n    def __init__(self):\n        self.key = {}['key']"),
        @r#"
    error: failed to load the predictor `predictor.py:predict`: Python says:
    Traceback (most recent call last):
      File "DIR/predictor.py", line 9, in __init__
        self.key = {}['key']
    KeyError: 'key'
    "#
    );
}

#[test]
fn a_predictor_file_or_package_that_is_not_there() {
    let job = Job::new().questions(1);
    insta::assert_snapshot!(refused(&job), @"error: failed to load the predictor `predictor.py:predict`: there is no file `predictor.py`");
    insta::assert_snapshot!(
        refused_with(&job, &["process", "questions.csv", "--predictor", "no_such_package:predict"]),
        @r"
    error: failed to load the predictor `no_such_package:predict`: ModuleNotFoundError: No module named 'no_such_package'
    hint: install `no_such_package` for `PYTHON`, or choose another interpreter with `--python`; a module of your own is looked for in `DIR`
    "
    );
    insta::assert_snapshot!(refused_with(&job, &["process", "questions.csv", "--predictor", "predict"]), @r"
    error: failed to load the predictor `predict`: `predict` names no predictor
    hint: give `path/to/file.py:name`, `package.module:name` or `dspy`
    ");
}

#[test]
fn a_model_whose_provider_nobody_knows() {
    let refused = |options: &[&str]| {
        let process = ["process", "questions.csv", "-o", "answers.csv"];
        refused_with(&Job::new().questions(3), &[&process[..], options].concat())
    };
    insta::assert_snapshot!(refused(&["--model", "foo/bar"]), @r"
    error: failed to load the predictor `dspy`: `foo/bar` names no provider that DSPy or LiteLLM knows
    hint: write `--model PROVIDER/NAME`, such as `openai/gpt-4o-mini`; for a server with OpenAI's interface `--model openai/foo/bar --api-base URL`
    ");
    insta::assert_snapshot!(refused(&["--model", "OpenAI/gpt-4o-mini"]), @r"
    error: failed to load the predictor `dspy`: `OpenAI/gpt-4o-mini` names no provider that DSPy or LiteLLM knows
    hint: did you mean `--model openai/gpt-4o-mini`?
    ");
    // What many servers of one's own are asked for.
    let own = ["--model", "meta-llama/Llama-3", "--api-base", "http://127.0.0.1:9/v1"];
    insta::assert_snapshot!(refused(&own), @r"
    error: failed to load the predictor `dspy`: `meta-llama/Llama-3` names no provider that DSPy or LiteLLM knows
    hint: for a server with OpenAI's interface write `--model openai/meta-llama/Llama-3`
    ");
}

#[test]
fn answers_that_would_replace_the_input() {
    let job = Job::new().questions(1).echo();
    insta::assert_snapshot!(
        refused_with(&job, &["process", "questions.csv", "-o", "./questions.csv", "--predictor", "predictor.py:predict"]),
        @r"
    error: `./questions.csv` would replace the input `questions.csv`
    hint: name another file with `--output`
    "
    );
}

#[test]
fn a_place_that_cannot_be_written() {
    let job = Job::new().questions(1).echo();
    let to = |answers| {
        refused_with(
            &job,
            &["process", "questions.csv", "-o", answers, "--predictor", "predictor.py:predict"],
        )
    };
    insta::assert_snapshot!(to("no/such/directory/answers.csv"), @"error: failed to write into `no/such/directory`: No such file or directory (os error 2)");
    fs::create_dir(job.path("answers.csv")).unwrap();
    insta::assert_snapshot!(to("answers.csv"), @r"
    error: `answers.csv` is a directory
    hint: name another file with `--output`
    ");
    // Not even root can write into a process's own directory.
    let text = to("/proc/self/answers.csv");
    assert!(text.starts_with("error: failed to write into `/proc/self`: "), "{text}");
}

#[test]
fn a_python_that_is_not_there_or_not_the_one_that_runs() {
    let job = Job::new().questions(1).echo().args(["--python", "./python"]);
    insta::assert_snapshot!(refused(&job), @r"
    error: failed to run `DIR/python`: No such file or directory (os error 2)
    hint: give the virtual environment's interpreter with `--python PATH`, or run `make setup`
    ");
    let job = job.file("python", "#!/bin/sh\necho /opt/python3.9\necho 3.9\n");
    fs::set_permissions(job.path("python"), fs::Permissions::from_mode(0o755)).unwrap();
    let text = refused(&job);
    if installed_into().is_some() {
        let reason =
            "error: failed to start Python with `/opt/python3.9`: this process already runs `PYTHON`\n";
        return assert!(text.starts_with(reason), "{text}");
    }
    assert!(
        text.starts_with("error: `/opt/python3.9` is Python 3.9, this program is linked to libpython 3."),
        "{text}"
    );
    assert!(text.contains("\nhint: make the virtual environment with Python 3."), "{text}");
}

#[test]
fn a_predictor_that_takes_nothing_and_a_generator() {
    insta::assert_snapshot!(predictor("async def predict():\n    return 'x'"), @r"
    error: failed to load the predictor `predictor.py:predict`: the predictor takes no argument: every row would be the same call
    hint: give it a parameter named after a column, such as `question`
    ");
    insta::assert_snapshot!(predictor("def predict(question):\n    yield 'x'"), @r"
    error: failed to load the predictor `predictor.py:predict`: the predictor is a generator
    hint: make it an `async def`; its chunks are joined
    ");
}
