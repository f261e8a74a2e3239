//! The recipes of `docs/schedulers.md`: they parse, they do with each exit code what the page says, and every command in
//! them is one that the program takes. The shell recipes really run, with programs of the scheduler that only note how
//! they were called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::support::job::{Job, python};

const SHARDS: usize = 16;

/// The fenced blocks of the page in one language, in order.
fn blocks(language: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schedulers.md");
    let page = fs::read_to_string(page).unwrap();
    let fenced = page.split("\n```").skip(1).step_by(2);
    let of = fenced.filter_map(|block| block.split_once('\n').filter(|(name, _)| *name == language));
    of.map(|(_, text)| format!("{text}\n")).collect()
}

/// The one shell recipe that has these words.
fn recipe(words: &str) -> String {
    let found: Vec<_> = blocks("bash").into_iter().filter(|block| block.contains(words)).collect();
    assert_eq!(found.len(), 1, "{words}");
    found.into_iter().next().unwrap()
}

/// A directory in which recipes run. Other programs than the shell's own note their words, and end with 0;
/// `tokio-asyncio-bridge` ends with `code`.
struct Machine(Job);

impl Machine {
    fn new(code: u8) -> Self {
        let machine = Self(Job::new());
        for name in ["tokio-asyncio-bridge", "scontrol", "ray", "sleep"] {
            let code = if name == "tokio-asyncio-bridge" { code } else { 0 };
            machine
                .program(name, &format!(r#"printf '%s\0' {name} "$@" >> words; echo >> words; exit {code}"#));
        }
        machine.program("srun", r#"exec "$@""#);
        machine
    }

    fn program(&self, name: &str, body: &str) {
        fs::create_dir_all(self.0.path("bin")).unwrap();
        let path = self.0.path("bin").join(name);
        fs::write(&path, format!("#!/bin/bash\n{body}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a recipe with arguments.
    fn run(&self, recipe: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let script = self.0.path("recipe.sh");
        fs::write(&script, recipe).unwrap();
        let path = format!("{}:{}", self.0.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.arg(script).args(arguments).env("PATH", path).envs(environment.iter().copied());
        command.current_dir(self.0.path("")).output().unwrap()
    }

    /// How a program was called, each time.
    fn called(&self, name: &str) -> Vec<Vec<String>> {
        let Ok(words) = fs::read_to_string(self.0.path("words")) else { return Vec::new() };
        let calls = words
            .split_terminator('\n')
            .map(|call| call.split_terminator('\0').map(str::to_owned).collect::<Vec<_>>());
        calls.filter(|call| call[0] == name).map(|call| call[1..].to_vec()).collect()
    }
}

/// Checks that the program takes these words.
fn taken(words: &[String]) {
    // Everything before it is parsed; then the help ends it.
    let words = [words, &["--help".to_owned()]].concat();
    let job = Job::new().env("SLURM_ARRAY_TASK_ID", "3");
    let done = job.run(&words).expect(0);
    assert!(done.stdout.contains(&format!(" {} ", words[0])), "{words:?}: {}", done.stdout);
}

/// The value of an option in a command, given as one word or two.
fn value<'a>(words: &'a [String], option: &str) -> &'a str {
    let at = words.iter().position(|word| word.split('=').next() == Some(option));
    let at = at.unwrap_or_else(|| panic!("no {option} in {words:?}"));
    words[at].split_once('=').map_or_else(|| &*words[at + 1], |(_, value)| value)
}

/// Checks that a shard has its share of each limit.
fn divided(words: &[String], shard: &str) {
    assert_eq!(value(words, "--shard"), shard);
    let limits = ["--rpm", "--tpm", "--max-cost"].map(|option| value(words, option));
    assert_eq!(limits, ["500", "125000", "2.5"], "8000, 2000000 and 40 for all {SHARDS}");
}

#[test]
fn every_shell_recipe_is_one_that_bash_can_read() {
    let recipes = blocks("bash");
    assert_eq!(recipes.len(), 4);
    for recipe in recipes {
        let file = Job::new().file("recipe.sh", &recipe);
        let read = Command::new("bash").arg("-n").arg(file.path("recipe.sh")).output().unwrap();
        assert!(read.status.success() && read.stderr.is_empty(), "{read:?}\n{recipe}");
    }
}

#[test]
fn a_slurm_task_that_may_be_finished_is_put_back_and_no_other() {
    let recipe = recipe("#SBATCH");
    assert!(recipe.contains(&format!("#SBATCH --array=0-{}\n", SHARDS - 1)) && recipe.contains("\nN=16\n"));
    let task = [("SLURM_ARRAY_JOB_ID", "77"), ("SLURM_ARRAY_TASK_ID", "3")];
    for (code, restarts, put_back) in
        [(0, "0", 0), (1, "0", 0), (3, "0", 0), (4, "0", 0), (5, "0", 1), (5, "9", 1), (5, "10", 0)]
    {
        let machine = Machine::new(code);
        let restarts = ("SLURM_RESTART_COUNT", restarts);
        let ended = machine.run(&recipe, &[], &[&task[..], &[restarts]].concat());
        assert_eq!(ended.status.code(), Some(code.into()), "{ended:?}");
        let again = machine.called("scontrol");
        assert_eq!(again, vec![vec!["requeue", "77_3"]; put_back], "exit code {code}, {restarts:?}");
        let [words] = &machine.called("tokio-asyncio-bridge")[..] else { panic!("not one call") };
        divided(words, "auto/16");
        taken(words);
    }
}

#[test]
fn a_shard_of_a_ray_job_repeats_what_may_be_finished() {
    let recipe = recipe("# shard.sh K N");
    for (code, calls) in [(0, 1), (3, 1), (4, 1), (5, 6)] {
        let machine = Machine::new(code);
        let ended = machine.run(&recipe, &["3", "16"], &[]);
        assert_eq!(ended.status.code(), Some(code.into()), "{ended:?}");
        let called = machine.called("tokio-asyncio-bridge");
        assert_eq!(called.len(), calls, "exit code {code}");
        divided(&called[0], "3/16");
        taken(&called[0]);
    }
}

#[test]
fn one_ray_job_is_submitted_for_each_shard() {
    let machine = Machine::new(0);
    machine.run(&recipe("ray job submit"), &[], &[]);
    let submitted = machine.called("ray");
    let shards: Vec<_> = submitted.iter().map(|words| words[words.len() - 4..].join(" ")).collect();
    let wanted: Vec<_> = (0..SHARDS).map(|k| format!("bash /shared/shard.sh {k} {SHARDS}")).collect();
    assert_eq!(shards, wanted);
}

#[test]
fn the_answers_of_all_shards_are_merged() {
    let machine = Machine::new(0);
    for k in 0..SHARDS {
        fs::write(machine.0.path(&format!("questions.answers.{k}-of-{SHARDS}.csv")), "").unwrap();
    }
    let jobs = of_yaml();
    let merges = jobs.iter().filter_map(|job| job.pointer("/spec/template/spec/containers/0/command/2"));
    let merges =
        merges.filter_map(Value::as_str).filter(|script| script.contains(" merge ")).map(str::to_owned);
    let merges: Vec<_> = [recipe(" merge ")].into_iter().chain(merges).collect();
    for merge in &merges {
        machine.run(merge, &[], &[]);
    }
    let called = machine.called("tokio-asyncio-bridge");
    assert_eq!(called.len(), merges.len());
    for words in called {
        assert_eq!((words.len(), &*words[0], &*words[1]), (2 + SHARDS + 2, "merge", "questions.csv"));
        taken(&words);
    }
}

/// The recipes in YAML.
fn of_yaml() -> Vec<Value> {
    let read =
        "import json, sys, yaml; print(json.dumps([yaml.safe_load(text) for text in json.load(sys.stdin)]))";
    let recipes = Job::new().file("recipes", json!(blocks("yaml")).to_string());
    let mut command = Command::new(python());
    command.args(["-c", read]).stdin(fs::File::open(recipes.path("recipes")).unwrap());
    let read = command.output().unwrap();
    let is_missing = String::from_utf8_lossy(&read.stderr).contains("ModuleNotFoundError");
    assert!(
        !is_missing,
        "`{} -m pip install --constraint constraints.txt PyYAML` is needed",
        python().display()
    );
    serde_json::from_slice(&read.stdout).unwrap_or_else(|error| panic!("{error}: {read:?}"))
}

#[test]
fn an_index_of_a_kubernetes_job_is_tried_again_after_5_and_fails_after_4() {
    let jobs = of_yaml();
    let job = jobs.iter().find(|job| job["metadata"]["name"] == "answers").unwrap();
    let spec = &job["spec"];
    assert_eq!((&spec["completionMode"], &spec["completions"]), (&json!("Indexed"), &json!(SHARDS)));
    assert!(spec["backoffLimitPerIndex"].as_u64() > Some(0) && spec["maxFailedIndexes"] == json!(SHARDS));
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    let container = &pod["containers"][0];
    let action = |code: u8| {
        let rules = spec["podFailurePolicy"]["rules"].as_array().unwrap().iter();
        let mut rules = rules.filter(|rule| {
            let exit = &rule["onExitCodes"];
            let values = exit["values"].as_array();
            assert!(
                values.is_none()
                    || (&exit["containerName"], &exit["operator"]) == (&container["name"], &json!("In"))
            );
            values.is_some_and(|values| values.contains(&json!(code)))
        });
        rules.next().map_or("Count", |rule| rule["action"].as_str().unwrap())
    };
    assert_eq!([1, 2, 3, 4].map(action), ["FailIndex"; 4]);
    assert_eq!([5, 130, 137, 143].map(action), ["Count"; 4]);
    let words = container["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned());
    let words: Vec<_> = words.collect();
    assert_eq!(words[0], "tokio-asyncio-bridge");
    divided(&words[1..], &format!("auto/{SHARDS}"));
    taken(&words[1..]);
}
